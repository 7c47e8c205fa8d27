"""The app: its keys, themes and palette, and how it begins and ends. It never imports torch."""

import gc
import os
import traceback
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from rich.segment import Segment, Segments
from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.dom import DOMNode, NoScreen
from textual.screen import Screen

from app.tui import shutdown, themes
from app.tui.core import INTERVALS, Intervals
from app.tui.navigation import Navigation
from pipeline.stages import STAGES
from utils.text import safe

_GARBAGE = 50_000  # new objects before a collection, about one screen; Python's 700 costs 0.1 s
_ORPHANED = 129  # exit code: as if the terminal had hung up


class HatcheryApp(Navigation):
    """The whole app: `app.tui.core` is its state, `app.tui.navigation` the way to its screens."""

    TITLE = "Hatchery"
    CSS_PATH = "tui.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 (Textual's own way)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?", id="help"),
        Binding("ctrl+p", "command_palette", "Commands", show=False, id="palette", priority=True),
        Binding("ctrl+t", "theme", "Light or dark", show=False, id="theme"),
        Binding("ctrl+z", "suspend_process", "To the shell", show=False, id="suspend"),
        Binding("ctrl+q", "quit", "Leave", show=False, id="leave", priority=True),
    ]

    def __init__(self, intervals: Intervals = INTERVALS) -> None:
        super().__init__(intervals)
        self.register_theme(themes.DARK)
        self.register_theme(themes.LIGHT)
        light = themes.kept_theme() == themes.LIGHT.name
        self.theme = (themes.LIGHT if light else themes.DARK).name

    def get_default_screen(self) -> Screen[Any]:
        """Home."""
        from app.tui.board.screen import BoardScreen

        return BoardScreen()

    def on_mount(self) -> None:
        if not self.is_headless:
            self._live_and_leave()
        self.call_after_refresh(self._read_settings)

    @work(thread=True, group="settings", exit_on_error=False)
    def _read_settings(self) -> None:
        """The settings and all that they import, 0.15 s that the first frame does not wait for."""
        self.reload_config()
        self.call_from_thread(self._settings_read)

    def _settings_read(self) -> None:
        gc.freeze()  # what is there now stays: a full collection would stop the keys for 50 ms
        gc.set_threshold(_GARBAGE)
        gc.enable()
        self.look_around()
        if self.config_fault is not None:
            self.open_settings()

    def _live_and_leave(self) -> None:
        """Leave at the signals that say so, and when whoever opened the app is gone."""
        shutdown.on_signals(self._leave)
        self.set_interval(shutdown.ORPHAN_CHECK, partial(self._leave_orphaned, os.getppid()))
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))  # after fg

    def _leave_orphaned(self, parent: int) -> None:
        if shutdown.orphaned(parent):
            self._leave(_ORPHANED)

    def _leave(self, code: int) -> None:
        self.exit(return_code=code)

    def _handle_exception(self, error: Exception) -> None:
        """Leave with what happened; Textual's own report would show foreign text as it is."""
        if isinstance(error, NoMatches | NoScreen) and self._late(error):
            return
        first = self._exception is None
        super()._handle_exception(error)
        if first:
            from app.jobs.runner import describe

            failed = describe(error)
            self._last_words = f"{failed.problem}\n{failed.found}\n{failed.remedy}"
        self._exit_renderables = [Segments([Segment(safe(self._last_words))])]

    def _late(self, error: NoMatches | NoScreen) -> bool:
        """Whether the parts of a screen were looked for that has been closed meanwhile; a person
        who is faster than the machine causes that on any screen.

        A message that was on its way when its screen was closed is still handled, and any
        `query_one` or `screen` in its handler then finds nothing. Asking `is_attached` in each of
        some eighty handlers would be the same thing said eighty times, and forgotten in the next.
        """
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        searched = frame.f_locals.get("self")
        while isinstance(searched, DOMNode) and not isinstance(searched, Screen | App):
            searched = searched.parent
        return searched is None or (
            isinstance(searched, Screen) and searched not in self.screen_stack
        )

    # Keys and commands.

    def action_help(self) -> None:
        from app.tui.screen import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_theme(self) -> None:
        self.theme = themes.LIGHT.name if self.theme == themes.DARK.name else themes.DARK.name
        self._keep_theme(self.theme)

    @work(thread=True, group="theme", exit_on_error=False)
    def _keep_theme(self, name: str) -> None:
        themes.keep_theme(name)

    async def action_quit(self) -> None:
        """Leave; running jobs go on, which the terminal says afterwards."""
        self.exit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        yield SystemCommand("Light or dark theme", "Change the colours", self.action_theme)
        for stage in STAGES:
            command = stage.command
            yield SystemCommand(
                f"{stage.title}: {command}",
                stage.purpose,
                lambda command=command: self.open_stage(command),
            )
        yield SystemCommand("Chat", "Talk to a model, or let it go on writing", self.open_chat)
        yield SystemCommand("Compare", "Several models on one prompt", self.open_compare)
        if self._serving is not None and self._serving.state != "off":
            yield SystemCommand(
                "Stop the model server", "Frees the memory of its models", self.stop_serving
            )
        yield SystemCommand("Jobs", "All jobs, running and ended", self.open_jobs)
        yield SystemCommand("Runs", "Training runs and their checkpoints", self.open_runs)
        yield SystemCommand("Results", "What was measured, side by side", self.open_results)
        yield SystemCommand("Scores", "What checkpoints got at tasks", self.open_scores)
        yield SystemCommand("Data", "Documents, rejects, tokens, windows", self.open_data)
        yield SystemCommand("Settings", "config.json", self.open_settings)
        yield SystemCommand("Help", "What this screen shows, and its keys", self.action_help)
        yield SystemCommand("Leave", "Close the app; jobs go on", self.action_quit)


def run() -> int:
    """Run the app until it is left, then say which jobs go on; the exit code."""
    app = HatcheryApp()
    app.run()
    if not app.is_web:
        shutdown.say_farewell(app.config.paths.logs_dir)
    return app.return_code or 0
