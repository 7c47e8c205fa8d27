"""A job or a training run, live: how far it is, its curves, what it writes, and how it ended."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.worker import Worker, get_current_worker

from app.jobs import lifecycle
from app.jobs.job import ACTIVE, FAILED, Job
from app.tui.screen import HatcheryScreen
from app.tui.watch import wording
from app.tui.watch.event_summary import Snapshot
from app.tui.watch.follower import Follower, holder, job_of
from app.tui.watch.overlays import Overlays
from app.tui.watch.panels import RunPanels
from app.tui.watch.run_chart import RunChart
from app.tui.widgets.text import joined
from pipeline.events import Finished
from pipeline.runs import folders
from utils.errors import HatcheryError

_CHANGING = ("log_axis", "scores", "save", "stop", "kill", "resume", "doctor", "leave")
_CHART_ACTIONS = ("log_axis", "smoothing", "overlay", "chart", "batch")


class SnapshotReady(Message):
    """The files were read; `held_by` is the process that trains the run."""

    def __init__(self, view: Snapshot, run: Path | None, held_by: int | None) -> None:
        super().__init__()
        self.view, self.run, self.held_by = view, run, held_by


class JobFound(Message):
    """The job that trains the watched run."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job


class WatchScreen(HatcheryScreen):
    """Reads in a thread and shows at most ten times a second what has changed."""

    HELP = (
        "A job goes on whether this screen is open or not; Esc only leaves it. The line on top "
        "says how far it is.\n\n"
        "A training shows its curves: the solid line is the training loss, dots are validations, "
        "dotted lines are other runs (v). ▲ at the upper edge marks values beyond the scale. "
        "← and → or the mouse read off a step, b shows the text of its batch.\n\n"
        "A benchmark tells each score as it comes; once it is over, b shows them side by side.\n\n"
        "s asks a training for a checkpoint now. x asks a job to finish its step, save and end; x "
        "once more ends it at once. r goes on with a training that was stopped."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log_axis", "Log axis", id="watch.log_axis"),
        Binding("m", "smoothing", "Smooth", id="watch.smoothing"),
        Binding("v", "overlay", "Overlay", id="watch.overlay"),
        Binding("t", "chart", "Next chart", show=False, id="watch.chart"),
        Binding("g", "below", "Notes or log", show=False, id="watch.below"),
        Binding("b", "batch", "This batch", show=False, id="watch.batch"),
        Binding("b", "scores", "Scores", id="watch.scores"),
        Binding("s", "save", "Save now", id="watch.save"),
        Binding("x", "stop", "Stop", id="watch.stop"),
        Binding("x", "kill", "End at once", id="watch.kill"),
        Binding("r", "resume", "Resume", id="watch.resume"),
        Binding("d", "doctor", "Why it failed", id="watch.doctor"),
        Binding("escape", "leave", "Back (it goes on)", id="watch.leave"),
        Binding("escape", "back", "Back"),
    ]

    def __init__(self, job: Job | None = None, run: Path | None = None) -> None:
        self._job = job
        super().__init__(*self._trail(job, run))
        self._run = run
        self._view = Snapshot()
        self._held_by: int | None = None
        self._stopping = False
        self._keys: list[str] = []
        self._fact: Content | None = None
        self._shown = threading.Event()
        self._shown.set()
        self._posted = self._next_look = 0.0
        self._reading = threading.Lock()
        self._by_run = self._seeking = run is not None
        self._follower: Follower | None = None
        self._following: Worker[None] | None = None

    @property
    def job_id(self) -> str | None:
        return self._job.id if self._job is not None else None

    def _trail(self, job: Job | None, run: Path | None) -> tuple[str, ...]:
        if job is not None:
            return "jobs", f"{job.stage} {job.called or ''} {job.id}".replace("  ", " ")
        return "runs", run.name if run else "?"

    def content(self) -> ComposeResult:
        yield RunPanels()

    def on_mount(self) -> None:
        folder = self._job.folder if self._job else None
        checkpoints = self.hatchery.config.paths.checkpoints_dir
        if self._job is not None and self._job.record is not None:
            checkpoints = Path(self._job.record.cwd) / checkpoints
        self._follower = Follower(checkpoints, folder, self._run)
        self.hatchery.jobs_changed.subscribe(self, self._jobs_changed)
        self.set_interval(1.0, self._tick)
        self.query_one(RunChart).take_focus()
        self._show()

    def on_screen_resume(self) -> None:
        self._following = self._follow()

    def on_screen_suspend(self) -> None:
        if self._following is not None:
            self._following.cancel()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    # Reading.

    @work(thread=True, group="follow", exclusive=True, exit_on_error=False)
    def _follow(self) -> None:
        worker, follower, every = get_current_worker(), self._follower, self.hatchery.intervals
        assert follower is not None
        changed, held_by, checked, pause = True, None, -every.holder, every.log
        while not worker.is_cancelled:
            with self._reading:
                if self._seeking:
                    self._seek(follower)
                news = follower.read()
                changed = news or changed
                if self._job is None and time.monotonic() - checked >= every.holder:
                    checked, before = time.monotonic(), held_by
                    held_by = holder(follower.run) if follower.run else None
                    changed = changed or held_by != before
                if changed and self._shown.is_set() and time.monotonic() >= self._next_look:
                    self._shown.clear()
                    changed, self._posted = False, time.monotonic()
                    self.post_message(SnapshotReady(follower.view(), follower.run, held_by))
            pause = every.log if news else min(every.silent_log, 1.2 * pause)
            time.sleep(pause)

    def _seek(self, follower: Follower) -> None:
        """Find the job behind a run that was opened by its folder."""
        self._seeking = False
        if follower.run is None:
            return
        job = job_of(follower.run, self.hatchery.jobs)
        if job is None or (self._job is not None and job.folder == self._job.folder):
            return
        if job.state in ACTIVE or holder(follower.run) is None:
            follower.attach(job.folder)
            self.post_message(JobFound(job))

    @on(JobFound)
    def _job_found(self, message: JobFound) -> None:
        self._job = message.job

    @on(SnapshotReady)
    def _snapshot_ready(self, message: SnapshotReady) -> None:
        self._view, self._run, self._held_by = message.view, message.run, message.held_by
        self._show()
        self.call_after_refresh(self._painted)

    def _painted(self) -> None:
        """Leave keys six times the time that painting took, however busy the machine is."""
        now = time.monotonic()
        self._next_look = now + 6 * (now - self._posted)
        self._shown.set()

    def _jobs_changed(self, found: list[Job]) -> None:
        if self._job is not None:
            before = self._job
            gone = before._replace(state="died") if before.state in ACTIVE else before
            self._job = next((job for job in found if job.folder == before.folder), gone)
            if self._job.state != before.state:
                self._show()
        if self._by_run and not self._live:
            self._seeking = any(job.state in ACTIVE for job in found)

    # Showing.

    @property
    def _state(self) -> str:
        return wording.state_of(self._view, self._job, held=self._held_by is not None)

    @property
    def _live(self) -> bool:
        return self._state in ACTIVE

    def _tick(self) -> None:
        if self._live and self.is_current:
            self._show_head()

    def _show_head(self) -> None:
        brief = self.has_class("-narrow")
        fact = wording.headline(self._view, self._job, self._state, time.time(), brief=brief)
        if self._stopping and self._live:
            sentence = "stopping" if brief else "stopping, it saves first; x again ends it at once"
            fact = joined((f"{sentence}  ", "$warning"), fact)
        if fact != self._fact:
            self._fact = fact
            self.header.fact(fact)

    def _show(self) -> None:
        if not self.is_mounted:
            return
        self._show_head()
        self.query_one(RunPanels).show(self._view, self._job, self._state)
        self._refresh_keys()

    def _refresh_keys(self) -> None:
        """Tell the footer only when it changes: it is built anew each time."""
        keys = [name for name in _CHANGING if self.check_action(name, ())]
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _CHART_ACTIONS:
            return bool(self._view.curves)
        allowed: dict[str, Callable[[], bool]] = {
            "save": lambda: self._live and self._run is not None and bool(self._view.curves),
            "stop": lambda: self._live and not self._stopping,
            "kill": lambda: self._live and self._stopping,
            "resume": lambda: self._run is not None and self._state == "stopped",
            "scores": lambda: wording.scores_of(self._view) is not None,
            "doctor": lambda: self._job is not None and self._state in FAILED,
            "leave": lambda: self._live,
            "back": lambda: not self._live,
        }
        return allowed[action]() if action in allowed else True

    def action_log_axis(self) -> None:
        self.query_one(RunChart).toggle_log_axis()

    def action_smoothing(self) -> None:
        self.query_one(RunChart).smooth()

    def action_chart(self) -> None:
        self.query_one(RunChart).next()

    def action_below(self) -> None:
        self.query_one(RunPanels).turn()

    def action_overlay(self) -> None:
        """Open or close the list of other runs."""
        overlays = self.query_one(Overlays)
        if overlays.display:
            overlays.close()
            self.query_one(RunChart).take_focus()
        elif not overlays.open(self.hatchery.config.paths.checkpoints_dir, self._run):
            self.hatchery.note("There is no other run to lay over this one")

    @on(Overlays.Changed)
    def _overlaid(self, message: Overlays.Changed) -> None:
        if self._follower is not None:
            self._follower.overlay(message.runs)

    def action_batch(self) -> None:
        """The texts of the batch at the cursor's step, or at the newest one."""
        cursor = self.query_one(RunChart).cursor
        step = round(cursor) if cursor is not None else self._view.step
        self.hatchery.open("data", self._run, step)

    def action_scores(self) -> None:
        """What a benchmark found, with its curves."""
        final = self._view.final
        path = final.path if isinstance(final, Finished) else None
        self.hatchery.open("scores", None if path is None else Path(path))

    def action_save(self) -> None:
        if self._run is None:
            return
        try:
            folders.request_save(self._run)
        except OSError as error:
            self.hatchery.tell(HatcheryError(f"No checkpoint: {self._run}: {error.strerror}."))
        else:
            self.hatchery.note("A checkpoint is saved after this step")

    def action_stop(self) -> None:
        if self._job is None:
            self.hatchery.note(
                f"It was started in another terminal, as process {self._held_by}: "
                "Ctrl-C stops it there"
            )
            return
        self._end(lifecycle.interrupt)
        self._stopping = True
        self.hatchery.note("It finishes its step, saves and ends; x again ends it at once")
        self._show()

    def action_kill(self) -> None:
        self._end(lifecycle.kill)

    def _end(self, how: Callable[[Job], None]) -> None:
        assert self._job is not None
        try:
            how(self._job)
        except HatcheryError as error:
            self.hatchery.tell(error)

    def action_resume(self) -> None:
        if self._run is not None:
            trained_by = folders.trained_by(self._run)
            self.hatchery.open("stage", trained_by, ["--resume", self._run.name])

    def action_doctor(self) -> None:
        if self._job is not None:
            self.hatchery.open("doctor", self._job)

    def action_leave(self) -> None:
        self.action_back()

    def action_back(self) -> None:
        if self.query_one(Overlays).display:
            self.action_overlay()
        else:
            super().action_back()
