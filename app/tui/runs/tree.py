"""Runs and their checkpoints as the lines of a tree. Knows no widgets."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.runs import inventory
from pipeline.runs.damaged import Fault, faults
from pipeline.runs.inventory import LOOSE, Checkpoint, Run
from pipeline.runs.progress import is_being_written

Kind: TypeAlias = Literal["run", "checkpoint", "fault"]


@dataclass(frozen=True)
class Row:
    """A line: a run, a checkpoint below one, or something unusable, which `why` explains.

    `loss` is nats per token, `size` bytes, `modified` seconds since 1970; `writing` says that a
    process is at work in the run.
    """

    kind: Kind
    path: Path
    run: str
    name: str
    step: int | None = None
    loss: float | None = None
    size: int = 0
    modified: float = 0.0
    best: bool = False
    latest: bool = False
    writing: bool = False
    open: bool = False
    why: str = ""

    @property
    def top(self) -> bool:
        """Whether it stands for a whole run."""
        return self.kind == "run"


@dataclass(frozen=True)
class RunList:
    """What lies in the folder of runs; `writing` are the runs that a process is at work in."""

    folder: Path
    runs: tuple[Run, ...] = ()
    faults: tuple[Fault, ...] = ()
    writing: frozenset[str] = frozenset()


def look(checkpoints_dir: Path) -> RunList:
    """Read names, links and small files; never fails."""
    try:
        runs = tuple(inventory.list_runs(checkpoints_dir))
    except OSError:
        runs = ()
    found = tuple(faults(checkpoints_dir))
    names = {run.name for run in runs} | {fault.path.name for fault in found if fault.run is None}
    writing = frozenset(name for name in names if is_being_written(checkpoints_dir / name))
    return RunList(checkpoints_dir, runs, found, writing)


def rows(run_list: RunList, closed: Collection[str] = (), words: str = "") -> list[Row]:
    """The lines of the tree, newest run first; `closed` runs show none of their checkpoints, and
    only runs whose name holds `words` are shown."""
    filter_text = words.casefold()
    found: list[Row] = []
    listed = {run.name for run in run_list.runs}
    bare = [f for f in run_list.faults if f.run is None and f.path.name not in listed]
    inside = {f.run for f in run_list.faults if f.run is not None}
    tops: list[tuple[float, Run | Fault]] = [(run.modified, run) for run in run_list.runs]
    tops += [(fault.modified, fault) for fault in bare]
    tops.sort(key=lambda top: (_is_loose(top[1]), -top[0]))
    for _, top in tops:
        name = top.name if isinstance(top, Run) else top.path.name
        if filter_text not in name.casefold():
            continue
        broken = [fault for fault in run_list.faults if fault.run == name]
        closable = isinstance(top, Run) or name in inside
        found.append(_top(run_list, top, broken, is_open=closable and name not in closed))
        if name not in closed:
            checkpoints: Sequence[Checkpoint] = top.checkpoints if isinstance(top, Run) else ()
            found += _below(checkpoints, broken, name)
    return found


def _is_loose(top: Run | Fault) -> bool:
    return isinstance(top, Run) and top.name == LOOSE


def _top(run_list: RunList, top: Run | Fault, broken: Sequence[Fault], *, is_open: bool) -> Row:
    if isinstance(top, Fault):
        writing = top.path.name in run_list.writing
        why = "running, nothing saved yet" if writing else top.why
        name = top.path.name
        kind: Kind = "fault" if name.startswith(".") else "run"
        return Row(
            kind, top.path, name, name, size=top.size, modified=top.modified,
            writing=writing, open=is_open, why=why,
        )  # fmt: skip
    losses = [c.val_loss for c in top.checkpoints if c.val_loss is not None]
    return Row(
        "run",
        run_list.folder if top.name == LOOSE else run_list.folder / top.name,
        top.name,
        top.name,
        step=max((c.step for c in top.checkpoints if c.step is not None), default=None),
        loss=min(losses, default=None),
        size=sum(c.size for c in top.checkpoints) + sum(fault.size for fault in broken),
        modified=top.modified,
        writing=top.name in run_list.writing,
        open=is_open,
    )


def _below(checkpoints: Sequence[Checkpoint], broken: Sequence[Fault], run: str) -> Iterator[Row]:
    unusable = {fault.path: fault for fault in broken}
    for c in checkpoints:
        fault = unusable.pop(c.path, None)
        yield Row(
            "checkpoint", c.path, run, c.name, c.step, c.val_loss, c.size, c.modified,
            c.best, c.latest, why=fault.why if fault else "",
        )  # fmt: skip
    for fault in unusable.values():
        yield Row(
            "fault", fault.path, run, fault.path.name,
            size=fault.size, modified=fault.modified, why=fault.why,
        )  # fmt: skip
