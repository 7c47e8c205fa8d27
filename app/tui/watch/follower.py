"""Follows the files of a job or a training run. Knows no widgets.

A job writes events.jsonl and output.log into its folder; a training run writes events.jsonl into
its own, which every later job that resumes it goes on with. So the curves of a run are whole
whoever trained it, and whoever watched.
"""

from collections.abc import Sequence
from pathlib import Path

from app.jobs.folder import EVENTS, OUTPUT
from app.tui.watch.event_summary import Story, View
from app.tui.watch.tail import LineTail, LogTail, glance

_SLICE = 1 << 20  # bytes of events per look: 25 ms
_LARGE = 8 << 20  # bytes that are glanced at before they are read


class EventFile:
    """The story of one events.jsonl. Of a large one a sample is told at once, while the whole is
    read piece by piece behind it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._story, self._tail = Story(), LineTail(path)
        self._glanced: tuple[Story, LineTail] | None = None

    def read(self) -> bool:
        """Read on; whether there is something new to show."""
        behind = self._tail.waiting()
        if behind == 0:
            return False
        if behind > _LARGE and self._glanced is None:
            lines, end = glance(self._path)
            self._glanced = Story(), LineTail(self._path, end)
            self._glanced[0].take_lines(lines)
            return True
        lines = self._tail.read(_SLICE)
        self._story.take_lines(lines)
        if self._glanced is None:
            return bool(lines)
        if not lines or self._tail.waiting() == 0:
            self._glanced = None
            return True
        story, tail = self._glanced
        newer = tail.read(_SLICE) if tail.waiting() else []
        story.take_lines(newer)
        return bool(newer)

    @property
    def complete(self) -> bool:
        """Whether every event counts, not a sample of them."""
        return self._glanced is None

    def view(self) -> View:
        """What there is now."""
        return (self._glanced[0] if self._glanced else self._story).view()


class Follower:
    """A job, a run, or a job and the run it trains."""

    def __init__(self, checkpoints: Path, job: Path | None = None, run: Path | None = None) -> None:
        self.run = run
        self._checkpoints = checkpoints
        self._job = EventFile(job / EVENTS) if job else None
        self._log = LogTail(job / OUTPUT) if job else None
        self._run = EventFile(run / EVENTS) if run else None
        self._overlays: dict[Path, EventFile] = {}

    def attach(self, job: Path) -> None:
        """Follow the job that trains the run, too."""
        self._job, self._log = EventFile(job / EVENTS), LogTail(job / OUTPUT)

    def overlay(self, runs: Sequence[Path]) -> None:
        """Read these other runs, too, and no others."""
        known = self._overlays
        self._overlays = {run: known.get(run) or EventFile(run / EVENTS) for run in runs}

    def read(self) -> bool:
        """Read what has been written since the last call, a bounded amount of it; whether there
        is something new to show."""
        files = [self._job, self._run, *list(self._overlays.values())]
        changed = [file.read() for file in files if file is not None]
        changed.append(self._log is not None and self._log.read())
        if self._job is not None and changed[0]:
            self._find_run()
        return any(changed)

    def _find_run(self) -> None:
        """The run folder that the job's events name, once it is there."""
        assert self._job is not None
        name = self._job.view().run
        if name and (self.run is None or self.run.name != name):
            folder = self._checkpoints / name
            if (folder / EVENTS).is_file():
                self.run, self._run = folder, EventFile(folder / EVENTS)
                self._run.read()

    def view(self) -> View:
        """What there is now."""
        parts = [file.view() for file in (self._job, self._run) if file is not None]
        view = parts[0] if parts else View()
        if len(parts) == 2 and parts[1].curves:
            told = parts[1]
            view = view._replace(
                curves=told.curves,
                values=told.values,
                before=told.before,
                step=told.step,
                samples=told.samples or view.samples,
            )
        return view._replace(
            log=self._log.lines() if self._log else (),
            overlays={run.name: file.view().curves for run, file in self._overlays.items()},
        )
