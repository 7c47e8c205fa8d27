"""Follows the growing files of a job or a training run, and finds who trains a run. Knows no
widgets.

A job writes events.jsonl and output.log into its folder; what belongs to a step of a training run
is in the run's own events.jsonl, which every later job that resumes it goes on with. So the curves
of a run are whole whoever trained it, and whoever watched.

Each look does a bounded amount of work, whatever has been written since the last one, and never
fails: a file may not be there yet, shrink, or be deleted while it is watched.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from app.jobs.folder import EVENTS, OUTPUT, trained_run
from app.jobs.job import Job
from app.tui.watch.event_summary import EventSummary, Note, Snapshot
from pipeline.event_search import search
from pipeline.events import Event, Saved, Started
from pipeline.runs.validations import validations

_SLICE = 1 << 20  # bytes of events per look: 25 ms
_LARGE = 8 << 20  # bytes that are glanced at before they are read
_JOBS_SEARCHED = 20
_LONGEST_LINE = 16 << 20

# The end of a log that is kept: bytes read at once, lines, characters of a line.
_LOG_READ = 256 << 10
_LOG_LINES = 2000
_LOG_WIDTH = 1000

# A glance: so many pieces of so many bytes, the last bytes, the validations.
_BLOCKS, _BLOCK = 240, 4096
_NEWEST = 128 << 10
_RECENT = 8  # of the newest validations, also the events right after them
_MOST_VALIDATIONS = 8192
_TOGETHER = 4  # a validation, its sample, its checkpoint, and one line more


class LineTail:
    """The whole lines of a growing file, each once, from `offset` bytes on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def waiting(self) -> int:
        """Bytes not read yet; a file that has shrunk was made anew and is read from its start."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return 0
        if size < self.offset:
            self.offset = 0
        return size - self.offset

    def read(self, limit: int) -> list[bytes]:
        """The next lines, of about `limit` bytes; the one still being written waits."""
        data = b""
        with suppress(OSError), self.path.open("rb") as handle:
            handle.seek(self.offset)
            data = handle.read(limit)
            while len(data) == limit and b"\n" not in data and limit < _LONGEST_LINE:
                data += handle.read(limit)
                limit *= 2
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and len(data) >= _LONGEST_LINE:
            whole = data  # no line of ours: passed over
        self.offset += len(whole)
        return whole.split(b"\n")[:-1] if whole else []


class LogTail:
    """The last lines of a log that may grow faster than anyone can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._torn = b""
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)

    def read(self) -> bool:
        """Catch up; whether there was anything new. What the ring could not hold is skipped."""
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return False
            if size < self._offset:
                self._offset, self._torn = 0, b""  # made anew
            start = max(self._offset, size - _LOG_READ)
            with self._path.open("rb") as handle:
                handle.seek(start)
                data = handle.read(size - start)
        except OSError:
            return False
        if start > self._offset:
            self._torn = b""
            data = data[data.find(b"\n") + 1 :]
        self._offset = size
        *whole, torn = (self._torn + data).split(b"\n")
        self._torn = torn[-_LOG_READ:]
        self._lines.extend(map(_readable, whole[-_LOG_LINES:]))
        return True

    def lines(self) -> tuple[str, ...]:
        """The last lines, the unfinished one included."""
        unfinished = (_readable(self._torn),) if self._torn else ()
        return (*self._lines, *unfinished)


def _readable(line: bytes) -> str:
    """A line as a terminal would leave it: what follows the last carriage return."""
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown[: 4 * _LOG_WIDTH].decode(errors="replace").expandtabs()[:_LOG_WIDTH]


