"""Jobs: stage commands that outlive their terminal. The only file that knows processes.

A job is the same `main.py` command in a session of its own, with a folder in place of pipes, so
nothing it does can block on a reader and no terminal, app or lost connection can harm it.
"""

import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from app.job_folder import (
    EVENTS,
    JOB_FOLDER,
    OUTPUT,
    Exit,
    Record,
    last_progress,
    read_exit,
    read_record,
    record_exit,
    write_record,
)
from utils import VERSION
from utils.errors import ExitCode, RefusedError, UsageError
from utils.files import AppendLog

PROGRAM = (sys.executable, str(Path(__file__).parent.parent / "main.py"))
KILLED = 137
"""Exit code recorded for a job that was killed: 128 + SIGKILL."""

State: TypeAlias = Literal["running", "done", "stopped", "failed", "killed", "died", "elsewhere"]
ACTIVE: tuple[State, ...] = ("running", "elsewhere")


class Job(NamedTuple):
    """What a job folder says at one moment; times in seconds since 1970."""

    id: str
    folder: Path
    record: Record | None
    state: State
    exit_code: int | None
    started: float
    ended: float | None
    percent: float | None

    @property
    def stage(self) -> str:
        """The stage's command; of a folder without job.json, from its name."""
        parts = self.folder.name.split("-")
        return self.record.stage if self.record else parts[-2] if len(parts) > 1 else "?"


def start(logs: Path, arguments: Sequence[str], stage: str, name: str | None) -> Job:
    """Detach `main.py ARGUMENTS` with a new folder under `logs`/jobs and return at once.

    Raises:
        OSError: the folder or process cannot be made.
    """
    folder = _new_folder(logs, stage)
    argv = [*PROGRAM, *arguments]
    log = AppendLog(folder / OUTPUT)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log.fileno(),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {JOB_FOLDER: str(folder.absolute())},
        )
    finally:
        log.close()
    versions = {"hatchery": VERSION, "python": platform.python_version()}
    versions["torch"] = metadata.version("torch")
    write_record(
        folder,
        Record(
            argv,
            stage,
            name,
            process.pid,
            _process_start(process.pid) or "",
            platform.node(),
            str(Path.cwd()),
            time.time(),
            versions,
        ),
    )
    # Whoever lives on, as the app does, must collect the child or it stays a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return look(folder)


def _new_folder(logs: Path, stage: str) -> Path:
    stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
    while True:
        folder = logs / "jobs" / f"{stamp}-{stage}-{secrets.token_hex(2)}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder


def look(folder: Path) -> Job:
    """The job of a folder as it is now, whatever the folder holds."""
    record, ended = read_record(folder), read_exit(folder)
    state = _state(record, ended)
    if ended is None and state == "died":
        ended = read_exit(folder)  # it ended between the two looks
        state = _state(record, ended)
    progress = last_progress(folder) if state == "running" else None
    percent = 100 * progress.done / progress.total if progress and progress.total else None
    return Job(
        id=folder.name.rpartition("-")[2],
        folder=folder,
        record=record,
        state=state,
        exit_code=ended.exit_code if ended else None,
        started=record.started if record else _modified(folder),
        ended=ended.ended if ended else _last_sign(folder) if state == "died" else None,
        percent=percent,
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
    return "running" if _process_start(record.pid) == record.process_start else "died"


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _last_sign(folder: Path) -> float:
    written = [folder / name for name in (EVENTS, OUTPUT)]
    return max((_modified(path) for path in written if path.exists()), default=_modified(folder))


def _process_start(pid: int) -> str | None:
    """When process `pid` started, in a form that no later process of that number shares.

    None when there is none or only a zombie. On Linux ticks since this boot, which unlike the
    time of day never shift while the process lives.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        except OSError:
            return None
        state, *fields = stat.rpartition(")")[2].split()  # the command may hold anything
        return None if state in "ZX" else f"{boot}-{fields[18]}"
    import psutil

    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return None if zombie else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def all_jobs(logs: Path) -> list[Job]:
    """Every job, newest first."""
    try:
        folders = [folder for folder in (logs / "jobs").iterdir() if folder.is_dir()]
    except OSError:
        return []
    return sorted((look(folder) for folder in folders), key=lambda job: job.started, reverse=True)


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
    """Ask a running job to finish its step, save and leave; one that has ended is left alone.

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
