"""Which encoding bytes are in, and the same bytes as UTF-8.

A byte order mark decides first, then NUL bytes at every other place (UTF-16, UTF-32), then whether
the bytes are UTF-8. Only what is none of these is compared with the code pages of before Unicode,
by chardet; of 46 texts in 20 languages and 25 encodings it found 45, charset-normalizer 43 and
faust-cchardet 39. Where the evidence is too thin the encoding is a `doubt`, and no byte is read.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Sequence
from io import BufferedReader
from typing import Any, NamedTuple, cast

from pipeline.sources.lines import HEAD

BINARY = "binary"
"""Stands for an encoding where the bytes are no text."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is its first half
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_SIGNATURES = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b\x08", "packed by gzip: its name should end in .gz"),
    (b"BZh9", "packed by bzip2"),
    (b"\xfd7zXZ\0", "packed by xz"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF89a", "a picture"),
    (b"\x7fELF", "a program"),
    (b"PAR1", "a Parquet file: its name should end in .parquet"),
    (b"SQLite format 3\0", "a database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document"),
)
# Code pages that texts are really found in; others look like them and are hardly ever meant.
_CODE_PAGES = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("iso8859-1", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9"),
    *("iso8859-13", "iso8859-15", "koi8-r", "koi8-u", "cp866", "cp850", "cp437", "cp852"),
    *("mac-roman", "mac-cyrillic", "cp932", "shift_jis_2004", "euc_jis_2004", "iso2022_jp_2"),
    *("gb18030", "big5hkscs", "cp949", "euc_kr", "johab", "tis-620", "cp874"),
)
# A later page that has all characters of the earlier one, and the quotes that programs put in.
_SUPERSETS = {"iso8859-1": "cp1252", "tis-620": "cp874", "euc_kr": "cp949", "iso8859-9": "cp1254"}
_SHOWN = re.compile(r"cp(125\d)$")
_CONTROLS = bytes({*range(9), *range(14, 27), *range(28, 32), 127})
_MOST_CONTROLS = 0.02  # of the bytes of a text
_FEW = 8  # control characters that any text may have
_LEAST_CONFIDENCE = 0.12  # of chardet; below it are most of its mistakes
_SHORT = 40  # bytes, of which chardet makes too much
_FAR_AHEAD = 3  # times the confidence of any other reading
_SAMPLE = 64 * 1024  # bytes shown to it
_LOOKED_AT = 8192  # characters
_MOST_ODD = 0.01  # of the characters: unassigned, private, or controls
_WIDE_ZEROS = 0.01  # of the code units: spaces, digits and ends of lines are in every script
_LEAST_WIDE = 16  # characters: of chance ones every second is East Asian
_NEARLY_ALL = 0.95
_EAST_ASIAN = re.compile("[\r\n\t -~\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef]")
# What Windows reads where a Mac wrote an apostrophe: a capital within a word.
_APOSTROPHE_OF_MAC = re.compile("[a-z]Õ[a-z]")
_LOPSIDED = 20  # times as many NULs at places of one parity as of the other


class Encoding(NamedTuple):
    """An encoding by the name of Python's codec, and the bytes of the mark that says so.

    Where there is a `doubt`, it says why the bytes cannot be read, and `name` is what they may be.
    """

    name: str = "utf-8"
    mark: int = 0
    doubt: str = ""

    @property
    def is_utf8(self) -> bool:
        return self.name == "utf-8"

    @property
    def is_wide(self) -> bool:
        """Whether a character takes two bytes or four, zeros among them."""
        return self.name.startswith(("utf-16", "utf-32"))

    @property
    def shown(self) -> str:
        """The name as other programs have it."""
        return _SHOWN.sub(r"windows-\1", self.name.replace("iso8859", "iso-8859"))


