"""Documents: what the stages between raw text and tokens hand to each other.

A cleaned folder holds `cleaned_*.jsonl` (one `Document` per line) or `cleaned_*.txt` (one per
line, newlines flattened). They are ours, so damage in them is an error, never skipped.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pipeline.sources.input_files import TEXTS, expand_inputs, kind_of
from pipeline.sources.lines import MAX_LINE, Damage, Line, check_listed, read_lines, read_pieces
from utils.errors import HatcheryError, UsageError


class Document(msgspec.Struct, frozen=True):
    """One text: a stable id (the split is made by its hash), a title, and the text itself."""

    id: str
    title: str
    text: str


_document = msgspec.json.Decoder(Document)


def cleaned_files(paths: Path | Sequence[Path]) -> list[Path]:
    """Files with clean documents: of a folder its `cleaned_*`, or everything readable in one
    that cleanup did not make; never rejects or manifests.

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
                commands=[("cleanup",)],
            )
        found = ours or [p for p in expand_inputs([path]) if not p.name.startswith("rejected_")]
        files |= dict.fromkeys(found)
    if not files:
        raise UsageError(
            f"There are no clean documents at {paths}.",
            found="only rejected ones",
            remedy="make them: {}",
            commands=[("cleanup",)],
        )
    return list(files)


def read_cleaned(path: Path, max_line: int = MAX_LINE) -> Iterator[Document]:
    """The documents of one file, in order, in bounded memory.

    A .jsonl line is a `Document`, a line of `cleaned_*.txt` a text; any other .txt, .md or .py is
    read as it is, a long one in pieces of about 32 KiB.

    Raises:
        DamagedFileError: the file differs from the manifest of its artefact; known at its end.
        HatcheryError: a damaged line; names the file and line.
    """
    kind = kind_of(path)
    if kind in TEXTS and not path.name.startswith("cleaned_"):
        for item in read_pieces(path):
            text = _decoded(path, item)
            yield Document(f"{path.name}#{_line(path, item).number:05d}", path.stem, text)
    elif kind in (".jsonl", ".txt"):
        for item in read_lines(path, max_line):
            line = _line(path, item)
            if kind == ".txt":
                text = _decoded(path, item)
                yield Document(f"{path.name}:{line.number}", text[:80], text)
            elif line.data:
                yield _parsed(path, line)
    else:
        raise HatcheryError(
            f"{path} does not hold clean documents.",
            found=f"a {path.suffix or 'file without a suffix'}, where .jsonl or .txt is read",
            remedy="clean it first: {}",
            commands=[("cleanup", "--input", str(path))],
        )


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
        raise HatcheryError(
            f"{path}:{line.number} is not UTF-8.",
            found=f"byte {line.data[error.start]:#04x} at {line.offset + error.start}",
            remedy="clean it first: {}",
            commands=[("cleanup", "--input", str(path))],
        ) from error


def _parsed(path: Path, line: Line) -> Document:
    try:
        document = _document.decode(line.data)
        document.text.encode()  # JSON may hold lone surrogates, UTF-8 cannot
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        check_listed(path)
        raise HatcheryError(
            f"{path}:{line.number} is not a clean document.",
            found=str(error),
            remedy="run cleanup with --force, or clean this file first: {}",
            commands=[("cleanup", "--input", str(path))],
        ) from error
    return document
