"""The files of tasks: which of those a user named holds a task, and the rows in it.

Rows are JSON lines, a JSON array or Parquet, each also packed by gzip; a file says by its first
bytes what it is. Nothing here knows what a row has to hold.
"""

import gzip
import io
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.evaluation.tasks.task import RowError, Task
from utils.errors import RefusedError, UsageError
from utils.files import home_path
from utils.units import human_bytes

MOST = 1 << 30
"""Bytes of a file at most, unpacked."""

Rows: TypeAlias = Iterator[tuple[str, Any]]
"""Every row with the place where it stands; in place of one that cannot be read a `RowError`."""

_FORMS = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz")
_NAMED = 6  # files that a refusal names


@dataclass(frozen=True)
class Sources:
    """What holds the data of tasks: `named` gives a file or folder for a task, `searched` are files
    that bear the name of one and folders with such files."""

    named: Mapping[str, Path]
    searched: Sequence[Path]

    @classmethod
    def of(cls, typed: Iterable[Path], known: Collection[str]) -> "Sources":
        """What was typed: FILE, FOLDER or TASK=FILE, the tasks being those `known`.

        Raises:
            UsageError: there is no such file or task, or a task is given two files.
        """
        named: dict[str, Path] = {}
        searched = []
        for path in typed:
            task, given, file = str(path).partition("=")
            if path.exists() or not given:
                searched.append(path)
                continue
            if task not in known:
                raise UsageError(
                    f"{path} names no task.",
                    found=f"known: {', '.join(known)}",
                    remedy="give files of other names as TASK=FILE, or FILE and FOLDER as they are",
                )
            if task in named:
                raise UsageError(
                    f"There are two files for {task}.",
                    found=f"{named[task]} and {file}",
                    remedy="give one of them",
                )
            named[task] = home_path(file)
        missing = [path for path in (*searched, *named.values()) if not path.exists()]
        if missing:
            raise UsageError(
                f"There is no {missing[0]}.",
                found="nothing of that name",
                remedy="give files or folders of tasks: --data FOLDER, or --data TASK=FILE",
            )
        return cls(named, searched)

    def find(self, task: Task) -> Path | None:
        """Where the data of `task` is; None where it is not.

        A folder holds it under the task's name, else under one of the names it is published with,
        there or in a folder of it.

        Raises:
            UsageError: there are several.
        """
        if task.name in self.named:
            return self.named[task.name]
        for name in _names(task):
            found = {
                path.resolve(): path
                for source in self.searched
                for path in _matching(source, [name])
            }
            if len(found) > 1:
                first = next(iter(found.values()))
                raise UsageError(
                    f"There are several files for {task.name}.",
                    found=_listed(found.values()),
                    remedy=f"say which one is meant as well: --data {task.name}={first}",
                )
            if found:
                return next(iter(found.values()))
        return None

    def refuse_unknown(self, tasks: Iterable[Task]) -> None:
        """Refuse what holds no task: a file whose name is no task's, a folder without such files.

        Raises:
            UsageError: there is one.
        """
        names = [name for task in tasks for name in _names(task)]
        for source in self.searched:
            if _matching(source, names):
                continue
            if source.is_file():
                raise UsageError(
                    f"{source} bears the name of no task.",
                    found=f"{source.name}, where for example {names[0]} is known",
                    remedy=f"say which one it is: --data TASK={source}",
                )
            raise UsageError(
                f"{source} holds no file of a task.",
                found=_listed(sorted(source.iterdir())) or "nothing",
                remedy="name a file after its task, as arc_easy.jsonl, or say which one it is: "
                "--data TASK=FILE",
            )


def _names(task: Task) -> list[str]:
    """Patterns of the names of a task's files, its own name first."""
    if task.of_own_text:
        return []
    own = [f"{task.name}.jsonl"] + [f"{task.name}.txt"] * (task.kind == "documents")
    return [*own, *task.files]


def _matching(source: Path, names: Iterable[str]) -> list[Path]:
    """The files that bear one of the names; .jsonl stands for every form of rows."""
    patterns = [
        name.removesuffix(".jsonl") + form
        for name in names
        for form in (_FORMS if name.endswith(".jsonl") else ("",))
    ]
    if source.is_file():
        return [source] if any(source.match(pattern) for pattern in patterns) else []
    for depth in ("", "*/"):
        found = {path for pattern in patterns for path in source.glob(depth + pattern)}
        files = sorted(path for path in found if path.is_file())
        if files:
            return files
    return []


def _listed(paths: Iterable[Path]) -> str:
    names = [str(path) for path in paths]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def read_rows(path: Path) -> Rows:
    """The rows of a file, or of all files of rows in a folder, in the order of their names.

    Raises:
        RefusedError: it is none of the forms, cut short, or too large.
        UsageError: a folder without any.
    """
    if not path.is_dir():
        yield from _file_rows(path, _content(path))
        return
    files = sorted(file for file in path.iterdir() if file.name.endswith(_FORMS))
    if not files:
        raise UsageError(
            f"{path} holds no rows.",
            found=_listed(sorted(path.iterdir())) or "no files",
            remedy="give a folder of JSON lines or Parquet",
        )
    for file in files:
        for place, row in _file_rows(file, _content(file)):
            yield f"{file.name}, {place}", row


def read_text(path: Path) -> str:
    """A whole file of text; a mark at its beginning is left out.

    Raises:
        RefusedError: it is no UTF-8, or too large.
    """
    return _text(path, _content(path))


def is_rows(path: Path) -> bool:
    """Whether a file or folder is read as rows, and not as one text."""
    return path.is_dir() or path.name.endswith(_FORMS)


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked. It is read once, so it may be a pipe."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(MOST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _not_whole(path, f"gzip: {error}") from error
    except OSError as error:
        raise _not_whole(path, error.strerror or str(error)) from error
    if len(data) > MOST:
        raise RefusedError(
            f"{path} is too large for a task.",
            found=f"more than {human_bytes(MOST)}",
            remedy="give a part of it",
        )
    return data


def _file_rows(path: Path, data: bytes) -> Rows:
    if data[:4] == b"PAR1":
        return _parquet(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        raise RefusedError(
            f"{path} is a table of text, which does not say what a field is.",
            found=f"{path.suffix}, where rows of JSON or Parquet are read",
            remedy="write it as JSON lines, one object a row",
        )
    text = _text(path, data)
    if text.lstrip()[:1] == "[":
        return _json_array(path, text)
    return _json_lines(text)


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(
            f"{path} is no UTF-8 text.",
            found=f"byte {error.start:,} is {data[error.start]:#04x}",
            remedy="give the file as it is published",
        ) from error


def _json_lines(text: str) -> Rows:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError):
                cut = "; the file ends here, cut short" if number == len(lines) else ""
                yield f"line {number}", RowError(f"no JSON{cut}")


def _json_array(path: Path, text: str) -> Rows:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_whole(path, f"no JSON array: {error}") from error
    for number, row in enumerate(found, 1):
        yield f"row {number}", row


def _parquet(path: Path) -> Rows:
    import pyarrow as pa  # 0.2 s to load, and few files are Parquet
    from pyarrow import parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _not_whole(path, f"after row {number:,}: {error}") from error


def _not_whole(path: Path, found: str) -> RefusedError:
    return RefusedError(
        f"{path} cannot be read to its end.",
        found=found.split("\n")[0][:300],
        remedy="fetch or copy it again: a score of what is left would be that of another set",
    )
