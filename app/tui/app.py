"""The app: its screens, keys and themes, and the few facts that every screen reads.

All work happens in jobs, which are processes of their own; this one only reads what they write.
It never imports torch.
"""

import gc
import os
import traceback
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment, Segments
from textual import on, work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.screen import Screen
from textual.signal import Signal
from textual.worker import get_current_worker

from app.jobs import lifecycle
from app.jobs.lifecycle import Job
from app.tui import preferences, shutdown
from app.tui.messages import JobsLooked, Surveyed, SystemRead
from app.tui.navigation import Places
from app.tui.system import Reading, SystemReader
from app.tui.themes import DARK, LIGHT
from pipeline.stages import STAGES, Stage
from pipeline.survey import Product
from utils.errors import HatcheryError
from utils.text import safe

if TYPE_CHECKING:
    from app.client.server_process import Serving
    from app.tui.stage.preflight import Measured
    from pipeline.options.config import Config

_GARBAGE = 50_000  # new objects before a collection, about one screen; Python's 700 costs 0.1 s
_ORPHANED = 129  # exit code: as if the terminal had hung up
_JOBS_EVERY, _SYSTEM_EVERY, _SURVEY_EVERY = 0.5, 2.0, 5.0  # seconds


class HatcheryApp(Places):
    """Screens read `config`, `jobs`, `products` and `reading`, and subscribe to the signals that
    tell when these changed."""

    TITLE = "Hatchery"
    CSS_PATH = "tui.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 (Textual's own way)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?", id="help"),
        Binding("ctrl+t", "theme", "Light or dark", show=False, id="theme"),
        Binding("ctrl+z", "suspend_process", "To the shell", show=False, id="suspend"),
        Binding("ctrl+q", "quit", "Leave", show=False, id="leave", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if preferences.kept_theme() == LIGHT.name else DARK.name
        self._config: Config | None = None
        self.config_fault: HatcheryError | None = None
        self.jobs: list[Job] = []
        self.products: dict[str, Product] = {}
        self.reading: Reading | None = None
        self.drafts: dict[str, dict[str, Any]] = {}  # changes of forms that were left, by command
        self.measured: Measured | None = None  # how fast the last probe trained
        self.jobs_changed: Signal[list[Job]] = Signal(self, "jobs changed")
        self.surveyed: Signal[dict[str, Product]] = Signal(self, "surveyed")
        self.system_read: Signal[Reading] = Signal(self, "system read")
        self.server_changed: Signal[Serving] = Signal(self, "server changed")
        self.signals: tuple[Signal[Any], ...] = (
            self.jobs_changed,
            self.surveyed,
            self.system_read,
            self.server_changed,
        )
        self._serving: Serving | None = None
        self._watch: lifecycle.Watch | None = None
        self._system: SystemReader | None = None

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
        self.call_from_thread(self._look_around)

    def _look_around(self) -> None:
        gc.freeze()  # what is there now stays: a full collection would stop the keys for 50 ms
        gc.set_threshold(_GARBAGE)
        gc.enable()
        for seconds, look in (
            (_JOBS_EVERY, self._look_at_jobs),
            (_SYSTEM_EVERY, self._read_system),
            (_SURVEY_EVERY, self.survey),
        ):
            look()
            self.set_interval(seconds, look)
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
        if isinstance(error, NoMatches) and self._late(error):
            return
        first = self._exception is None
        super()._handle_exception(error)
        if first:
            from app.jobs.runner import describe

            failed = describe(error)
            self._last_words = f"{failed.problem}\n{failed.found}\n{failed.remedy}"
        self._exit_renderables = [Segments([Segment(safe(self._last_words))])]

    def _late(self, error: NoMatches) -> bool:
        """Whether the parts of a screen were looked for that has been closed meanwhile; a person
        who is faster than the machine causes that on any screen.

        A message that was on its way when its screen was closed is still handled, and any
        `query_one` in its handler then finds nothing. Asking `is_attached` in each of some eighty
        handlers would be the same thing said eighty times, and forgotten in the next one.
        """
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        searched = frame.f_locals.get("self")
        while isinstance(searched, DOMNode) and not isinstance(searched, Screen | App):
            searched = searched.parent
        return searched is None or (
            isinstance(searched, Screen) and searched not in self.screen_stack
        )

    # What the screens read.

    @property
    def config(self) -> "Config":
        """All settings as config.json has them, read when they are first asked for."""
        if self._config is None:
            self.reload_config()
        assert self._config is not None
        return self._config

    def reload_config(self) -> None:
        """Read config.json; where it is broken, the defaults hold and `config_fault` says why."""
        from app.commands.settings import load_config
        from pipeline.options.config import Config

        try:
            self._config, self.config_fault = load_config({}), None
        except HatcheryError as error:
            self._config, self.config_fault = Config(), error
        self._watch = lifecycle.Watch(self._config.paths.logs_dir)

    @property
    def serving(self) -> "Serving":
        """The model server that all screens share; nothing runs until one asks it."""
        if self._serving is None:
            from app.client.server_process import Serving

            config = self.config
            self._serving = Serving(
                config.paths.logs_dir, self._server_changed, token=config.serve.token
            )
        return self._serving

    def _server_changed(self) -> None:
        self.server_changed.publish(self.serving)

    @work(group="serving", exit_on_error=False)
    async def stop_serving(self) -> None:
        """End the model server, which frees the memory of its models."""
        await self.serving.stop()
        self.note("The model server has ended; its memory is free")

    async def on_unmount(self) -> None:
        if self._serving is not None:
            await self._serving.stop()

    @work(thread=True, group="jobs", exclusive=True, exit_on_error=False)
    def _look_at_jobs(self) -> None:
        assert self._watch is not None
        found = self._watch.look()
        if not get_current_worker().is_cancelled and found != self.jobs:
            self.post_message(JobsLooked(found))

    @on(JobsLooked)
    def _jobs_looked(self, message: JobsLooked) -> None:
        ended = {job.id for job in self.jobs if job.state in lifecycle.ACTIVE}
        ended -= {job.id for job in message.jobs if job.state in lifecycle.ACTIVE}
        self.jobs = message.jobs
        self.jobs_changed.publish(message.jobs)
        if ended:
            self.survey()

    @work(thread=True, group="system", exclusive=True, exit_on_error=False)
    def _read_system(self) -> None:
        if self._system is None:
            self._system = SystemReader(self.config.paths.data_dir)
        self.post_message(SystemRead(self._system.read()))

    @on(SystemRead)
    def _system_was_read(self, message: SystemRead) -> None:
        self.reading = message.reading
        self.system_read.publish(message.reading)

    @work(thread=True, group="survey", exclusive=True, exit_on_error=False)
    def survey(self) -> None:
        """Look at the artefacts again."""
        from pipeline.survey import survey

        self.post_message(Surveyed(survey(self.config)))

    @on(Surveyed)
    def _was_surveyed(self, message: Surveyed) -> None:
        if message.products != self.products:
            self.products = message.products
            self.surveyed.publish(message.products)

    # What the screens ask for.

    def start_job(
        self,
        stage: Stage,
        arguments: Sequence[str],
        *,
        name: str | None = None,
        after: Sequence[str] = (),
        queued: bool = False,
        retry_of: str | None = None,
    ) -> Job | None:
        """Start `main.py STAGE ARGUMENTS` as a job that waits until the jobs of the ids `after`
        are done or, when `queued`, have ended somehow, and stands in for the job `retry_of`; None,
        and a notice, where it could not be started."""
        try:
            job = lifecycle.start(
                self.config.paths.logs_dir,
                [stage.command, *arguments],
                stage.command,
                name,
                after=after,
                queued=queued,
                retry_of=retry_of,
            )
        except HatcheryError as error:  # a full disk
            self.tell(error)
            return None
        except OSError as error:
            self.tell(HatcheryError(f"{stage.title} could not be started: {error.strerror}."))
            return None
        self._look_at_jobs()
        return job

    def tell(self, error: HatcheryError) -> None:
        """A notice of what cannot be done, and what can."""
        lines = [error.problem, error.found and f"Found: {error.found}", error.remedy]
        text = safe("\n".join(line for line in lines if line))
        self.notify(text, severity="error", timeout=12, markup=False)

    def note(self, text: str) -> None:
        """A short notice of something that went well."""
        self.notify(safe(text), markup=False)

    # Keys and commands.

    def action_help(self) -> None:
        from app.tui.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_theme(self) -> None:
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name
        self._keep_theme(self.theme)

    @work(thread=True, group="theme", exit_on_error=False)
    def _keep_theme(self, name: str) -> None:
        preferences.keep_theme(name)

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
        yield SystemCommand("Data", "Documents, rejects, tokens, windows", self.open_peek)
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
