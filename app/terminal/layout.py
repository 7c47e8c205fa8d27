"""How single things look in a terminal: numbers, tables, the progress line, a failure."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from utils.errors import HatcheryError
from utils.text import safe
from utils.units import human_count, human_seconds

_PIPE_WIDTH = 80
_TIMES = 3  # that a line or piece of a sample may come in a row
_PIECE = re.compile(r"([^-=#*_~.\s]\S{0,11}?|\S{1,11}? )\1{11,}")  # twelve times and more
_ASCII = {"●": "*", "▲": "^", "✓": "=", "✕": "x", "⚠": "!", "·": "-", "…": "...",
          "★": "*", "→": ">"}  # fmt: skip


class Console(RichConsole):
    """A console whose reader may leave, whose encoding may be ASCII, and which never guesses.

    Text in a pipe is not wrapped, tables there are 80 wide. Nothing is highlighted or read as
    markup, and a plain string is made safe wherever it is given; whoever gives a `Text` has done
    so.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else int(os.environ.get("COLUMNS") or _PIPE_WIDTH)
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Let whoever runs the stage know, instead of ending the process in the middle of it."""
        raise BrokenPipeError

    @property
    def lively(self) -> bool:
        """Whether lines can be redrawn."""
        return self.is_terminal and not self.is_dumb_terminal

    @property
    def unicode(self) -> bool:
        """Whether the terminal's encoding has more than ASCII."""
        return self.sign("●") == "●"

    def sign(self, symbol: str) -> str:
        """`symbol`, or its stand-in where the terminal's encoding has none."""
        try:
            symbol.encode(self.encoding)
        except UnicodeEncodeError:
            return _ASCII[symbol]
        return symbol

    def drawable(self, text: str) -> str:
        """`text` with stand-ins for the symbols that the terminal's encoding has not."""
        return "".join(self.sign(letter) if letter in _ASCII else letter for letter in text)

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*(Text(safe(o)) if isinstance(o, str) else o for o in objects), **how)

    def status(self, status: RenderableType, **how: Any) -> Status:
        """A line with a spinner, gone at the end of the block."""
        shown = Text(safe(status, lines=False)) if isinstance(status, str) else status
        return super().status(shown, **how)

    def say(self, text: str, style: str = "") -> None:
        """One note; foreign text in it is made safe."""
        self.print(Text(safe(text), style=style), soft_wrap=not self.is_terminal)


def readable(value: object) -> str:
    """A JSON value the way people read it."""
    if isinstance(value, dict):
        return ", ".join(f"{spaced(name)} {readable(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(readable(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def spaced(name: object) -> str:
    """tokens_per_second -> tokens per second."""
    return str(name).replace("_", " ")


def bare(value: object) -> str:
    """A result for a program or a person to take up: text as it is, ids joined by commas."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return readable(value) if isinstance(value, dict) else str(value)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of equal keys as a table; numbers to the right."""
    result = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in rows[0]:
        numeric = all(isinstance(row.get(name), int | float) for row in rows)
        result.add_column(Text(spaced(name)), justify="right" if numeric else "left")
    for row in rows:
        result.add_row(*(Text(safe(readable(value), lines=False)) for value in row.values()))
    return result


def progress_line(console: Console) -> Progress:
    """A single line that is redrawn and disappears at the end; one task, added by the caller."""
    plain = console.sign("●") != "●"
    return _OneLine(
        SpinnerColumn("line" if plain else "dots"),
        _Bar(20, table_column=Column(max_width=20, no_wrap=True)),
        _Line(table_column=Column(no_wrap=True, overflow="ellipsis")),
        on=console,
    )


class _OneLine(Progress):
    """Leaves room for the `^C` that a terminal echoes, which would otherwise break the line."""

    def __init__(self, *columns: ProgressColumn, on: Console) -> None:
        self._on = on
        super().__init__(*columns, console=on, transient=True, refresh_per_second=8)

    def get_renderables(self) -> Iterator[RenderableType]:
        yield Constrain(self.make_tasks_table(self.tasks), self._on.width - 3)


class _Bar(BarColumn):
    """A bar only where the end is known."""

    def render(self, task: Task) -> Any:
        return super().render(task) if task.total else Text("")


class _Line(ProgressColumn):
    """'42 % · 1.2 M of 3.4 M tokens · 2 min 3 s left · 92 MB/s · message'.

    What matters most comes first: a narrow terminal cuts the end off.
    """

    def render(self, task: Task) -> Text:
        fields = task.fields
        parts = [f"{task.percentage:.0f} %"] if task.total else []
        parts.append(amount(task.completed, task.total, fields["unit"]))
        if task.total and task.time_remaining is not None:
            parts.append(f"{human_seconds(task.time_remaining)} left")
        parts += [*fields["figures"], fields["message"]]
        return Text(safe(" · ".join(filter(None, parts)), lines=False))


def amount(done: float, total: float | None, unit: str) -> str:
    """'1.2 M of 3.4 M tokens'; nothing where nothing is counted."""
    if not done and not total:
        return ""
    of = f" of {human_count(total)}" if total else ""
    return f"{human_count(done)}{of} {unit}".rstrip()


def without_loops(text: str) -> str:
    """A model's text in which a line or a short piece that comes again and again stands three
    times, and then how often it came."""
    lines: list[str] = []
    for line, group in groupby(text.split("\n")):
        same = sum(1 for _ in group)
        shown = _PIECE.sub(lambda again: f"{again[1] * _TIMES}…", line)
        if same <= _TIMES or not line.strip():
            lines += [shown] * same
        else:
            lines += [*[shown] * _TIMES, f"… the same line {same - _TIMES} more times"]
    return "\n".join(lines)


def print_line(text: str) -> None:
    """One line of a result, for a program to read, at once."""
    sys.stdout.write(safe(text) + "\n")
    sys.stdout.flush()


def confirmed(question: str) -> bool | None:
    """Whether somebody at the terminal says yes to a question; None where nobody is there."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    sys.stderr.write(f"{safe(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def report_failure(error: HatcheryError) -> None:
    """One paragraph on stderr: the problem, what was found, the next command."""
    console = Console(stderr=True)
    wrap = not console.is_terminal
    lead = (f"{console.sign('✕')} ", "bold red")
    console.print(Text.assemble(lead, Text(safe(error.problem))), soft_wrap=wrap)
    for name, value in (("Found", error.found), ("Next", error.remedy)):
        if value:
            console.print(Text.assemble((f"  {name}: ", "bold"), safe(value)), soft_wrap=wrap)
