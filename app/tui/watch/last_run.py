"""A panel with the newest training run: its loss curve and its last sample. Of a large record only
a sample is read, so that a look costs little however long the training was."""

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from app.jobs.folder import EVENTS
from app.tui.watch import wording
from app.tui.watch.event_summary import EventSummary, Snapshot
from app.tui.watch.follower import LineTail, glance
from app.tui.watch.run_chart import curves_of
from app.tui.widgets.curve_chart import CurveChart
from app.tui.widgets.text import plain
from pipeline.runs import folders

if TYPE_CHECKING:
    from app.tui.core import AppCore

_SMOOTHING = 0.8
_LARGE = 1 << 20  # bytes of events that are read whole, 25 ms


class LastRun(NamedTuple):
    """A run's folder and what its events amount to; no folder where there is no run."""

    folder: Path | None = None
    view: Snapshot = Snapshot()


class RunReader:
    """Looks at the newest run in a folder of runs again and again."""

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._run: Path | None = None
        self._tail = LineTail(Path())
        self._summary = EventSummary()

    def read(self) -> LastRun | None:
        """The newest run, None where nothing has changed since the last call."""
        newest = _newest(self._checkpoints)
        if newest is None:
            gone, self._run = self._run, None
            return LastRun() if gone else None
        if newest != self._run or _size(newest / EVENTS) < self._tail.offset:
            self._run, self._summary = newest, EventSummary()
            self._tail = LineTail(newest / EVENTS)
        behind = self._tail.waiting()
        if not behind:
            return None
        if behind > _LARGE:
            self._summary = EventSummary()
            lines, self._tail.offset = glance(newest / EVENTS)
        else:
            lines = self._tail.read(_LARGE)
        self._summary.take_lines(lines)
        return LastRun(newest, self._summary.view()) if lines else None


class LastRunPanel(Horizontal, can_focus=True):
    """The newest run in the folder `checkpoints`, looked for every `seconds`; hidden while there is
    none with a curve. Enter or a click opens it."""

    DEFAULT_CSS = """
    LastRunPanel {
        display: none;
        CurveChart { width: 2fr; }
        VerticalScroll { width: 1fr; margin-left: 2; scrollbar-size: 0 0; }
        &.-shown { display: block; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open_run", "Open the run")]

    class Read(Message):
        """The newest run was read."""

        def __init__(self, found: LastRun) -> None:
            super().__init__()
            self.found = found

    def __init__(self, checkpoints: Path, seconds: float, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="panel")
        self._reader, self._seconds = RunReader(checkpoints), seconds
        self._reading = Lock()
        self._found = LastRun()

    def compose(self) -> ComposeResult:
        chart = CurveChart()
        chart.can_focus = False  # one stop for Tab, not three
        yield chart
        with VerticalScroll(can_focus=False):
            yield Static()

    def on_mount(self) -> None:
        self.set_interval(self._seconds, self._look)
        self._look()

    def _look(self) -> None:
        if self.screen.is_current:
            self._read()

    @work(thread=True, group="last run", exclusive=True, exit_on_error=False)
    def _read(self) -> None:
        with self._reading:  # a look that takes longer than the next one waits
            found = self._reader.read()
        if found is not None:
            self.post_message(self.Read(found))

    def on_last_run_panel_read(self, message: Read) -> None:
        self.show(message.found)

    def show(self, found: LastRun) -> None:
        """Show a run as far as it has come."""
        self._found = found
        view = found.view
        there = found.folder is not None and bool(view.curves)
        if there != self.has_class("-shown"):
            self.set_class(there, "-shown")
            self.screen.set_class(there, "-run")  # which then makes room for it
        if found.folder is None:
            return
        self.border_title = plain(f"Last run: {folders.short_name(found.folder.name)}")
        self.border_subtitle = plain(f"sample at {view.samples[-1].step:,}" if view.samples else "")
        series, colours = curves_of(view)
        self.query_one(CurveChart).show(
            series,
            colours=colours,
            smoothing=_SMOOTHING,
            until=view.total if view.unit == "steps" else None,
            number="{:.4g}".format,
        )
        self.query_one(VerticalScroll).display = bool(view.samples)
        if view.samples:
            self.query_one(Static).update(wording.sample(view))

    def on_click(self, event: events.Click) -> None:
        self.action_open_run()

    def action_open_run(self) -> None:
        if self._found.folder is not None:
            cast("AppCore", self.app).open("run", self._found.folder)


def _newest(checkpoints: Path) -> Path | None:
    """The run whose events were written last."""
    newest, when = None, 0.0
    try:
        with os.scandir(checkpoints) as entries:
            for entry in entries:
                written = _written(entry)
                if written > when:
                    newest, when = Path(entry.path), written
    except OSError:
        pass
    return newest


def _written(entry: os.DirEntry[str]) -> float:
    """When a run's events were written, in seconds since 1970; 0 of what is no run."""
    if entry.name.startswith("."):
        return 0.0
    try:
        return Path(entry.path, EVENTS).stat().st_mtime
    except (OSError, ValueError):
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