def encoding_of(head: bytes, *, whole: bool) -> Encoding:
    """The encoding of a text by its first bytes, which may be all there are."""
    found = marked_or_wide(head)
    if found is not None:
        return found
    if is_utf8(head, whole=whole) and not too_many_controls(head):
        escaped = b"\x1b$" in head and _japanese_by_escapes(head)
        return Encoding("iso2022_jp_2") if escaped else Encoding()
    if too_many_controls(head):
        return _east_asian(head) or Encoding(
            BINARY, doubt="it is no text: it holds many control characters"
        )
    good, bad = multibyte(head.decode("utf-8", "surrogateescape"))
    # A character cut at the end of the head is no more than three bytes.
    return Encoding() if good >= bad or (not whole and bad <= 3) else code_page(head)


def encoding_of_rows(head: bytes) -> Encoding:
    """The encoding of rows by the first bytes of their file. Where it cannot be told it counts as
    UTF-8, since each row that is not can be rejected by itself."""
    found = marked_or_wide(head)
    if found is None:
        found = encoding_of(head, whole=len(head) < HEAD)
        return Encoding() if found.doubt else found
    return found


def marked_or_wide(head: bytes) -> Encoding | None:
    """The encoding where a mark, a signature or the places of NULs tell it; else None."""
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return Encoding(BINARY, doubt=f"it is {what}")
    for mark, name in _MARKS:
        if head.startswith(mark) and (name != "utf-32-le" or _is_plausible(head, name)):
            found = Encoding(name, len(mark))
            if found.is_wide and not _is_plausible(head[len(mark) :], name):
                doubt = f"it begins with the mark of {name}, but is no text in it"
                return Encoding(name, doubt=doubt)
            return found
    return _wide(head) if b"\0" in head else None


