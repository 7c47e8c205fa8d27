"""Bytes of raw files, line by line or piece by piece, in flat memory whatever the file holds.

Lines end at b"\\n" only: text mode and splitlines() also split at characters that documents may
contain. Damage (a cut .gz, a line longer than memory should hold) is yielded, not raised: the
reader of raw files counts it and the reader of our own files refuses.
"""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

from pipeline.source_table import SOURCES
from utils.errors import HatcheryError
from utils.verification import DamagedFileError, check_file, open_checked

MAX_LINE = 64 * 1024 * 1024
PIECE = 32 * 1024
HEAD = 256 * 1024
"""First bytes of a file that tell what it holds."""
READ_ERRORS = (EOFError, OSError, zlib.error, tarfile.TarError)
"""What reading a file raises where its packing or its disk is broken."""
_OF_LINE = re.compile(r"^line \d+")
_NAMED_INPUTS = 20  # in a command; of more, their folders


class Line(NamedTuple):
    """A line without its end, or a piece of text; counted from 1, offset in uncompressed bytes."""

    number: int
    offset: int
    data: bytes


class Damage(NamedTuple):
    """Something unreadable: the rejection's name, where, and what was found."""

    reason: str
    offset: int
    detail: str


class CannotOpenError(HatcheryError):
    """A file cannot be opened: it went, or there is no right to read it."""


def open_raw(path: Path) -> BufferedReader:
    """The uncompressed bytes of a plain or .gz file, checked as `open_checked` does. `peek` shows
    as many of the first bytes as `HEAD` says, where there are so many.

    Raises:
        CannotOpenError: it went, or there is no right to read it.
    """
    try:
        handle = open_checked(path)
        if path.suffix.lower() in (".gz", ".tgz"):
            return unpacked(handle)
        return handle if isinstance(handle, BufferedReader) else buffered(handle)
    except OSError as error:
        raise CannotOpenError(f"{path} cannot be read: {error.strerror}.") from error


def buffered(handle: IO[bytes] | io.BufferedIOBase) -> BufferedReader:
    """An open file that can show its first bytes without giving them away."""
    return BufferedReader(cast(io.RawIOBase, handle), HEAD)


def unpacked(handle: IO[bytes]) -> BufferedReader:
    """The content of an open .gz file, which is closed with it."""
    return BufferedReader(_Unpacked(handle), HEAD)


