"""The data of tasks: rows of local files become items, whole or not at all.

A file that is cut short, or one row of which is none of the task's, is refused with the line and
the reason: the score of what is left would be that of another set.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.evaluation.embedded import embedded_set
from pipeline.evaluation.files import Rows, is_rows, read_rows, read_text
from pipeline.evaluation.tasks.task import DocumentTask, Item, RowError, Task
from pipeline.evaluation.tasks.wikitext import pages
from utils.errors import RefusedError

_SHOWN = 4  # bad rows that a refusal names

Origin = Literal["local", "hub", "embedded", "harness"]


@dataclass(frozen=True)
class TaskData:
    """The items of a task, in the order of their file.

    `keys` tell them apart, with a number behind those that stand there more than once. `origin` and
    `where` say where they come from, `fingerprint` what they are, `revision` the commit of a hub,
    `notes` what was left out.
    """

    task: Task
    items: tuple[Item, ...]
    keys: tuple[str, ...]
    origin: Origin
    where: str
    fingerprint: str
    revision: str = ""
    notes: tuple[str, ...] = ()

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
        return replace(
            self,
            items=tuple(self.items[n] for n in kept),
            keys=tuple(self.keys[n] for n in kept),
        )


def _rank(key: str) -> str:
    return hashlib.sha256(f"sample {key}".encode()).hexdigest()


def task_data(
    task: Task,
    rows: Iterable[tuple[str, Any]],
    origin: Origin,
    where: str,
    *,
    revision: str = "",
) -> TaskData:
    """The items of rows, each with the place where it stands.

    Raises:
        RefusedError: there are none, or some are none of the task's.
    """
    items, bad = [], []
    for place, row in task.gathered(rows):
        try:
            if not isinstance(row, dict):
                raise row if isinstance(row, RowError) else RowError("no JSON object")
            item = task.item(row)
            _refuse_half_characters(item)
            items.append(item)
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
    return TaskData(task, tuple(items), keys, origin, where, fingerprint, revision)


def _refuse_half_characters(item: Item) -> None:
    """JSON may hold half of a surrogate pair, which no tokenizer reads."""
    texts = [
        item.group,
        item.text,
        *item.answers,
        *(text for pair in item.requests for text in pair),
    ]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise RowError(f"\\u{half:04x} is half of a character") from None


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


def read_local(task: Task, path: Path) -> TaskData:
    """The items of a local file, or of all files of rows in a folder.

    Raises:
        RefusedError: see `task_data`; a file is none that can be read, or cut short.
        UsageError: a folder without rows.
    """
    if isinstance(task, DocumentTask) and not is_rows(path):
        rows: Rows = (
            (f"page {number}", {"page": page})
            for number, page in enumerate(pages(read_text(path)), 1)
        )
    else:
        rows = read_rows(path)
    return task_data(task, rows, "local", str(path))
