"""Texts and programs: their encoding, the marks between their documents, and how they are cut.

A text is looked at once from end to end before a byte of it is given out, so that a file is read
in one encoding or refused whole.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from pipeline.sources.document_marks import (
    MarkCounter,
    Marks,
    count_marks,
    marked_documents,
)
from pipeline.sources.encodings import (
    BINARY,
    Encoding,
    as_utf8,
    code_page,
    encoding_of,
    marked_or_wide,
    multibyte,
    too_many_controls,
)
from pipeline.sources.formats.wikiextractor import articles, opens_article
from pipeline.sources.input_files import WIKI, is_packed, kind_of
from pipeline.sources.items import Input, Item, ReadingNotes
from pipeline.sources.lines import (
    HEAD,
    PIECE,
    READ_ERRORS,
    Damage,
    Line,
    is_wikitext_title,
    lines_of,
    open_raw,
    pieces_of,
    with_command,
)
from utils.verification import DamagedFileError

UNKNOWN = "unknown_encoding"
"""The rejection of a text whose encoding cannot be told or does not hold to its end."""
_WHOLE = 1 << 20
"""Bytes of a program or Markdown text that is not cut."""
_SAMPLE = 64 * 1024  # bytes of lines that are no UTF-8, to tell a code page by
_MOST_NULS = 0.001  # of the bytes of a text
_FEW_NULS = 8
_MOST_REPLACED = 0.001  # of the characters of UTF-16: half characters, as in file names
_ASCII_RUN = re.compile(rb"[\t\n\r -~]{64}")
_NOT_MEANT = ("undefined", "idna", "punycode", "unicode_escape", "raw_unicode_escape")
_DECLARED = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)  # PEP 263


class Examined(NamedTuple):
    """What a look at a whole text shows."""

    encoding: Encoding
    marks: Marks


def items(source: Input, max_line: int, notes: ReadingNotes) -> Iterator[Item | Damage]:
    """A short text or program whole, a long text in pieces, WikiText by article, and a text with
    marks by document."""
    examined = examine(source.path, code=source.form == "code")
    encoding = examined.encoding
    if encoding.doubt:
        if encoding.name == BINARY:
            yield Damage(BINARY, 0, encoding.doubt)
        else:
            yield Damage(UNKNOWN, 0, f"{encoding.doubt}; save it as UTF-8 to have it read")
        return
    notes.decoded(encoding.shown, source.name)
    with open_raw(source.path) as raw, closing(as_utf8(raw, encoding)) as handle:
        first = _head(handle)
        if source.form != "code" and first and opens_article(first[0]):
            yield from articles(lines_of(handle, source.path, max_line), max_line)
        elif source.form == "text" and kind_of(source.path) == ".txt" and _is_marked(examined):
            yield from _marked(handle, source, examined.marks, notes)
        else:
            noted = examined.marks.seen and source.form != "code"  # where they are strings
            yield from _pieces(handle, source, first, notes if noted else None)


def _is_marked(examined: Examined) -> bool:
    return examined.marks.alone or examined.marks.closing


def _marked(
    handle: BufferedReader, source: Input, marks: Marks, notes: ReadingNotes
) -> Iterator[Item | Damage]:
    """The documents of a text with marks."""
    for found in marked_documents(handle, source.path, marks):
        if isinstance(found, Damage):
            yield found
            continue
        notes.cut_at(found.mark)
        notes.literal_marks(count_marks(found.line.data))
        line = found.line
        name = f"{source.name}#{line.number:05d}"
        yield Item(line.offset, line.number, line.data, False, name, source.name)


def _pieces(
    handle: BufferedReader, source: Input, first: list[bytes], notes: ReadingNotes | None
) -> Iterator[Item | Damage]:
    """A text whole or in pieces; `notes` take the marks in it."""
    titled = source.form != "code" and any(is_wikitext_title(line) for line in first[:3])
    pieced = titled or kind_of(source.path) in (".txt", WIKI)
    size = PIECE if pieced else _WHOLE
    for item, last in _with_last(pieces_of(handle, source.path, size, titled=titled)):
        if isinstance(item, Damage):
            yield item
            continue
        if notes is not None:
            notes.literal_marks(count_marks(item.data))
        single = item.number == 1 and (not pieced or (last and not is_packed(source.path)))
        name = source.name if single else f"{source.name}#{item.number:05d}"
        heading = item.data.lstrip().split(b"\n", 1)[0] if titled else b""
        title = heading.strip(b"= \r").decode(errors="replace") or source.name
        yield Item(item.offset, item.number, item.data, False, name, title)


def _with_last(found: Iterable[Line | Damage]) -> Iterator[tuple[Line | Damage, bool]]:
    """Each of `found`, and whether it is the last."""
    held: Line | Damage | None = None
    for item in found:
        if held is not None:
            yield held, False
        held = item
    if held is not None:
        yield held, True


def _head(handle: BufferedReader) -> list[bytes]:
    """The first three lines, as far as they can be read."""
    try:
        return [line.rstrip(b"\r") for line in handle.peek()[: 3 * PIECE].split(b"\n")[:3]]
    except READ_ERRORS:
        return []


def examine(path: Path, *, code: bool = False) -> Examined:
    """Look at a whole text: its encoding, which must hold to the end, and the marks in it.

    Raises:
        CannotOpenError: it went, or there is no right to read it.
        DamagedFileError: it differs from the manifest of its artefact.
    """
    try:
        with open_raw(path) as handle:
            head = handle.peek()
            found = marked_or_wide(head)
            if found is None:
                return _scan(handle, path, code=code)
        return _verified(path, found)
    except DamagedFileError as error:
        raise with_command(error) from None
    except READ_ERRORS:  # which is said when the text is read
        return Examined(Encoding(), Marks())


def _scan(handle: BufferedReader, path: Path, *, code: bool) -> Examined:
    """A text without a mark of its encoding: UTF-8 to its end, or a code page."""
    head = handle.peek()
    by_head = (
        encoding_of(head, whole=False) if b"\x1b$" in head or too_many_controls(head) else None
    )
    if by_head is not None and (by_head.doubt or not by_head.is_utf8):
        return _verified(path, by_head)
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    counter, sample = MarkCounter(), bytearray()
    total = nuls = good = bad = 0
    before = b""
    for chunk, last in _chunks(handle):
        total += len(chunk)
        nuls += chunk.count(0)
        counter.feed(chunk)
        text = decoder.decode(chunk, last)
        try:
            good += len(text.encode()) - len(text)
        except UnicodeEncodeError:
            more, worse = multibyte(text)
            good, bad = good + more, bad + worse
            if len(sample) < _SAMPLE:
                lines = (chunk or before).split(b"\n")  # the end may only begin a character
                sample += b"\n".join(line for line in lines if not line.isascii())
        before = chunk
    if nuls > max(_FEW_NULS, _MOST_NULS * total):
        doubt = f"{nuls:,} of its {total:,} bytes are NUL: part of it is UTF-16, or it is no text"
        return Examined(Encoding(BINARY, doubt=doubt), Marks())
    if good >= bad:
        return Examined(Encoding(), counter.marks())
    declared = _DECLARED.search(b"\n".join(head.split(b"\n", 2)[:2])) if code else None
    if declared and _is_known(declared[1].decode()):
        return _verified(path, Encoding(declared[1].decode()))
    return _verified(path, code_page(bytes(sample)))


def _chunks(handle: BufferedReader) -> Iterator[tuple[bytes, bool]]:
    """The bytes of an open file, and at last none with True; a broken one ends where it breaks."""
    try:
        while chunk := handle.read1(HEAD):
            yield chunk, False
    except READ_ERRORS:
        pass
    yield b"", True


def _is_known(name: str) -> bool:
    """Whether there is a codec of that name which decodes texts as they come."""
    try:
        codec = codecs.lookup(name)
        codecs.getincrementaldecoder(name)
    except LookupError:
        return False
    return codec._is_text_encoding and codec.name not in _NOT_MEANT


def _verified(path: Path, encoding: Encoding) -> Examined:
    """Whether an encoding holds to the end of a file; if not, with a doubt."""
    if encoding.doubt:
        return Examined(encoding, Marks())
    errors = "replace" if encoding.is_wide else "strict"
    decoder, counter = codecs.getincrementaldecoder(encoding.name)(errors), MarkCounter()
    characters = replaced = at = 0
    with open_raw(path) as handle:
        handle.read(encoding.mark)
        for chunk, last in _chunks(handle):
            try:
                text = decoder.decode(chunk, last)
            except UnicodeDecodeError as error:
                where = f"byte {error.object[error.start]:#04x} near {at + error.start}"
                doubt = f"it looks like {encoding.shown}, but {where} is not in that"
                return Examined(Encoding(encoding.name, doubt=doubt), Marks())
            at += len(chunk)
            counter.feed(text.encode("utf-8", "replace"))
            if encoding.is_wide and _ASCII_RUN.search(chunk):
                doubt = f"it begins as {encoding.shown} and goes on as something else"
                return Examined(Encoding(encoding.name, doubt=doubt), Marks())
            characters += len(text)
            replaced += text.count("\ufffd")
    if encoding.is_wide and replaced > max(2, _MOST_REPLACED * characters):
        doubt = f"it looks like {encoding.shown}, but {replaced:,} characters are broken"
        return Examined(Encoding(encoding.name, doubt=doubt), Marks())
    return Examined(encoding, counter.marks())
