"""The dialog in which the tasks of a benchmark are marked, several of them."""

from collections.abc import Collection, Sequence
from pathlib import Path

from textual.content import Content

from app.tui.widgets.meter import columns
from app.tui.widgets.picker import PickDialog, PickList, marked
from app.tui.widgets.text import MUTED, joined, plain
from pipeline.evaluation import hub
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Task

_NAME, _TITLE, _WHERE = 22, 20, 16  # cells
_ORDER = ("offline", "fetched before", "your own text", "needs a network")
_WHERE_FROM = {
    "offline": "An embedded set of ours: no download, the same on every machine with this Python.",
    "fetched before": "A published set that was fetched before: no network is needed.",
    "your own text": "Asks the text that the setting Text names.",
    "needs a network": "A published set, fetched once from the Hugging Face hub, or given as Data.",
}


def where(task: Task, data_dir: Path) -> str:
    """Where the items of a task come from, in two words."""
    if task.embedded is not None:
        return "offline"
    if task.of_own_text:
        return "your own text"
    return "fetched before" if hub.is_here(task, data_dir) else "needs a network"


class TaskPicker(PickDialog):
    """Ends with the names of the marked tasks, with blanks between. Those that need no network come
    first."""

    def __init__(self, chosen: Collection[str], data_dir: Path) -> None:
        super().__init__(
            "Tasks",
            "/ ",
            "Enter marks a task or takes the mark back   Esc is done",
            placeholder="a name, or what it asks",
        )
        self._where = {name: where(task, data_dir) for name, task in TASKS.items()}
        self._chosen = [name for name in chosen if name in TASKS]
        self._unknown = [name for name in chosen if name not in TASKS]
        self._words: Sequence[str] = ()

    def keys_for(self, typed: str) -> Sequence[str]:
        self._words = typed.casefold().split()
        fitting = [
            name
            for name, task in TASKS.items()
            if all(w in f"{name} {task.title} {task.about}".casefold() for w in self._words)
        ]
        return sorted(fitting, key=lambda name: _ORDER.index(self._where[name]))

    def row(self, key: str, width: int) -> Content:
        task = TASKS[key]
        sign = ("✓ ", "bold $accent") if key in self._chosen else ("  ", "")
        cells = [
            joined(sign, marked(key, self._words, "bold" if key in self._chosen else "")),
            marked(task.title, self._words),
            plain(self._where[key], MUTED),
            marked(task.about, self._words, MUTED),
        ]
        rest = width - _NAME - _TITLE - _WHERE - 6
        if rest < 16:
            return columns(cells[:3], [max(10, width - _TITLE - _WHERE - 4), _TITLE, _WHERE])
        return columns(cells, [_NAME, _TITLE, _WHERE, rest])

    def count(self, shown: int) -> str:
        return f"{len(self._chosen)} marked of {len(TASKS)}"

    def about(self, key: str | None) -> Content:
        if key is None:
            return plain("No task has these words in its name or in what it asks.")
        task = TASKS[key]
        metrics = ", ".join(metric.title for metric in task.metrics)
        return joined(
            (f"{task.title}  ", "$accent"), f"{task.about}. ",
            (f"{_WHERE_FROM[self._where[key]]} Measured by {metrics}.", MUTED),
        )  # fmt: skip

    def chosen(self, key: str) -> None:
        if key in self._chosen:
            self._chosen.remove(key)
        else:
            self._chosen.append(key)
        self.query_one(PickList).refresh()
        self.fill_count()

    def action_leave(self) -> None:
        self.dismiss(" ".join([*(name for name in TASKS if name in self._chosen), *self._unknown]))
