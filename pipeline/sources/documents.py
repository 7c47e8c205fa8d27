"""Documents: what the stages between raw text and tokens hand to each other.

A cleaned folder holds `cleaned_*.jsonl` (one `Document` per line) or `cleaned_*.txt` (one per
line, newlines flattened). They are ours, so damage in them is an error, never skipped. Files of
rows that cleanup did not make are read as well; a bad row of these costs only itself.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pipeline.sources.formats.json_files import rows_of
from pipeline.sources.input_files import (
    ARCHIVE,
    ROWS,
    TEXTS,
    PassedOver,
    expand_inputs,
    kind_of,
)
from pipeline.sources.items import Item, as_input, is_plain_rows
from pipeline.sources.lines import (
    MAX_LINE,
    Damage,
    Line,
    check_listed,
    line_number,
    read_lines,
    read_lines_between,
    read_pieces,
)
from pipeline.sources.raw import read_items
from pipeline.sources.records import (
    RejectedError,
    convert,
    decode,
    document_id,
    text_of,
    untyped,
)
from utils.errors import HatcheryError, UsageError
from utils.files import printable_name


class Document(msgspec.Struct, frozen=True):
    """One text: a stable id (the split is made by its hash), a title, and the text itself."""

    id: str
    title: str
    text: str


_document = msgspec.json.Decoder(Document)


class NotCleanedError(HatcheryError):
    """A text that cleanup reads and the stages behind it do not, as one in another encoding."""

    def with_cleaning(
        self, given: Sequence[Path], name: str, again: Sequence[str]
    ) -> "NotCleanedError":
        """The same, with advice to clean all that was `given` as the corpus `name`, and then what
        was typed, as the command `again`."""
        clean = ("cleanup", "--input", *map(str, given), "--name", name)
        return NotCleanedError(
            self.problem,
            found=self.found,
            remedy="clean all of it first, which reads a text in its own encoding or leaves it "
            "out: {}, then {}",
            commands=[clean, tuple(again)],
        )


def cleaned_files(
    paths: Path | Sequence[Path], passed_over: PassedOver | None = None
) -> list[Path]:
    """Files with clean documents: of a folder its `cleaned_*`, or everything readable in one
    that cleanup did not make; never rejects or manifests. `passed_over` counts what else a folder
    of that kind holds.

    Raises:
        UsageError: there are none.
    """
    files: dict[Path, None] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        ours = sorted(p for s in ("jsonl", "txt") for p in path.glob(f"cleaned_*.{s}"))
        if not ours and not path.exists() and not glob.has_magic(str(path)):
            raise UsageError(
                f"There are no clean documents at {path}.",
                found="nothing of that name",
                remedy="make them: {}",
                commands=[("cleanup", "--input", "FILE_OR_FOLDER")],
            )
        found = ours or expand_inputs([path], passed_over)
        files |= dict.fromkeys(p for p in found if not p.name.startswith("rejected_"))
    if not files:
        raise UsageError(
            f"There are no clean documents at {paths}.",
            found="only rejected ones",
            remedy="make them: {}",
            commands=[("cleanup", "--input", "FILE_OR_FOLDER")],
        )
    return list(files)


def read_cleaned(path: Path, max_line: int = MAX_LINE, text_field: str = "") -> Iterator[Document]:
    """The documents of one file, as `read_documents` finds them; what is none is left out."""
    for document in read_documents(path, text_field, max_line=max_line):
        if isinstance(document, Document):
            yield document


def read_documents(
    path: Path,
    text_field: str = "",
    begin: int = 0,
    end: int | None = None,
    max_line: int = MAX_LINE,
) -> Iterator[Document | Damage]:
    """The documents of one file, in order, in bounded memory.

    A line of `cleaned_*.jsonl` is a `Document`, one of `cleaned_*.txt` a text. Any other .txt, .md
    or .py is read as it is, a long one in pieces of about 32 KiB; of rows of JSON or Parquet the
    text is taken where cleanup would find it, or from `text_field`, and a row without one is
    damage. With `end` only the lines of a plain file of rows that begin at its bytes [begin, end).

    Raises:
        DamagedFileError: the file differs from the manifest of its artefact; known at its end,
            and not where only a part is read.
        NotCleanedError: a text in another encoding, or of a form that is only cleaned.
        HatcheryError: a damaged line of a file that cleanup made; names the file and line.
    """
    kind, ours = kind_of(path), path.name.startswith("cleaned_")
    name = printable_name(path.name)
    if kind in TEXTS and not ours:
        for item in read_pieces(path):
            text, number = _decoded(path, item), _line(path, item).number
            text = text.removeprefix("\ufeff") if number == 1 else text
            yield Document(f"{name}#{number:05d}", printable_name(path.stem), text)
    elif ours and kind in (".jsonl", ".txt"):
        lines = (
            read_lines(path, max_line)
            if end is None
            else read_lines_between(path, begin, end, max_line)
        )
        for item in lines:
            line = _line(path, item)
            if kind == ".txt":
                text = _decoded(path, item)
                yield Document(f"{name}:{line.number}", text[:80], text)
            elif line.data:
                yield _parsed(path, line, is_part=end is not None)
    elif kind in (*ROWS, ARCHIVE):
        yield from _rows(path, text_field, begin, end, max_line)
    else:
        raise NotCleanedError(
            f"{path} does not hold documents.",
            found=f"a {path.suffix or 'file without a suffix'}, where .jsonl or .txt is read",
            remedy="clean it first: {}",
            commands=[("cleanup", "--input", str(path))],
        )


def may_be_shared(path: Path) -> bool:
    """Whether the lines of a file can be read from any byte on."""
    return kind_of(path) == ".jsonl" and is_plain_rows(as_input(path, path.name))


def _rows(
    path: Path, text_field: str, begin: int, end: int | None, max_line: int
) -> Iterator[Document | Damage]:
    source = as_input(path, printable_name(path.name), text_field)
    items = read_items(source, max_line)
    if end is not None:
        items = rows_of(read_lines_between(path, begin, end, max_line))
    for item in items:
        yield item if isinstance(item, Damage) else _of_row(path, item, text_field)


def _of_row(path: Path, item: Item, text_field: str) -> Document | Damage:
    """The document of a row, as it is where it has the fields of one."""
    content = item.content
    try:
        if isinstance(content, bytes) and not text_field:
            try:
                document = _document.decode(content)
                document.text.encode()  # JSON may hold lone surrogates, UTF-8 cannot
                return document
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass  # a row with other fields, or none; what it is stands below
        record = decode(content) if isinstance(content, bytes) else convert(content)
        found = text_of(
            record,
            lambda: untyped(content) if isinstance(content, bytes) else content,
            text_field or None,
        )
        if found.article:
            raise RejectedError("not_cleaned", "an article of an encyclopedia: clean it first")
        found.text.encode()
    except RejectedError as error:
        return Damage(error.reason, item.offset, error.detail)
    except UnicodeError as error:
        return Damage("not_utf8", item.offset, str(error))
    name = document_id(record, f"{printable_name(path.name)}:{item.offset}")
    return Document(name, record.title or record.name or "", found.text)


def _line(path: Path, item: Line | Damage) -> Line:
    if isinstance(item, Line):
        return item
    check_listed(path)
    raise HatcheryError(
        f"{path} is damaged at byte {item.offset}: {item.reason}.",
        found=item.detail,
        remedy="run cleanup with --force to write it again",
    )


def _decoded(path: Path, item: Line | Damage) -> str:
    line = _line(path, item)
    try:
        return line.data.decode()
    except UnicodeDecodeError as error:
        check_listed(path)
        raise NotCleanedError(
            f"{path}:{line.number} is not UTF-8.",
            found=f"byte {line.data[error.start]:#04x} at {line.offset + error.start}",
            remedy="save it as UTF-8, then clean it: {}",
            commands=[("cleanup", "--input", str(path))],
        ) from error


def _parsed(path: Path, line: Line, *, is_part: bool) -> Document:
    try:
        document = _document.decode(line.data)
        document.text.encode()  # JSON may hold lone surrogates, UTF-8 cannot
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        check_listed(path)
        number = line_number(path, line.offset) if is_part else line.number
        raise HatcheryError(
            f"{path}:{number} is not a clean document.",
            found=str(error),
            remedy="run cleanup with --force, or clean this file first: {}",
            commands=[("cleanup", "--input", str(path))],
        ) from error
    return document
