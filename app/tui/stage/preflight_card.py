"""The pre-flight card: what a training would need, while its settings are still being chosen."""

import asyncio
import textwrap
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import OptionList, Static

from app.jobs.lifecycle import PROGRAM
from app.tui.stage.preflight import Outlook, outlook, speed_settings, understood
from app.tui.system import MeasuredSpeed
from app.tui.widgets.meter import meter
from app.tui.widgets.text import MUTED, joined, plain
from pipeline.events import Event, Failed, Finished, Progress, from_json
from pipeline.options.config import NOTHING_TYPED, Config, Typed
from pipeline.planning.wording import Line
from utils.errors import HatcheryError
from utils.text import safe

_REST = 0.15  # seconds without a change before anything is computed
_NAME = 10  # cells of a line's name
_LONGEST_LINE = 1 << 20  # bytes of an event
_SHORTEST_BAR, _LONGEST_BAR = 8, 24  # cells
_ROOMY = 12  # rows from which remarks may have rows of their own
_DOT = " · "
_MINOR = ("Disk",)  # left out where there is little room, if all is well
_WORRY = "$warning"


class PreflightCard(Vertical):
    """`show(config)` draws what training with `config` needs, shortly after the last change.

    `measured` is the speed of training here, where it was. `probe(arguments)` finds it by timing
    a few real steps in a child process, which goes when the card does;
    `arguments` are those of the same training on a command line, without the command: for
    `main.py train --model.preset mini --batch-size 8` that is
    `["--model.preset", "mini", "--batch-size", "8"]`.

    What mends a training that does not fit, or would teach little, is listed with a number;
    choosing one (its digit while the card has the focus, Enter, a click, or `choose`) posts
    `Chosen`, and whoever holds the settings applies it and calls `show` again.
    """

    DEFAULT_CSS = """
    PreflightCard {
        height: auto;
        #lines { height: auto; }
        #advice, #remedies { height: auto; display: none; }
        #advice { color: $text-muted; margin-top: 1; }
        #remedies { background: transparent; border: none; padding: 0; }
        &.-advised #advice, &.-advised #remedies { display: block; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(str(number), f"choose({number})", show=False) for number in range(1, 10)
    ]

    class Chosen(Message):
        """A remedy was chosen: settings by dotted names, such as {"train.batch_size": 8}."""

        def __init__(self, changes: dict[str, Any]) -> None:
            super().__init__()
            self.changes = changes

    class _Estimated(Message):
        def __init__(self, config: Config, found: Outlook) -> None:
            super().__init__()
            self.config, self.found = config, found

    def __init__(self, measured: MeasuredSpeed | None = None) -> None:
        super().__init__()
        self.measured = measured
        self._config: Config | None = None
        self._typed = NOTHING_TYPED
        self._proposed: Line | None = None
        self._found: Outlook | None = None
        self._probing = ""  # how far the probe is; empty while there is none
        self._failed: HatcheryError | None = None
        self._timer: Timer | None = None
        self._drawn_in = 0, 0

    def compose(self) -> ComposeResult:
        yield Static(plain("reckoning …", MUTED), id="lines")
        yield Static(id="advice")
        yield OptionList(id="remedies", compact=True)

    def show(
        self, config: Config, typed: Typed = NOTHING_TYPED, proposed: Line | None = None
    ) -> None:
        """Reckon anew, once the settings have not changed for a moment; a run that goes on is
        changed by those that were `typed`, and `proposed` says what nobody has chosen."""
        self._proposed = proposed
        self._config, self._typed, self._failed = config, typed, None
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_REST, self._estimate)

    def _estimate(self) -> None:
        if self._config is not None:
            self._look(self._config, self._typed, self.measured)

    @work(thread=True, group="outlook", exclusive=True, exit_on_error=False)
    def _look(self, config: Config, typed: Typed, measured: MeasuredSpeed | None) -> None:
        more = (typed,) if typed else ()
        self.post_message(self._Estimated(config, outlook(config, measured, *more)))

    @on(_Estimated)
    def _estimated(self, message: _Estimated) -> None:
        message.stop()
        if message.config is self._config:
            self._found = message.found
            self._draw()

    def on_resize(self) -> None:
        if self._space != self._drawn_in:  # what is drawn changes the height
            self._draw()

    # The probe.

    def probe(self, arguments: list[str]) -> None:
        """Time a few real steps of the training with these arguments; an earlier probe ends."""
        if self._config is not None:
            self._failed = None
            self._probe([*PROGRAM, "plan", "--json", *arguments, "--probe"], self._config)

    @work(group="probe", exclusive=True, exit_on_error=False)
    async def _probe(self, argv: list[str], config: Config) -> None:
        self._at("starting")
        nothing = asyncio.subprocess.DEVNULL
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                stdin=nothing,
                stdout=asyncio.subprocess.PIPE,
                stderr=nothing,
                limit=_LONGEST_LINE,
            )
        except OSError as error:
            self._failed = HatcheryError(f"The probe could not be started: {error.strerror}.")
            self._at("")
            return
        try:
            await self._follow(child, config)
        finally:
            if child.returncode is None:
                child.kill()
                await asyncio.shield(child.wait())

    async def _follow(self, child: asyncio.subprocess.Process, config: Config) -> None:
        """Take up what the child says until its end."""
        assert child.stdout is not None
        self._failed = HatcheryError("The probe ended without a result.")
        async for line in child.stdout:
            try:
                self._handle_event(from_json(line), config)
            except (ValueError, KeyError, TypeError):  # not a line of this version's
                continue
        await child.wait()
        self._at("")
        self._estimate()

    def _handle_event(self, event: Event, config: Config) -> None:
        if isinstance(event, Progress):
            self._at(f"{event.message} {event.done or ''}".strip())
        elif isinstance(event, Failed):
            self._failed = HatcheryError(
                event.problem, found=event.found, remedy=event.remedy, commands=event.commands
            )
        elif isinstance(event, Finished):
            measured = understood(event.summary["numbers"][0], speed_settings(config))
            if measured is None:
                self._failed = HatcheryError("It does not fit into memory, so nothing was timed.")
            else:
                self.measured, self._failed = measured, None

    def _at(self, state: str) -> None:
        self._probing = state
        self._draw()

    # What is seen.

    def _draw(self) -> None:
        if self._found is None or not self.is_mounted:
            return
        found, (width, room) = self._found, self._space
        self._drawn_in = self._space
        brief = room < _ROOMY
        lines = [self._with_progress(line) for line in found.lines]
        if self._proposed is not None and found.plan is not None:
            lines.insert(0, self._proposed)
        if brief:
            lines = [line for line in lines if line.worry or line.name not in _MINOR]
        parts = [_drawn(line, found, width, brief=brief) for line in lines]
        if found.problem is not None:
            parts.append(_problem(found.problem, width))
        if self._failed is not None and not self._probing:
            parts.append(_problem(self._failed, width))
        self.query_one("#lines", Static).update(Content("\n").join(parts))
        self._offer(found, width)

    @property
    def _space(self) -> tuple[int, int]:
        """Cells of a line, and rows of what the card lies in, which scrolls it where it is
        longer."""
        around = self.parent
        rows = around.size.height if isinstance(around, Widget) else 0
        return max(30, self.size.width or 60), rows

    def _with_progress(self, line: Line) -> Line:
        if line.name == "Time" and self._probing:
            return line._replace(figure=f"◐ {self._probing}", remark="")
        return line

    def _offer(self, found: Outlook, width: int) -> None:
        self.set_class(bool(found.remedies), "-advised")
        self.query_one("#advice", Static).update(
            plain("What would help: its digit, or Enter on it")
        )
        rows = [
            joined((f"{number}  ", "bold $accent"), remedy.title, (f"  {remedy.effect}", MUTED))
            for number, remedy in enumerate(found.remedies, 1)
        ]
        shown = self.query_one("#remedies", OptionList)
        highlighted = shown.highlighted
        shown.clear_options()
        shown.add_options(row.truncate(width, ellipsis=True) for row in rows)
        if highlighted is not None and rows:
            shown.highlighted = min(highlighted, len(rows) - 1)

    @on(OptionList.OptionSelected, "#remedies")
    def _picked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.choose(event.option_index + 1)

    def choose(self, number: int) -> None:
        """Choose the remedy of that number, from 1; nothing where there is none."""
        if self._found is not None and 0 < number <= len(self._found.remedies):
            remedy = self._found.remedies[number - 1]
            self.post_message(self.Chosen(remedy.changes))
            self.notify(safe(f"Taken over: {remedy.title}"), markup=False)

    def action_choose(self, number: int) -> None:
        self.choose(number)


def _drawn(line: Line, found: Outlook, width: int, *, brief: bool) -> Content:
    """A line's name, figure and remark, which goes below where it is too long for one row; `brief`
    keeps to one row what has a figure."""
    sign = ("⚠ ", f"bold {_WORRY}") if line.worry else ""
    style = _WORRY if line.worry else MUTED
    indent = " " * (_NAME + 2)
    if not line.figure:  # a sentence, of which half would say nothing
        first, *more = _wrapped(line.remark, width - len(indent))
        rows = [joined((f"{line.name:<{_NAME}}  ", "bold"), (first, style))]
        return Content("\n").join([*rows, *(joined(indent, (row, style)) for row in more)])
    head = joined((f"{line.name:<{_NAME}}  ", "bold"), sign, line.figure)
    remark = plain(line.remark, style)
    if line.name == "Memory" and found.plan is not None:
        room = width - head.cell_length - 2
        share = found.plan.memory.total / max(1, found.plan.target.memory_free)
        if room >= _SHORTEST_BAR:
            head = joined(head, "  ", meter(share, min(_LONGEST_BAR, room)))
            remark = plain("") if brief else remark
    in_one = joined(head, "  ", remark) if remark.plain else head
    if brief or (in_one.cell_length <= width and line.name != "Memory"):
        return in_one.truncate(width, ellipsis=True)
    rows = [head.truncate(width, ellipsis=True)]
    rows += [joined(indent, (row, style)) for row in _wrapped(line.remark, width - len(indent))]
    return Content("\n").join(rows)


def _problem(error: HatcheryError, width: int) -> Content:
    rows = [joined(("✕ ", "bold $error"), (row, "")) for row in _wrapped(error.problem, width - 2)]
    for name, text in (("Found", error.found), ("Next", error.remedy)):
        if text:
            rows += [plain(row, MUTED) for row in _wrapped(f"{name}: {text}", width)]
    return Content("\n").join(rows)


def _wrapped(text: str, width: int) -> list[str]:
    """Rows of at most `width` cells; what stands between dots stays in one row."""
    text = safe(text, lines=False)
    if _DOT in text:
        text = _DOT.join(part.replace(" ", "\xa0") for part in text.split(_DOT))
    return [row.replace("\xa0", " ") for row in textwrap.wrap(text, max(20, width))]
