"""What a job writes and what can be read back: job.json, began.json, events.jsonl, output.log,
exit.json.

The folder is the only link between a job and whoever watches it. Reading never fails: a folder
may be half-written, deleted while watched, or made by a newer version. Knows no processes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline import events
from pipeline.events import Event
from utils.errors import HatcheryError
from utils.files import write_json

JOB_FOLDER = "HATCHERY_JOB"
"""Environment variable that tells a process which job folder it writes to."""

EVENTS, OUTPUT = "events.jsonl", "output.log"
_RECORD, _BEGAN, _EXIT = "job.json", "began.json", "exit.json"
_REPLAYED_BYTES = 4 << 20
_READ_BYTES = 1 << 18
_NOTES_REPLAYED = 20
_REJECTIONS_REPLAYED = 3


class Record(msgspec.Struct, frozen=True):
    """job.json: the command, and which process on which machine it is.

    `after` are ids of jobs that must be done before this one begins; `queued` says that it is
    enough when they have ended, however they did. `retry_of` is the job that this one stands in
    for.
    """

    argv: list[str]
    stage: str
    name: str | None
    pid: int
    process_start: str
    host: str
    cwd: str
    started: float
    versions: dict[str, str]
    after: tuple[str, ...] = ()
    queued: bool = False
    retry_of: str | None = None


class Began(msgspec.Struct, frozen=True):
    """began.json: when a job that waited for others went on to its work."""

    began: float


class Exit(msgspec.Struct, frozen=True):
    """exit.json: how the job ended; written by the job itself, or by whoever killed it.

    `signal` names the one that asked it to stop.
    """

    exit_code: int
    ended: float
    killed: bool = False
    signal: str | None = None


_Kind = TypeVar("_Kind", Record, Began, Exit)
_EventKind = TypeVar("_EventKind", bound=Event)


def job_id(folder: Path) -> str:
    """The id in a job folder's name."""
    return folder.name.rpartition("-")[2]


def write_record(folder: Path, record: Record) -> None:
    """Write job.json."""
    write_json(folder / _RECORD, msgspec.to_builtins(record))


def record_began(folder: Path) -> None:
    """Write began.json.

    Raises:
        OSError, DiskFullError: there is no folder or no room.
    """
    write_json(folder / _BEGAN, msgspec.to_builtins(Began(time.time())))


def record_exit(
    folder: Path, code: int, *, killed: bool = False, signal: str | None = None
) -> None:
    """Write exit.json, if there is a folder and room; without it the job is shown as died."""
    if folder.is_dir():
        ended = Exit(int(code), time.time(), killed, signal)
        with suppress(OSError, HatcheryError):
            write_json(folder / _EXIT, msgspec.to_builtins(ended))


def read_record(folder: Path) -> Record | None:
    """job.json, None where it is missing or cannot be understood."""
    return _read(folder / _RECORD, Record)


def read_began(folder: Path) -> Began | None:
    """began.json, None where the job waits or never had to."""
    return _read(folder / _BEGAN, Began)


def read_exit(folder: Path) -> Exit | None:
    """exit.json, None where the job has not ended by itself."""
    return _read(folder / _EXIT, Exit)


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def output_tail(folder: Path, lines: int = 12) -> str:
    """The last lines of output.log, empty where there are none."""
    return "\n".join(_tail(folder / OUTPUT, 16384).decode(errors="replace").splitlines()[-lines:])


def last_progress(folder: Path) -> events.Progress | None:
    """How far the job was when it last said so."""
    for event in reversed(_parse(_tail(folder / EVENTS, 65536))):
        if isinstance(event, events.Progress):
            return event
        if isinstance(event, events.Started | events.Finished | events.Failed):
            return None
    return None


def last_event(
    folder: Path, kind: type[_EventKind], accept: Callable[[_EventKind], bool] = lambda _: True
) -> _EventKind | None:
    """The last event of a kind that `accept` takes; a long history is read from its end."""
    tag = f'"{kind.__struct_config__.tag}"'.encode()
    size, path = _READ_BYTES, folder / EVENTS
    while True:
        data = _tail(path, size)
        lines = b"\n".join(line for line in data.split(b"\n") if tag in line)
        for event in reversed(_parse(lines)):
            if isinstance(event, kind) and accept(event):
                return event
        if len(data) < size:
            return None
        size *= 16


def failure(folder: Path) -> events.Failed | None:
    """What the job said when it failed."""
    return last_event(folder, events.Failed)


def _tail(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - size))
            return handle.read(size)
    except OSError:
        return b""


def _parse(lines: bytes) -> list[Event]:
    """Events of whole lines; a torn one or one of a newer version is passed over."""
    found = []
    for line in lines.split(b"\n"):
        with suppress(msgspec.DecodeError):
            found.append(events.from_json(line))
    return found


class EventReader:
    """Reads the events of a growing file, each once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS
        self._offset = 0

    def replay(self) -> tuple[list[Event], int]:
        """What is worth showing of the past, and how many notes were left out.

        A file larger than 4 MiB is read from its last 4 MiB.
        """
        with suppress(OSError):
            self._offset = max(0, self._path.stat().st_size - _REPLAYED_BYTES)
        if self._offset == 0:
            return compress(self.read())
        with suppress(OSError), self._path.open("rb") as handle:
            first = _parse(handle.readline(65536))
            kept, left_out = compress(self.read())
            return [*first, *kept], left_out
        return [], 0

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
        return event.kind == "validation"
    return isinstance(event, events.Sample | events.Saved | events.Warned | events.StageVerdict)
