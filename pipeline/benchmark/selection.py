"""What a benchmark asks: which tasks, where their data is, and how much of it."""

import difflib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event as StopSignal

from pipeline.benchmark.own_text import read_own_texts
from pipeline.evaluation import hub
from pipeline.evaluation.data import TaskData, embedded_data, read_local, task_data
from pipeline.evaluation.embedded import embedded_set
from pipeline.evaluation.files import Sources
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Task
from pipeline.events import Event, Warned
from pipeline.options.config import BenchmarkOptions, Config
from utils.errors import UsageError
from utils.units import counted

SIZES = {"quick": (50, 20, 10), "standard": (100, 50, 20), "comprehensive": (200, 100, 50)}
"""Documents, items and completions of every task."""
_KINDS = ("documents", "items", "completions")


@dataclass(frozen=True)
class Asked:
    """What is asked: a task's data, whole, and the sample that is scored."""

    whole: TaskData
    sample: TaskData

    def notes(self) -> Iterator[Event]:
        """What is to be known about the data before it is scored."""
        data = self.whole
        yield from map(Warned, data.notes)
        if data.repeated:
            yield Warned(
                f"{counted(data.repeated, 'item')} of {data.task.name} stand more than once in "
                f"{data.where}; each counts as often as it stands there."
            )


def select(config: Config, options: BenchmarkOptions) -> dict[Task, TaskData | None]:
    """The tasks, each with its data, read and checked before any model is; None for those whose
    data is yet to be fetched.

    Raises:
        UsageError: no such task or file, or no data for a task.
        RefusedError: a file does not hold the items of its task, whole.
    """
    data_dir = config.paths.data_dir
    ours = options.tasks is not None or not options.harness  # else --data holds the harness's
    sources = Sources.of(
        (options.data if ours else None) or (), [n for n, t in TASKS.items() if not t.of_own_text]
    )
    sources.refuse_unknown(TASKS.values())
    tasks = _tasks(options, sources, data_dir)
    own = _own_data([task for task in tasks if task.of_own_text], options)
    return {task: own.get(task) or _data(task, sources, data_dir) for task in tasks}


def complete(
    selected: Mapping[Task, TaskData | None],
    config: Config,
    options: BenchmarkOptions,
    stop: StopSignal,
) -> Generator[Event, None, list[Asked]]:
    """Fetch what is missing; returns what is asked, without the tasks that a stop came before.

    Raises:
        NetworkError, RefusedError: see `hub.fetch`.
    """
    found = []
    for task, here in selected.items():
        data = here
        if data is None and not stop.is_set():
            data = yield from hub.fetch(task, config.paths.data_dir, stop)
        if data is not None:
            found.append(Asked(data, data.sample(_most(task, options))))
    return found


def _own_data(tasks: Sequence[Task], options: BenchmarkOptions) -> dict[Task, TaskData]:
    """The data of tasks that ask the user's own text, which is read once."""
    if not tasks:
        return {}
    if not options.text:
        raise UsageError(
            f"{tasks[0].name} asks a text of your own, and none is given.",
            found="no --text",
            remedy="name files or folders of it: --text FILE",
        )
    texts = read_own_texts(options.text)
    found = {task: task_data(task, texts.rows, "local", texts.where) for task in tasks}
    return found | {tasks[0]: replace(found[tasks[0]], notes=texts.notes)}


def _data(task: Task, sources: Sources, data_dir: Path) -> TaskData | None:
    path = sources.find(task)
    if path is not None:
        return read_local(task, path)
    if task.embedded is not None:
        return embedded_data(task)
    given = [*sources.searched, *sources.named.values()]
    if given or task.hub is None:
        raise UsageError(
            f"There is no data for {task.name}.",
            found=", ".join(map(str, given)) or "no --data",
            remedy=f"give a folder that holds {task.name}.jsonl, or the file: "
            f"--data {task.name}=FILE",
        )
    return hub.read_cached(task, data_dir) if hub.is_here(task, data_dir) else None


def _tasks(options: BenchmarkOptions, sources: Sources, data_dir: Path) -> list[Task]:
    own = [task for task in TASKS.values() if task.of_own_text] if options.text else []
    if options.tasks is None and options.harness:
        return own
    if options.tasks is None:
        here = [task for task in TASKS.values() if options.data and sources.find(task)]
        return here + own or [
            task for task in TASKS.values() if _is_filled(task) or hub.is_here(task, data_dir)
        ]
    names = [name.strip() for typed in options.tasks for name in typed.split(",") if name.strip()]
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        close = difflib.get_close_matches(unknown[0], TASKS, n=1) if unknown else []
        raise UsageError(
            f"There is no task {unknown[0]}." if unknown else "No task is named.",
            found=f"known: {', '.join(TASKS)}",
            remedy=f"did you mean --tasks {close[0]}?"
            if close
            else "choose some of these: --tasks embedded_grammar,embedded_docstrings",
        )
    chosen = [TASKS[name] for name in dict.fromkeys(names)]
    return chosen if any(task in own for task in chosen) else chosen + own


def _is_filled(task: Task) -> bool:
    """Whether it is a set of ours that holds something: Python's library may be a small one."""
    return task.embedded is not None and bool(embedded_set(task.embedded).rows)


def _most(task: Task, options: BenchmarkOptions) -> int | None:
    if options.samples == "all":
        return None
    return options.samples or SIZES[options.preset][_KINDS.index(task.kind)]
