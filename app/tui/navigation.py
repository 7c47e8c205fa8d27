"""The way to every screen. Each is imported when it is first opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from textual.screen import Screen
from textual.widget import Widget

from app.jobs.job import Job
from app.tui.core import AppCore
from pipeline.stages import find

ScreenType = TypeVar("ScreenType", bound=Screen[Any])


class Navigation(AppCore):
    """What opens the screens of the app, for keys, rows and the palette: a method `open_NAME` for
    every screen."""

    def open(self, name: str, *about: Any, **how: Any) -> None:
        getattr(self, f"open_{name}")(*about, **how)

    def _on_top(self, kind: type[ScreenType]) -> ScreenType:
        """The one screen of a kind, which one comes back to as one left it."""
        if not self.is_screen_installed(kind.__name__):
            self.install_screen(kind(), kind.__name__)
        screen = self.get_screen(kind.__name__, kind)
        if screen not in self.screen_stack:
            self.push_screen(screen)
        while self.screen is not screen:
            self.pop_screen()
        return screen

    def last_run_panel(self, id: str) -> Widget:
        """The newest run with its curve, to be put onto a screen."""
        from app.tui.watch.last_run import LastRunPanel

        return LastRunPanel(self.config.paths.checkpoints_dir, self.intervals.system, id=id)

    def open_stage(
        self,
        command: str,
        preset: Sequence[str] = (),
        *,
        retry_of: str | None = None,
        at: str | None = None,
    ) -> None:
        """The form of a stage; `preset` are arguments as typed, shown as changes in it, and `at` is
        the setting to begin at. What is started from it stands in for the job `retry_of`."""
        from app.tui.stage.screen import StageScreen

        self.push_screen(StageScreen(find(command), preset, retry_of=retry_of, at=at))

    def open_corpora(self) -> None:
        """All corpora, of which one is chosen to work on."""
        from app.tui.board.corpora_screen import CorporaScreen

        self.push_screen(CorporaScreen())

    def open_job(self, job: Job) -> None:
        """A job, live or over; it takes the place of screens about the one that it stands in for,
        to which nobody wants to come back."""
        from app.tui.watch.screen import WatchScreen

        mended = job.record.retry_of if job.record is not None else None
        while mended is not None and getattr(self.screen, "job_id", None) == mended:
            self.pop_screen()
        self.push_screen(WatchScreen(job=job))

    def open_run(self, folder: Path) -> None:
        """A training run, whoever started it."""
        from app.tui.watch.screen import WatchScreen

        self.push_screen(WatchScreen(run=folder))

    def open_doctor(self, job: Job) -> None:
        """Why a job failed, and what helps."""
        from app.tui.jobs.doctor_screen import DoctorScreen

        self.push_screen(DoctorScreen(job))

    def open_jobs(self) -> None:
        """All jobs."""
        from app.tui.jobs.screen import JobsScreen

        self.push_screen(JobsScreen())

    def open_runs(self) -> None:
        """All runs and their checkpoints."""
        from app.tui.runs.screen import RunsScreen

        self.push_screen(RunsScreen())

    def open_chat(self, model: str | None = None) -> None:
        """Talk to a model: one of the server's ids, or a run; else the one before, or the best of
        the newest run."""
        from app.tui.chat.screen import ChatScreen

        self._on_top(ChatScreen).request_model(model)

    def open_compare(self, models: Sequence[str] = ()) -> None:
        """Several models side by side, by the server's ids; without any, those that were."""
        from app.tui.compare.screen import CompareScreen

        self._on_top(CompareScreen).request_models(models)

    def open_results(self) -> None:
        """What was measured, side by side."""
        from app.tui.runs.results_screen import ResultsScreen

        self.push_screen(ResultsScreen())

    def open_scores(self, path: Path | None = None) -> None:
        """What checkpoints got at tasks: the benchmark of that file, else the newest."""
        from app.tui.runs.scores_screen import ScoresScreen

        self.push_screen(ScoresScreen(path))

    def open_votes(self) -> None:
        """What the votes between models say."""
        from app.tui.compare.votes_screen import VotesScreen

        self.push_screen(VotesScreen())

    def open_data(
        self, run: Path | None = None, step: int | None = None, examples: Path | None = None
    ) -> None:
        """The data, before and after each stage; of a run the windows of a step; or a set of
        `examples`."""
        from app.tui.data.screen import DataScreen

        self.push_screen(DataScreen(run, step, examples))

    def open_settings(self) -> None:
        """config.json."""
        from app.tui.settings.screen import SettingsScreen

        self.push_screen(SettingsScreen())

    action_jobs, action_runs, action_results = open_jobs, open_runs, open_results
    action_data, action_settings = open_data, open_settings
    action_corpora = open_corpora
