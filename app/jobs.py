"""Jobs: stage commands that outlive their terminal; starting, finding and ending them.

A job is the same `main.py` command in a session of its own, with a folder in place of pipes, so
nothing it does can block on a reader and no terminal, app or lost connection can harm it.
"""

import os
import platform
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from app.chain import still_open
from app.job_folder import ACTIVE as ACTIVE
from app.job_folder import (
    EVENTS,
    JOB_FOLDER,
    OUTPUT,
    Began,
    Exit,
    Record,
    State,
    job_id,
    last_progress,
    read_began,
    read_exit,
    read_record,
    record_exit,
    write_record,
)
from app.job_folder import FAILED as FAILED
from app.processes import detach, process_start
from utils import VERSION
from utils.errors import ExitCode, RefusedError, UsageError

PROGRAM = (sys.executable, str(Path(__file__).parent.parent / "main.py"))
KILLED = 137
"""Exit code recorded for a job that was killed: 128 + SIGKILL."""

_SETTLED_SECONDS = 60.0


class Job(NamedTuple):
    """What a job folder says at one moment; times in seconds since 1970.

    `started` is when its work began, of a waiting job when it was asked for; `waits_for` are the
    ids of the jobs that a waiting one still waits for.
    """

    id: str
    folder: Path
    record: Record | None
    state: State
    exit_code: int | None
    started: float
    ended: float | None
    percent: float | None
    waits_for: tuple[str, ...] = ()

    @property
    def stage(self) -> str:
        """The stage's command; of a folder without job.json, from its name."""
        parts = self.folder.name.split("-")
        return self.record.stage if self.record else parts[-2] if len(parts) > 1 else "?"

    @property
    def name(self) -> str:
        """What the user called it, or its id."""
        return (self.record.name if self.record else None) or self.id

    def duration(self, now: float) -> float | None:
        """Seconds of work so far; None while it waits."""
        return None if self.state == "waiting" else max(0.0, (self.ended or now) - self.started)


def start(
    logs: Path,
    arguments: Sequence[str],
    stage: str,
    name: str | None,
    *,
    after: Sequence[str] = (),
    queued: bool = False,
    retry_of: str | None = None,
    cwd: Path | None = None,
) -> Job:
    """Detach `main.py ARGUMENTS` with a new folder under `logs`/jobs and return at once.

    It waits until the jobs of the ids `after` are done or, when `queued`, have ended somehow. As
    `retry_of` another job it stands in for that one.

    Raises:
        OSError: the folder or process cannot be made.
    """
    folder = _new_folder(logs, stage)
    # Made under a hidden name and shown whole: without its job.json it would pass for a dead job.
    hidden = folder.with_name(f".{folder.name}")
    argv = [*PROGRAM, *arguments]
    process = None
    try:
        hidden.mkdir(parents=True)
        environment = os.environ | {JOB_FOLDER: str(folder.absolute())}
        process = detach(argv, hidden / OUTPUT, environment, cwd)
        from importlib import metadata  # 10 ms, only to start one

        versions = {"hatchery": VERSION, "python": platform.python_version()}
        versions["torch"] = metadata.version("torch")
        record = Record(
            argv,
            stage,
            name,
            process.pid,
            process_start(process.pid) or "",
            platform.node(),
            str(cwd or Path.cwd()),
            time.time(),
            versions,
            tuple(after),
            queued,
            retry_of,
        )
        write_record(hidden, record)
        hidden.rename(folder)
    except BaseException:
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    # Whoever lives on, as the app does, must collect the child or it stays a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return look(folder)


def _new_folder(logs: Path, stage: str) -> Path:
    """A name for a folder whose id no other job has."""
    stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
    taken = {job_id(folder) for folder in (logs / "jobs").glob("*-*")}
    while (own := secrets.token_hex(2)) in taken:
        if len(taken) >= 1 << 16:
            raise OSError(0, "there are 65,536 jobs; remove old ones", str(logs / "jobs"))
    return logs / "jobs" / f"{stamp}-{stage}-{own}"


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


def all_jobs(logs: Path) -> list[Job]:
    """Every job, newest first."""
    return Watch(logs).look()


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
    return job._replace(waits_for=tuple(open.id for open in still_open(job.record, jobs)))


def find(logs: Path, wanted: str | None, *, running: bool = False) -> Job:
    """The job of an id, its beginning or a name; without one, the newest (running) job.

    Raises:
        UsageError: there is none, or more than one.
    """
    jobs = all_jobs(logs)
    active = [job for job in jobs if job.state in ACTIVE]
    if wanted is None:
        found = active if running else (active or jobs)[:1]
    else:
        found = [j for j in jobs if j.id.startswith(wanted) or wanted == j.folder.name]
        found = found or [j for j in jobs if j.record and j.record.name == wanted][:1]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{j.id} ({j.stage})" for j in (found or (active if running else jobs))[:5])
    kind = "running " if running and wanted is None else ""
    if found:
        problem = f"There are several {kind}jobs: name one."
    else:
        problem = f"There is no {kind}job {wanted or ''}".rstrip() + "."
    raise UsageError(
        problem,
        found=known or f"no {kind}jobs under {logs / 'jobs'}",
        remedy="python main.py jobs list",
    )


def interrupt(job: Job) -> None:
    """Ask a job to finish its step, save and leave, or to stop waiting; one that has ended is
    left alone.

    Raises:
        RefusedError: it runs on another machine.
    """
    _send(job, signal.SIGINT)


def kill(job: Job) -> None:
    """End a running job and all its children at once; record that it was killed.

    Raises:
        RefusedError: it runs on another machine.
    """
    if _send(job, signal.SIGKILL, group=True):
        record_exit(job.folder, KILLED, killed=True)


def _send(job: Job, number: signal.Signals, *, group: bool = False) -> bool:
    record = job.record
    if record is None or look(job.folder).state not in ACTIVE:
        return False
    if record.host != platform.node():
        raise RefusedError(
            f"Job {job.id} runs on another machine.",
            found=f"it was started on {record.host}, this is {platform.node()}",
            remedy=f"run the same command on {record.host}",
        )
    try:
        (os.killpg if group else os.kill)(record.pid, number)
    except ProcessLookupError:
        return False
    return True


def remove(job: Job, jobs: Sequence[Job]) -> None:
    """Delete the folder of a job that has ended; what it made stays.

    Raises:
        RefusedError: it has not ended, or another waits for it.
        OSError: it cannot be deleted.
    """
    if job.state in ACTIVE and look(job.folder).state in ACTIVE:
        raise RefusedError(
            f"Job {job.id} has not ended.",
            found=f"it is {job.state}",
            remedy=f"python main.py jobs stop {job.id}",
        )
    for other in jobs:
        if job.id in other.waits_for:
            raise RefusedError(
                f"{other.stage} {other.id} waits for job {job.id}.",
                found="without its folder nobody could tell whether it was done",
                remedy=f"python main.py jobs stop {other.id}",
            )
    # Renamed first: a half-deleted folder must not look like a job.
    dead = job.folder.with_name(f".deleted-{job.folder.name}")
    job.folder.rename(dead)
    shutil.rmtree(dead)
