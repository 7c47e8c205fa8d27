"""Choosing checkpoints in a terminal: a table of runs, then one of their checkpoints."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table
from rich.text import Text

from app.terminal.layout import Console
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint, Run
from utils.errors import UsageError
from utils.text import safe
from utils.units import human_bytes, human_seconds

if TYPE_CHECKING:
    from pipeline.options.config import Config

ReadLine = Callable[[str], str]
T = TypeVar("T")


def pick(
    console: Console, read_line: ReadLine, config: "Config", *, again: bool = False
) -> list[Checkpoint]:
    """Let the user choose one checkpoint or several; asks again until the answer makes sense.

    Where there is only one there is no question, unless it did not do and is chosen `again`.
    `read_line` shows a question and returns the line typed; what it raises ends the choice.

    Raises:
        UsageError: there is nothing to choose from.
    """
    while True:
        known = inventory.list_runs(config.paths.checkpoints_dir)
        if not known:
            inventory.newest(config)  # says so, and what to do
        chosen = known
        if len(known) > 1 or again:
            console.print(_runs_table(known))
            chosen = _choose(console, read_line, "Run", known, known[0])
        candidates = [checkpoint for run in chosen for checkpoint in run.checkpoints]
        default = chosen[0].default
        if len(candidates) > 1 or again:
            console.print(_checkpoints_table(console, candidates))
            candidates = _choose(console, read_line, "Checkpoint", candidates, default)
        gone = [c for c in candidates if not c.path.exists()]
        if not gone:
            return candidates
        console.say(f"  ! {gone[0].label} is not there any more; choose again.", "yellow")
        again = True


def parse_choice(answer: str, count: int) -> list[int]:
    """Places (from 0) meant by "2", "1,3,5", "2-4" or "all", in the order typed, each once.

    Raises:
        UsageError: a number outside 1 to `count`, or no number.
    """
    if answer.strip().lower() == "all":
        return list(range(count))
    places: list[int] = []
    for part in answer.replace(",", " ").split():
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"{part} is not a number.", remedy=_valid(count))
        begin, end = int(first), int(last or first)
        if not 1 <= begin <= end <= count:
            raise UsageError(f"There is no {part}.", remedy=_valid(count))
        places += range(begin - 1, end)
    if not places:
        raise UsageError("No number was given.", remedy=_valid(count))
    return list(dict.fromkeys(places))


def _valid(count: int) -> str:
    return f"type a number from 1 to {count}, several as 1,3 or 1-3, or all"


def _choose(
    console: Console, read_line: ReadLine, what: str, items: Sequence[T], default: T
) -> list[T]:
    place = items.index(default) + 1
    while True:
        answer = read_line(f"{what} [1-{len(items)}, 1,3 or all; Enter: {place}]: ").strip()
        try:
            return [items[i] for i in parse_choice(answer or str(place), len(items))]
        except UsageError as error:
            console.say(f"  {error.problem} Please {error.remedy}.", "yellow")


def _runs_table(runs: Sequence[Run]) -> Table:
    table = _table(">#", "Run", ">Checkpoints", ">Last step", ">Best val loss", ">Size", ">Age")
    for number, run in enumerate(runs, 1):
        steps = [c.step for c in run.checkpoints if c.step is not None]
        losses = [c.val_loss for c in run.checkpoints if c.val_loss is not None]
        table.add_row(
            str(number),
            Text(safe(run.name, lines=False)),
            str(len(run.checkpoints)),
            f"{max(steps):,}" if steps else "-",
            f"{min(losses):.4f}" if losses else "-",
            human_bytes(sum(c.size for c in run.checkpoints)),
            _age(run.modified),
        )
    return table


def _checkpoints_table(console: Console, checkpoints: Sequence[Checkpoint]) -> Table:
    several = len({checkpoint.run for checkpoint in checkpoints}) > 1
    table = _table(">#", "Checkpoint", "", ">Val loss", ">Size", ">Age")
    for number, checkpoint in enumerate(checkpoints, 1):
        table.add_row(
            str(number),
            Text(safe(checkpoint.label if several else checkpoint.name, lines=False)),
            _marks(console, checkpoint),
            "-" if checkpoint.val_loss is None else f"{checkpoint.val_loss:.4f}",
            human_bytes(checkpoint.size),
            _age(checkpoint.modified),
        )
    return table


def _marks(console: Console, checkpoint: Checkpoint) -> Text:
    marks = Text()
    if checkpoint.best:
        marks.append(f"{console.sign('▲')} best ", "green")
    if checkpoint.latest:
        marks.append(f"{console.sign('●')} latest", "blue")
    return marks


def _table(*columns: str) -> Table:
    """Columns by title; one that begins with > is to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in columns:
        right = title.startswith(">")
        table.add_column(title.removeprefix(">"), justify="right" if right else "left")
    return table


def _age(modified: float) -> str:
    return f"{human_seconds(max(0.0, time.time() - modified))} ago"