def glance(path: Path) -> tuple[list[bytes], int]:
    """A large file of events in short: evenly spaced pieces, all validations, and its end.

    Returns the lines in their order, and the offset where the rest begins. 300 MB take 0.2 s.
    """
    found: dict[int, bytes] = {}
    with suppress(OSError), path.open("rb") as handle:
        size = path.stat().st_size
        newest = max(0, size - _NEWEST)
        for number in range(_BLOCKS):
            found |= _whole_lines(handle, newest * number // _BLOCKS, _BLOCK)
        kept = _validations(handle, size)
        found |= kept
        for begin in list(kept)[-_RECENT:]:
            handle.seek(begin)
            for _ in range(_TOGETHER):
                start = handle.tell()
                line = handle.readline(_LONGEST_LINE)
                if line.endswith(b"\n"):
                    found[start] = line
        found |= _whole_lines(handle, newest, size - newest)
        end = max((start + len(line) for start, line in found.items()), default=0)
        return [found[start] for start in sorted(found)], end
    return [], 0


def _whole_lines(handle: IO[bytes], start: int, size: int) -> dict[int, bytes]:
    """The lines that lie wholly within `size` bytes from `start`, by where they begin."""
    handle.seek(start)
    data = handle.read(size)
    at = 0 if start == 0 else data.find(b"\n") + 1
    lines = {}
    while end := data.find(b"\n", at) + 1:
        lines[start + at] = data[at:end]
        at = end
    return lines


def _validations(handle: IO[bytes], end: int) -> dict[int, bytes]:
    """The lines of the validations before `end` by where they begin, oldest first; evenly thinned
    where there are too many, but with the newest."""
    kept: list[tuple[int, bytes]] = []
    recent: deque[tuple[int, bytes]] = deque(maxlen=_RECENT)
    every = 1
    for number, (found, _) in enumerate(validations(handle, 0, end)):
        recent.append((found.start, found.line))
        if number % every == 0:
            kept.append(recent[-1])
        if len(kept) > _MOST_VALIDATIONS:
            del kept[1::2]
            every *= 2
    return dict(sorted({*kept, *recent}))


class EventFile:
    """The summary of one events.jsonl. Of a large one a sample is summed up at once, while the
    whole is read piece by piece behind it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._summary, self._tail = EventSummary(), LineTail(path)
        self._glanced: tuple[EventSummary, LineTail] | None = None

    def read(self) -> bool:
        """Read on; whether there is something new to show."""
        behind = self._tail.waiting()
        if behind == 0:
            return False
        if behind > _LARGE and self._glanced is None:
            lines, end = glance(self._path)
            self._glanced = EventSummary(), LineTail(self._path, end)
            self._glanced[0].take_lines(lines)
            return True
        lines = self._tail.read(_SLICE)
        self._summary.take_lines(lines)
        if self._glanced is None:
            return bool(lines)
        if not lines or self._tail.waiting() == 0:
            self._glanced = None
            return True
        summary, tail = self._glanced
        newer = tail.read(_SLICE) if tail.waiting() else []
        summary.take_lines(newer)
        return bool(newer)

    @property
    def complete(self) -> bool:
        """Whether every event counts, not a sample of them."""
        return self._glanced is None

    def view(self) -> Snapshot:
        """What there is now."""
        return (self._glanced[0] if self._glanced else self._summary).view()


def _with_checkpoints(job: Snapshot, run: Snapshot) -> tuple[Note, ...]:
    """The notes of a job, with the checkpoints that its training has saved: those are recorded
    with the run, before the next training that goes on with it."""
    began = job.run_began
    if began is None:
        return job.notes
    starts = [note.time for note in run.notes if note.kind == "started" and note.time > began]
    over = min(starts, default=math.inf)
    saved = [note for note in run.notes if note.kind == "saved" and began <= note.time < over]
    return tuple(sorted({*job.notes, *saved}, key=lambda note: note.time))


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

    def view(self) -> Snapshot:
        """What there is now."""
        parts = [file.view() for file in (self._job, self._run) if file is not None]
        view = parts[0] if parts else Snapshot()
        if len(parts) == 2 and parts[1].curves:
            reported = parts[1]
            view = view._replace(
                curves=reported.curves,
                values=reported.values,
                before=reported.before,
                step=reported.step,
                samples=reported.samples or view.samples,
            )
        if len(parts) == 2:
            view = view._replace(notes=_with_checkpoints(view, parts[1]))
        return view._replace(
            log=self._log.lines() if self._log else (),
            overlays={run.name: file.view().curves for run, file in self._overlays.items()},
        )


def holder(run: Path) -> int | None:
    """The process that has the run open for writing, None where there is none.

    Read from the lock file: trying the lock itself could make a training that starts at
    this moment fail. A process younger than that note is another one of the same number.
    """
    lock = run / ".lock"
    try:
        pid, written = int(lock.read_bytes().split()[0]), lock.stat().st_mtime
        process = psutil.Process(pid)
        alive = process.status() != psutil.STATUS_ZOMBIE
        return pid if alive and process.create_time() <= written + 1 else None
    except (OSError, ValueError, IndexError, OverflowError, psutil.Error):
        return None


def job_of(run: Path, jobs: Iterable[Job]) -> Job | None:
    """The newest of `jobs`, newest first, that trains or trained the run."""
    mark = re.compile(re.escape(run.name.encode(errors="replace")))
    for job in list(jobs)[:_JOBS_SEARCHED]:
        if (trained := trained_run(job.folder)) is not None:
            if trained[0].resolve() == run.resolve():
                return job
            continue
        with suppress(OSError), (job.folder / EVENTS).open("rb") as handle:
            end = handle.seek(0, 2)
            for found in search(handle, mark, 0, end):
                if _trained(found.event) == run.name:
                    return job
    return None


def _trained(event: Event) -> str:
    """The name of the run that an event belongs to, empty where it says none. Files of versions
    that did not record the run at the start still say where its checkpoints were saved."""
    if isinstance(event, Started):
        return Path(event.run).name
    if isinstance(event, Saved) and event.kind == "checkpoint":
        return Path(event.path).parent.name
    return ""
