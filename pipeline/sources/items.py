"""What the reading of raw files takes and gives: inputs, items to clean, and what was noticed."""

from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from pipeline.sources.encodings import encoding_of_rows
from pipeline.sources.input_files import (
    ARCHIVE,
    WIKI,
    PassedOver,
    is_packed,
    kind_of,
    merge_passed_over,
)
from pipeline.sources.lines import READ_ERRORS, CannotOpenError, open_raw
from utils.artefacts import fingerprint
from utils.verification import DamagedFileError

Form: TypeAlias = Literal["rows", "json", "parquet", "archive", "text", "code", "topics"]

_FORMS: dict[str, Form] = {
    ".jsonl": "rows",
    ".json": "json",
    ".parquet": "parquet",
    ".py": "code",
    ARCHIVE: "archive",
}
_NAMED = 100  # files of an encoding
_HEAD = 4096  # bytes that tell the forms of a file of WikiExtractor apart


class Input(msgspec.Struct, frozen=True):
    """A raw file, the name its documents are known by, and how it is read; `text_field` is the
    field of a row that the user named as its text.

    `state` is its size and times when it was found; `fingerprint`, where it is known, what
    identified its content a moment later.
    """

    path: Path
    name: str
    form: Form
    bytes: int
    text_field: str = ""
    state: tuple[int, ...] = ()
    fingerprint: str = ""

    @property
    def has_changed(self) -> bool:
        """Whether the file is another one than it was when its fingerprint was taken."""
        if not self.fingerprint:
            return False
        try:
            return _state(self.path) != self.state and fingerprint(self.path) != self.fingerprint
        except OSError:
            return True


class Item(NamedTuple):
    """Something to clean: a JSON line, a row of Python values, or a text with id and title.

    `offset` counts bytes of the uncompressed file, in Parquet rows; `number` counts from 1.
    """

    offset: int
    number: int
    content: bytes | dict[str, Any]
    is_row: bool
    id: str = ""
    title: str = ""


class DecodedFiles(msgspec.Struct):
    """How many files were in an encoding that is not UTF-8, and the first of their names."""

    files: int = 0
    names: list[str] = []


class ReadingNotes(msgspec.Struct):
    """What is noticed while files are read: members of archives that were passed over, files by
    encoding where it is not UTF-8, documents by the mark that divides them, and marks that stand
    within texts."""

    files_passed_over: PassedOver = {}
    decoded_files: dict[str, DecodedFiles] = {}
    cut_documents: dict[str, int] = {}
    marks_in_text: dict[str, int] = {}

    def decoded(self, encoding: str, name: str) -> None:
        """Note the encoding of a file."""
        if encoding != "utf-8":
            self._add_decoded(encoding, DecodedFiles(1, [name]))

    def _add_decoded(self, encoding: str, more: DecodedFiles) -> None:
        found = self.decoded_files.setdefault(encoding, DecodedFiles())
        found.files += more.files
        found.names = sorted({*found.names, *more.names})[:_NAMED]

    def cut_at(self, mark: str, documents: int = 1) -> None:
        """Note documents that a mark divides from others."""
        self.cut_documents[mark] = self.cut_documents.get(mark, 0) + documents

    def literal_marks(self, counts: dict[str, int]) -> None:
        """Note marks that stand within a text and stay there."""
        for mark, number in counts.items():
            self.marks_in_text[mark] = self.marks_in_text.get(mark, 0) + number

    def add(self, other: "ReadingNotes") -> None:
        merge_passed_over(self.files_passed_over, other.files_passed_over)
        for encoding, more in other.decoded_files.items():
            self._add_decoded(encoding, more)
        for mark, documents in other.cut_documents.items():
            self.cut_at(mark, documents)
        self.literal_marks(other.marks_in_text)


def as_input(path: Path, name: str, text_field: str = "") -> Input:
    """How a file is read by its suffix; one that cannot be looked at counts as empty."""
    kind = kind_of(path)
    form = _FORMS.get(kind, "text")
    if kind == WIKI and _begins_with_object(path):
        form = "rows"
    try:
        state = _state(path)
    except OSError:
        state = (0,)
    return Input(path, name, form, state[0], text_field, state)


def _state(path: Path) -> tuple[int, ...]:
    """The size of a file, and when its content and its entry were last changed, in ns."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _begins_with_object(path: Path) -> bool:
    try:
        with open_raw(path) as handle:
            return handle.read(_HEAD).lstrip()[:1] == b"{"
    except (CannotOpenError, DamagedFileError, *READ_ERRORS):
        return False


def is_plain_rows(source: Input) -> bool:
    """Whether a file holds one row per line as it is, so that a reader may jump in it."""
    if source.form != "rows" or is_packed(source.path):
        return False
    try:
        with open_raw(source.path) as handle:
            return encoding_of_rows(handle.peek()).is_utf8
    except (CannotOpenError, DamagedFileError, *READ_ERRORS):
        return True  # what is wrong is said when it is read
