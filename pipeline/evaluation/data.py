"""The data of tasks: rows of local files become items, whole or not at all.

A file that is cut short, or one row of which is none of the task's, is refused with the line and
the reason: the score of what is left would be that of another set.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.evaluation.embedded import embedded_set
from pipeline.evaluation.tasks.task import DocumentTask, Item, RowError, Task
from pipeline.evaluation.tasks.wikitext import pages
from utils.errors import RefusedError, UsageError

_SHOWN = 4  # bad rows that a refusal names

Origin = Literal["local", "hub", "embedded"]


@dataclass(frozen=True)
class TaskData:
    """The items of a task, in the order of their file.

    `keys` tell them apart, with a number behind those that stand there more than once. `origin` and
    `where` say where they come from, `fingerprint` what they are.
    """

    task: Task
    items: tuple[Item, ...]
    keys: tuple[str, ...]
    origin: Origin
    where: str
    fingerprint: str

    @property
    def repeated(self) -> int:
        """Items that stood there before."""
        return sum("." in key for key in self.keys)

    def sample(self, most: int | None) -> "TaskData":
        """The `most` items with the smallest hashes, in order: a larger sample holds it whole."""
        if most is None or most >= len(self.items):
            return self
        ranked = sorted(range(len(self.keys)), key=lambda n: _rank(self.keys[n]))
        kept = sorted(ranked[:most])
        return TaskData(
            self.task,
            tuple(self.items[n] for n in kept),
            tuple(self.keys[n] for n in kept),
            self.origin,
            self.where,
            self.fingerprint,
        )


def _rank(key: str) -> str:
    return hashlib.sha256(f"sample {key}".encode()).hexdigest()


def task_data(task: Task, rows: Iterable[tuple[str, Any]], origin: Origin, where: str) -> TaskData:
    """The items of rows, each with the place where it stands.

    Raises:
        RefusedError: there are none, or some are none of the task's.
    """
    items, bad = [], []
    for place, row in rows:
        try:
            if not isinstance(row, dict):
                raise row if isinstance(row, RowError) else RowError("no JSON object")
            items.append(task.item(row))
        except RowError as error:
            bad.append(f"{place}: {error}")
    if bad or not items:
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise RefusedError(
            f"{where} does not hold the items of {task.name}.",
            found="; ".join(bad[:_SHOWN]) + more if bad else "nothing",
            remedy="give the whole file as it is published; a score of what is left would be that "
            "of another set",
        )
    keys = tuple(_numbered(item.key for item in items))
    fingerprint = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]
    return TaskData(task, tuple(items), keys, origin, where, fingerprint)


def _numbered(keys: Iterable[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for key in keys:
        seen[key] += 1
        yield key if seen[key] == 1 else f"{key}.{seen[key]}"


def embedded_data(task: Task) -> TaskData:
    """The items of a set of our own.

    Raises:
        HatcheryError: it is of Python's library, and this Python has none as files.
    """
    assert task.embedded is not None
    found = embedded_set(task.embedded)
    rows = ((f"row {number}", row) for number, row in enumerate(found.rows, 1))
    return task_data(task, rows, "embedded", found.label.removeprefix("embedded: "))


def local_file(task: Task, sources: Sequence[Path]) -> Path | None:
    """The file of `task` among files and folders; None where there is none.

    A folder holds it under the task's name, else under one of the names it is published with,
    there or in a folder of it. A file among `sources` counts where it bears such a name.

    Raises:
        UsageError: there are several.
    """
    patterns = (f"{task.name}.jsonl", f"{task.name}.txt", *task.files)
    for pattern in patterns:
        found = [path for source in sources for path in _matching(source, pattern)]
        if len(found) > 1:
            raise UsageError(
                f"There are several files for {task.name}.",
                found=", ".join(str(path) for path in found),
                remedy=f"give the one that is meant: --data {found[0]}",
            )
        if found:
            return found[0]
    return None


def _matching(source: Path, pattern: str) -> list[Path]:
    if source.is_file():
        return [source] if source.match(pattern) else []
    here = sorted(path for path in source.glob(pattern) if path.is_file())
    return here or sorted(path for path in source.glob(f"*/{pattern}") if path.is_file())


def read_local(task: Task, path: Path) -> TaskData:
    """The items of a local file.

    Raises:
        RefusedError: see `task_data`; it is no UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(
            f"{path} is no UTF-8 text.",
            found=f"byte {error.start:,} is {error.object[error.start]:#04x}",
            remedy="give the file as it is published, uncompressed",
        ) from error
    if isinstance(task, DocumentTask) and path.suffix != ".jsonl":
        rows: Iterable[tuple[str, Any]] = (
            (f"page {number}", {"page": page}) for number, page in enumerate(pages(text), 1)
        )
    else:
        rows = _json_lines(text)
    return task_data(task, rows, "local", str(path))


def _json_lines(text: str) -> Iterator[tuple[str, Any]]:
    """Every line's value with its place; a line that is no JSON gives the reason."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except ValueError:
                yield f"line {number}", RowError("no JSON")