def _wide(head: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark, by where its NULs are."""
    if len(head) >= 8 and not any(head[3::4]) and _is_plausible(head, "utf-32-le"):
        return Encoding("utf-32-le")
    if len(head) >= 8 and not any(head[0::4]) and _is_plausible(head, "utf-32-be"):
        return Encoding("utf-32-be")
    even, odd = head[0::2].count(0), head[1::2].count(0)
    name = "utf-16-le" if odd > even else "utf-16-be"
    enough = max(even, odd) >= max(2, _WIDE_ZEROS * len(head) / 2)
    if enough and max(even, odd) >= _LOPSIDED * min(even, odd) and _is_plausible(head, name):
        return Encoding(name)
    return None


def _east_asian(head: bytes) -> Encoding | None:
    """UTF-16 without a mark that has NULs at any place or at none: text of East Asia."""
    data = head[: len(head) // 2 * 2][: 2 * _LOOKED_AT]
    for name in ("utf-16-le", "utf-16-be"):
        text = data.decode(name, "replace")
        if len(text) >= _LEAST_WIDE and len(_EAST_ASIAN.findall(text)) >= _NEARLY_ALL * len(text):
            return Encoding(name)
    return None


def _is_plausible(data: bytes, name: str) -> bool:
    """Whether bytes are text in an encoding: hardly a character that no text has."""
    decoder = codecs.getincrementaldecoder(name)("replace")
    return is_text(decoder.decode(data[: 4 * _LOOKED_AT]))


def is_text(text: str) -> bool:
    """Whether hardly a character is unassigned, private, a control, broken or half a pair."""
    looked_at = text[:_LOOKED_AT]
    odd = sum(
        (unicodedata.category(c) in ("Cn", "Co", "Cc", "Cs") and c not in "\t\n\r\f\x1a\ufeff")
        or c == "\ufffd"
        for c in looked_at
    )
    return odd <= max(1, _MOST_ODD * len(looked_at))


def too_many_controls(data: bytes) -> bool:
    """Whether there are more control characters than a text has."""
    controls = len(data) - len(data.translate(None, _CONTROLS))
    return controls > max(_FEW, _MOST_CONTROLS * len(data))


def is_utf8(data: bytes, *, whole: bool) -> bool:
    """Whether bytes are UTF-8; what is not the whole may end within a character."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, whole)
    except UnicodeDecodeError:
        return False
    return True


def multibyte(text: str) -> tuple[int, int]:
    """Of a text decoded with "surrogateescape": how many bytes its characters beyond ASCII take
    more than one each, and how many bytes are no UTF-8."""
    bad = len(text) - len(text.encode("utf-32-le", "ignore")) // 4
    return len(text.encode("utf-8", "ignore")) - (len(text) - bad), bad


def code_page(sample: bytes) -> Encoding:
    """The code page of a text that is no UTF-8, or what is suspected and why it is not enough."""
    import chardet  # 50 ms, and few texts need it

    if too_many_controls(sample):
        return Encoding(BINARY, doubt="it is no text: it holds many control characters")
    sample = sample[:_SAMPLE]
    found = chardet.detect_all(
        sample,
        ignore_threshold=True,
        include_encodings=_CODE_PAGES,
        prefer_superset=False,
        compat_names=False,
    )
    pages = [(page["encoding"], page["confidence"]) for page in found if page["encoding"]]
    if not pages:
        return Encoding(BINARY, doubt="it is no text in any encoding known here")
    name = _refined(str(pages[0][0]), sample)
    shown = Encoding(name).shown
    sure = pages[0][1] >= _LEAST_CONFIDENCE and len(sample) >= _SHORT
    if not sure and not _are_alike(pages, sample):
        return Encoding(name, doubt=f"it may be {shown}, but there is too little to tell by")
    text = sample.decode(name, "surrogateescape")
    if not is_text(text):
        return Encoding(name, doubt=f"it may be {shown}, but some of it is no text in that")
    return Encoding(name)


def _are_alike(pages: Sequence[tuple[str | None, float]], sample: bytes) -> bool:
    """Whether the pages that a text may be in make the same of it, those far behind apart."""
    together: dict[str, float] = {}
    for page, confidence in pages:
        text = sample.decode(page or "", "surrogateescape")
        together[text] = together.get(text, 0.0) + confidence
    first, *others = together.values()
    return first >= _FAR_AHEAD * max(others, default=0.0)


def _refined(name: str, sample: bytes) -> str:
    """The page to decode with: a superset, and of two that look alike the likelier one."""
    if name == "cp1250":
        # Windows has the commonest letters of these languages where ISO 8859-2 has nothing.
        beyond = [byte for byte in sample if byte > 127]
        if len(beyond) >= 20 and min(beyond) >= 0xA0:
            return "iso8859-2"
    name = _SUPERSETS.get(name, name)
    if name == "cp1252":
        text = sample.decode(name, "replace")
        if len(_APOSTROPHE_OF_MAC.findall(text)) * 2 > text.count("Õ"):
            return "mac-roman"
    return name


def _japanese_by_escapes(head: bytes) -> bool:
    """Whether ASCII with escapes is ISO 2022, as Japanese mail was."""
    try:
        text = codecs.getincrementaldecoder("iso2022_jp_2")().decode(head)
    except UnicodeDecodeError:
        return False
    return not text.isascii() and is_text(text)


def as_utf8(handle: BufferedReader, encoding: Encoding) -> BufferedReader:
    """The bytes of an open file as UTF-8, without the mark; what the encoding does not have
    becomes bytes that are no UTF-8, in UTF-16 and UTF-32 U+FFFD. Closes the file with it."""
    handle.read(encoding.mark)
    if encoding.is_utf8:
        return handle
    return BufferedReader(cast(io.RawIOBase, _Transcoded(handle, encoding)), HEAD)


class _Transcoded(io.RawIOBase):
    """UTF-8 of a file in another encoding."""

    def __init__(self, handle: BufferedReader, encoding: Encoding) -> None:
        self._handle = handle
        errors = "replace" if encoding.is_wide else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding.name)(errors)
        self._held = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held and not self._ended:
            data = self._handle.read1(HEAD)
            self._ended = not data
            text = self._decoder.decode(data, self._ended)
            self._held = memoryview(text.encode("utf-8", "surrogateescape"))
        size = min(len(self._held), len(buffer))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size

    def close(self) -> None:
        self._handle.close()
        super().close()
