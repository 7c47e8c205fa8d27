"""What every job does at this moment, as its folder and the processes of this machine tell.

Nothing here fails: a folder may be half-written, damaged or deleted while it is looked at.
"""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from app.jobs.dependencies import open_dependencies
from app.jobs.folder import (
    EVENTS,
    OUTPUT,
    Began,
    Exit,
    Record,
    job_id,
    read_began,
    read_exit,
    read_record,
)
from app.jobs.history import last_progress
from app.jobs.job import Job, State
from app.jobs.processes import process_start
from utils.errors import ExitCode

_SETTLED_SECONDS = 60.0


def look(folder: Path) -> Job:
    """The job of a folder as it is now, whatever the folder holds."""
    record, ended = read_record(folder), read_exit(folder)
    began = read_began(folder) if record and record.after else None
    state = _state(record, ended)
    if ended is None and state == "died":
        ended = read_exit(folder)  # it ended between the two looks
        state = _state(record, ended)
    if state == "running" and record and record.after and began is None:
        state = "waiting"
    progress = last_progress(folder) if state == "running" else None
    percent = 100 * progress.done / progress.total if progress and progress.total else None
    return Job(
        id=job_id(folder),
        folder=folder,
        record=record,
        state=state,
        exit_code=ended.exit_code if ended else None,
        started=_started(folder, record, began, ended),
        ended=ended.ended if ended else _last_sign(folder) if state == "died" else None,
        percent=percent,
        waits_for=record.after if record and state == "waiting" else (),
    )


def _state(record: Record | None, ended: Exit | None) -> State:
    if ended is not None:
        if ended.killed:
            return "killed"
        stopped = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
        code = ended.exit_code
        return "done" if code == ExitCode.DONE else "stopped" if code in stopped else "failed"
    if record is None:
        return "died"
    if record.host != platform.node():
        return "elsewhere"
    return "running" if process_start(record.pid) == record.process_start else "died"


def _started(folder: Path, record: Record | None, began: Began | None, ended: Exit | None) -> float:
    if began is not None:
        return began.began
    if record is None:
        return _modified(folder)
    return ended.ended if ended and record.after else record.started  # it ended while it waited


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _last_sign(folder: Path) -> float:
    written = [folder / name for name in (EVENTS, OUTPUT)]
    return max((_modified(path) for path in written if path.exists()), default=_modified(folder))


class Watch:
    """Looks at all jobs again and again; what has ended is read once."""

    def __init__(self, logs: Path) -> None:
        self._folder = logs / "jobs"
        self._ended: dict[str, Job] = {}

    def look(self) -> list[Job]:
        """Every job, newest first."""
        names = self._names()
        self._ended = {name: self._ended[name] for name in names if name in self._ended}
        found = []
        for name in names:
            job = self._ended.get(name) or look(self._folder / name)
            if job.exit_code is not None or _long_dead(job):
                self._ended[name] = job
            found.append(job)
        found.sort(key=lambda job: job.started, reverse=True)
        return [_narrowed(job, found) for job in found]

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._folder) as entries:
                return [e.name for e in entries if e.name[0] != "." and e.is_dir()]
        except OSError:
            return []


def _long_dead(job: Job) -> bool:
    """Whether a job that left no exit code is past leaving one."""
    return job.state == "died" and time.time() - (job.ended or 0.0) > _SETTLED_SECONDS


def _narrowed(job: Job, jobs: Sequence[Job]) -> Job:
    """A waiting job with only those ids that are not done yet."""
    if job.record is None or not job.waits_for:
        return job
    return job._replace(
        waits_for=tuple(dependency.id for dependency in open_dependencies(job.record, jobs))
    )


def all_jobs(logs: Path) -> list[Job]:
    """Every job, newest first."""
    return Watch(logs).look()
