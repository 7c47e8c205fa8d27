"""What a job has reported: its events, read from the end, from the beginning, or as they come.

A job records its events in its own events.jsonl, but for what belongs to a step of a training run:
that stands once, in the run's events.jsonl, which outlives the job and which every later training
of the run continues. Reading a job reads both. Nothing here fails: a file may be torn, damaged,
deleted while it is read, or of a newer version.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from app.jobs.folder import EVENTS, read_tail, trained_run
from pipeline import events
from pipeline.event_search import search
from pipeline.events import Event

_REPLAYED_BYTES = 4 << 20
_READ_BYTES = 1 << 18
_NOTES_REPLAYED = 20
_REJECTIONS_REPLAYED = 3
_STARTED = re.compile(rb'"started"')

OF_A_STEP = (events.Metric, events.Sample, events.Saved)
_EventKind = TypeVar("_EventKind", bound=Event)


def belongs_to_step(event: Event) -> bool:
    """Whether an event belongs to a step of a training run: metrics, samples and checkpoints."""
    if isinstance(event, events.Sample):
        return event.step is not None
    if isinstance(event, events.Saved):
        return event.kind == "checkpoint"
    return isinstance(event, events.Metric)


def last_progress(folder: Path) -> events.Progress | None:
    """How far the job was when it last reported it."""
    for event in reversed(_parse(read_tail(folder / EVENTS, 65536))):
        if isinstance(event, events.Progress):
            return event
        if isinstance(event, events.Started | events.Finished | events.Failed):
            return None
    return None


def last_event(
    folder: Path, kind: type[_EventKind], accept: Callable[[_EventKind], bool] = lambda _: True
) -> _EventKind | None:
    """The last event of a kind that `accept` takes; a long history is read from its end."""
    found = _last_of(folder / EVENTS, kind, accept)
    trained = trained_run(folder)
    if trained is not None and issubclass(kind, OF_A_STEP):
        path, start = trained[0] / EVENTS, trained[1]
        of_run = _last_of(path, kind, accept, start, _end_of_part(path, start))
        found = max(filter(None, (found, of_run)), key=lambda event: event.time, default=None)
    return found


def _last_of(
    path: Path,
    kind: type[_EventKind],
    accept: Callable[[_EventKind], bool],
    start: int = 0,
    end: int | None = None,
) -> _EventKind | None:
    """That of one file, between two offsets."""
    tag = f'"{kind.__struct_config__.tag}"'.encode()
    size = _READ_BYTES
    while True:
        data = read_tail(path, size, start, end)
        lines = b"\n".join(line for line in data.split(b"\n") if tag in line)
        for event in reversed(_parse(lines)):
            if isinstance(event, kind) and accept(event):
                return event
        if len(data) < size:
            return None
        size *= 16


def _end_of_part(path: Path, start: int) -> int:
    """Where the next training that goes on with the run begins in its events, in bytes; else the
    end of the file."""
    with suppress(OSError), path.open("rb") as handle:
        end = handle.seek(0, 2)
        for found in search(handle, _STARTED, start, end):
            if isinstance(found.event, events.Started):
                return found.start
        return end
    return start


def failure(folder: Path) -> events.Failed | None:
    """The failure that the job ended with."""
    return last_event(folder, events.Failed)


def _parse(lines: bytes) -> list[Event]:
    """Events of whole lines; a torn one or one of a newer version is passed over."""
    found = []
    for line in lines.split(b"\n"):
        with suppress(msgspec.DecodeError):
            found.append(events.from_json(line))
    return found


class EventReader:
    """Reads the events of a job, each once, from its own file and from its part of the events of
    the run that it trains."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = _GrowingFile(folder / EVENTS)
        self._run: _RunPart | None = None

    def replay(self) -> tuple[list[Event], int]:
        """What is worth showing of the past, and how many notes were left out.

        A file larger than 4 MiB is read from its last 4 MiB.
        """
        first = self._own.skip()
        self._find_run()
        if self._run is not None:
            self._run.skip()
        kept, left_out = compress(self.read())
        return [*first, *kept], left_out

    def read(self) -> list[Event]:
        """The events written since the last call; a line still being written waits."""
        own = self._own.read()
        self._find_run()  # only now: a run is recorded before the job says that it has started
        if self._run is None:
            return own
        return sorted([*own, *self._run.read()], key=lambda event: event.time)

    def _find_run(self) -> None:
        if self._run is None and (trained := trained_run(self._folder)) is not None:
            self._run = _RunPart(*trained)


class _GrowingFile:
    """Reads the events of a growing file, each once, from `offset` bytes on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    def skip(self) -> list[Event]:
        """Go on near the end of a large file; its first event."""
        with suppress(OSError), self._path.open("rb") as handle:
            start = max(0, self._path.stat().st_size - _REPLAYED_BYTES)
            if start > self._offset:
                handle.seek(self._offset)
                first = _parse(handle.readline(65536))
                self._offset = start
                return first
        return []

    def read(self) -> list[Event]:
        """The events written since the last call; a line still being written waits."""
        try:
            with self._path.open("rb") as handle:
                handle.seek(self._offset)
                data = handle.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return _parse(whole)


class _RunPart:
    """What one job has recorded in the events of a run: the steps from `offset` bytes on, until
    another training goes on with it."""

    def __init__(self, run: Path, offset: int) -> None:
        self._path, self._begin = run / EVENTS, offset
        self._file = _GrowingFile(self._path, offset)
        self._over = False

    def skip(self) -> None:
        """Go on near the end of a large part."""
        end = _end_of_part(self._path, self._begin)
        start = max(self._begin, end - _REPLAYED_BYTES)
        self._file = _GrowingFile(self._path, start)

    def read(self) -> list[Event]:
        """The events of steps written since the last call."""
        found: list[Event] = []
        for event in self._file.read() if not self._over else ():
            if isinstance(event, events.Started):
                self._over = True
                break
            if belongs_to_step(event):
                found.append(event)
        return found


def compress(history: Sequence[Event]) -> tuple[list[Event], int]:
    """The past without superseded progress and finished streams, and only its latest notes.

    Returns what is kept, in order, and the number of notes left out.
    """
    kept = list(_worth_showing(reversed(history)))
    notes = [event for event in history if _is_note(event)]
    return kept[::-1], max(0, len(notes) - _NOTES_REPLAYED)


def _worth_showing(newest_first: Iterator[Event]) -> Iterator[Event]:
    notes = rejections = 0
    progress_known = text_known = False
    for event in newest_first:
        if isinstance(event, events.Started | events.Finished | events.Failed):
            progress_known = text_known = True
            yield event
        elif isinstance(event, events.Progress):
            if not progress_known:
                yield event
            progress_known = True
        elif isinstance(event, events.Delta):
            if not text_known:
                yield event
        elif isinstance(event, events.Rejected):
            rejections += 1
            if rejections <= _REJECTIONS_REPLAYED:
                yield event
        elif _is_note(event):
            text_known = text_known or isinstance(event, events.Sample)
            notes += 1
            if notes <= _NOTES_REPLAYED:
                yield event


def _is_note(event: Event) -> bool:
    if isinstance(event, events.Metric):
        return event.kind in ("validation", "benchmark")
    return isinstance(
        event,
        events.Sample
        | events.Example
        | events.Saved
        | events.Warned
        | events.StageVerdict
        | events.Scored,
    )