class _Unpacked(io.RawIOBase):
    """What a .gz file holds; where it is cut, every byte before the cut comes before the error."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._packed = handle
        self._content = gzip.GzipFile(fileobj=cast(BinaryIO, handle), mode="rb")
        self._error: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._error is not None:
            raise self._error
        view, filled = memoryview(buffer), 0
        while filled < len(view):
            try:
                data = self._content.read1(len(view) - filled)
            except READ_ERRORS as error:
                self._error = error
                if filled:
                    break
                raise
            if not data:
                break
            view[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def close(self) -> None:
        self._content.close()
        self._packed.close()
        super().close()


def read_lines(path: Path, max_line: int = MAX_LINE) -> Iterator[Line | Damage]:
    """Every line of a plain or .gz file; one over `max_line` bytes is passed over as damage."""
    with open_raw(path) as handle:
        yield from lines_of(handle, path, max_line)


def lines_of(
    handle: BufferedReader, path: Path, max_line: int = MAX_LINE, number: int = 0, offset: int = 0
) -> Iterator[Line | Damage]:
    """The same of an open file, which is part of the file `path`, behind `number` lines of
    `offset` bytes."""
    try:
        while data := handle.readline(max_line + 1):
            number += 1
            size = len(data)
            if size > max_line:
                while not data.endswith(b"\n") and (data := handle.readline(1 << 20)):
                    size += len(data)
                yield Damage("too_long_line", offset, f"line {number} has {size} bytes")
            else:
                yield Line(number, offset, data.rstrip(b"\r\n"))
            offset += size
    except DamagedFileError as error:
        raise with_command(error) from None
    except READ_ERRORS as error:
        yield broken(path, offset, error)


def read_lines_between(
    path: Path, begin: int, end: int, max_line: int = MAX_LINE
) -> Iterator[Line | Damage]:
    """The lines of a plain file that begin at one of its bytes [begin, end), counted from there.

    Nobody compares the file with the manifest of its artefact here: see `check_listed`.
    """
    try:
        with buffered(path.open("rb", buffering=0)) as handle:
            if begin:
                handle.seek(begin - 1)
                while (data := handle.readline(HEAD)) and not data.endswith(b"\n"):
                    pass
            for item in lines_of(handle, path, max_line, offset=handle.tell()):
                if item.offset >= end:
                    return
                if isinstance(item, Damage):
                    number = line_number(path, item.offset)
                    item = item._replace(detail=_OF_LINE.sub(f"line {number}", item.detail))
                yield item
    except OSError as error:
        raise CannotOpenError(f"{path} cannot be read: {error.strerror}.") from error


def line_number(path: Path, offset: int) -> int:
    """The number of the line of a plain file that begins at byte `offset`."""
    number = 1
    with path.open("rb") as handle:
        while offset > 0 and (data := handle.read(min(offset, 1 << 20))):
            number += data.count(b"\n")
            offset -= len(data)
    return number


def read_pieces(path: Path, size: int = PIECE, *, titled: bool = False) -> Iterator[Line | Damage]:
    """A long text cut into pieces of about `size` bytes, for flat memory and a fair split.

    Cut at a blank line, else at a line end, else between two characters once a piece has twice
    the size. With `titled` (WikiText) a piece begins at each ` = Title = ` line instead, and is
    cut by size only when an article exceeds 32 sizes.
    """
    with open_raw(path) as handle:
        yield from pieces_of(handle, path, size, titled=titled)


def pieces_of(
    handle: BufferedReader, path: Path, size: int = PIECE, *, titled: bool = False
) -> Iterator[Line | Damage]:
    """The same of an open file, which is part of the file `path`."""
    limit = size * 32 if titled else size
    number, offset = 0, 0
    held: list[bytes] = []
    held_size = 0
    try:
        while line := handle.readline(limit):
            starts = titled and is_wikitext_title(line) and any(map(bytes.strip, held))
            blank_after = bool(held) and not held[-1].strip()
            full = held_size >= limit and (blank_after or held_size + len(line) > 2 * limit)
            if held and (starts or full):
                piece, held = cut_at_character(held)
                number += 1
                yield Line(number, offset, piece)
                offset += len(piece)
                held_size -= len(piece)
            held.append(line)
            held_size += len(line)
    except DamagedFileError as error:
        raise with_command(error) from None
    except READ_ERRORS as error:
        yield broken(path, offset, error)
    if held:
        yield Line(number + 1, offset, b"".join(held))


def is_wikitext_title(line: bytes) -> bool:
    """Whether `line` opens a WikiText article: ` = Title = `, but not ` = = Section = = `."""
    text = line.strip()
    return (
        line.startswith(b" = ")
        and text.endswith(b" =")
        and not text.startswith(b"= =")
        and len(text) > 4
    )


def cut_at_character(held: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The held lines as one piece; the bytes of a character cut in two are given back."""
    piece = b"".join(held)
    for back in range(1, 4):
        lead = piece[-back] if len(piece) >= back else 0
        if lead >= 0xC0:  # first byte of a character of 2 to 4 bytes
            complete = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return (piece, []) if back >= complete else (piece[:-back], [piece[-back:]])
        if lead < 0x80:
            break
    return piece, []


def check_listed(path: Path) -> None:
    """Compare a file with the manifest of its artefact, for readers that jump or stop early;
    `read_lines` and `read_pieces` do so at the end of the file.

    Raises:
        DamagedFileError: they differ; names the command that makes the file again.
    """
    try:
        check_file(path)
    except DamagedFileError as error:
        raise with_command(error) from None


def with_command(error: DamagedFileError) -> DamagedFileError:
    """The same error with the command that makes the file again, where a stage of ours made it."""
    made = error.manifest.made_by
    if made.command == "cleanup":
        given = [i.path for i in error.manifest.inputs]
        command = ["cleanup", "--force", "--output", str(error.path.parent)]
        for name in ("source", "format", "min_words", "text_field"):
            if name in made.options:
                command += [f"--{name.replace('_', '-')}", str(made.options[name])]
        command += ["--test"] * bool(made.options.get("test"))
        embedded = {source.name for source in SOURCES if source.embedded}
        if made.options.get("source") not in embedded:
            folders = {str(Path(path).parent): None for path in given}
            command += ["--input", *(given if len(given) <= _NAMED_INPUTS else folders)]
    elif made.command == "download":
        command = ["download", str(made.options["name"]), "--force"]
    else:
        return error
    return DamagedFileError(
        error.path,
        error.manifest,
        error.expected,
        error.read,
        "make it again: {}; if you changed it on purpose, copy it to a folder of its own and "
        "give that with --input",
        [tuple(command)],
    )


def broken(path: Path, offset: int, error: Exception) -> Damage:
    """What to say of a file that cannot be read behind `offset`."""
    check_listed(path)
    if path.suffix.lower() in (".gz", ".tgz"):
        return Damage("truncated_gzip", offset, f"the compressed data ends or breaks: {error}")
    return Damage("unreadable", offset, str(error))
