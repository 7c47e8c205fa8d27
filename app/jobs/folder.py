"""The folder of a job: job.json, began.json, run.json, exit.json, output.log, and events.jsonl,
which `app.jobs.history` reads.

The folder is the only link between a job and whoever watches it. Reading never fails: a folder
may be half-written, deleted while watched, or made by a newer version. Knows no processes.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from utils import json_text
from utils.errors import HatcheryError
from utils.files import write_file, write_json

JOB_FOLDER = "HATCHERY_JOB"
"""Environment variable that tells a process which job folder it writes to."""

_KEY = "key"
KEY_VARIABLE = "HATCHERY_TOKEN"
"""Environment variable of the key that a server asks for."""

EVENTS, OUTPUT = "events.jsonl", "output.log"
_RESERVE, _RESERVED = ".reserve", 16384  # bytes: a file, and the folder's entry for it
_RECORD, _BEGAN, _RUN, _EXIT = "job.json", "began.json", "run.json", "exit.json"


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


class TrainedRun(msgspec.Struct, frozen=True):
    """run.json: the run that the job trains, and where the job's part of the run's events.jsonl
    begins, in bytes. What belongs to a step of the run is recorded there and only there.

    `folder` counts from the job's working directory.
    """

    folder: str
    offset: int


class Exit(msgspec.Struct, frozen=True):
    """exit.json: how the job ended; written by the job itself, or by whoever killed it.

    `signal` names the one that asked it to stop.
    """

    exit_code: int
    ended: float
    killed: bool = False
    signal: str | None = None


_Kind = TypeVar("_Kind", Record, Began, TrainedRun, Exit)


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


def record_run(folder: Path, run: Path) -> bool:
    """Write run.json for a run whose events.jsonl goes on now; whether that could be done."""
    try:
        offset = (run / EVENTS).stat().st_size
        write_json(folder / _RUN, msgspec.to_builtins(TrainedRun(str(run), offset)))
    except (OSError, HatcheryError):
        return False
    return True


def record_exit(
    folder: Path, code: int, *, killed: bool = False, signal: str | None = None
) -> None:
    """Write exit.json, if there is a folder, on a full disk in the room that was kept for it;
    without it the job is shown as died."""
    if folder.is_dir():
        ended = Exit(int(code), time.time(), killed, signal)
        with suppress(OSError, HatcheryError):
            (folder / _RESERVE).unlink(missing_ok=True)
            write_json(folder / _EXIT, msgspec.to_builtins(ended))


def reserve_room(folder: Path) -> None:
    """Keep room for exit.json, so that a disk that fills up meanwhile does not hide how the job
    ended; where there is none already, nothing is kept."""
    with suppress(OSError, HatcheryError):
        write_file(folder / _RESERVE, bytes(_RESERVED))


def write_key(folder: Path, key: str) -> Path:
    """Write the key that a server of this job asks for, which nobody but its owner can read."""
    write_file(folder / _KEY, f"{key}\n", private=True)
    return folder / _KEY


def read_key(folder: Path) -> str | None:
    """That key, None where there is none."""
    try:
        return (folder / _KEY).read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def read_record(folder: Path) -> Record | None:
    """job.json, None where it is missing or cannot be understood."""
    return _read(folder / _RECORD, Record)


def read_began(folder: Path) -> Began | None:
    """began.json, None where the job waits or never had to."""
    return _read(folder / _BEGAN, Began)


def trained_run(folder: Path) -> tuple[Path, int] | None:
    """The run that the job trains and the offset in run.json; None where there is none, as in a job
    of another stage, or one from a time when a job recorded all of its events itself."""
    trained = _read(folder / _RUN, TrainedRun)
    if trained is None:
        return None
    record = read_record(folder)
    return Path(record.cwd if record else "") / trained.folder, trained.offset


def read_exit(folder: Path) -> Exit | None:
    """exit.json, None where the job has not ended by itself."""
    return _read(folder / _EXIT, Exit)


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    try:
        return json_text.decode(path.read_bytes(), kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def output_tail(folder: Path, lines: int = 12) -> str:
    """The last lines of output.log, empty where there are none."""
    return "\n".join(
        read_tail(folder / OUTPUT, 16384).decode(errors="replace").splitlines()[-lines:]
    )


def read_tail(path: Path, size: int, start: int = 0, end: int | None = None) -> bytes:
    """The last `size` bytes of a file between two offsets, less where it has less."""
    try:
        with path.open("rb") as handle:
            stop = path.stat().st_size if end is None else end
            begin = max(start, stop - size)
            handle.seek(begin)
            return handle.read(max(0, stop - begin))
    except OSError:
        return b""
