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

from app.jobs.folder import (
    JOB_FOLDER,
    KEY_VARIABLE,
    OUTPUT,
    Record,
    job_id,
    record_exit,
    write_key,
    write_record,
)
from app.jobs.job import ACTIVE, Job
from app.jobs.processes import detach, process_start
from app.jobs.states import all_jobs, look
from utils import VERSION
from utils.errors import RefusedError, UsageError

PROGRAM = (sys.executable, str(Path(__file__).parents[2] / "main.py"))
KILLED = 137
"""Exit code recorded for a job that was killed: 128 + SIGKILL."""


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
    key: str | None = None,
) -> Job:
    """Detach `main.py ARGUMENTS` with a new folder under `logs`/jobs and return at once.

    It waits until the jobs of the ids `after` are done or, when `queued`, have ended somehow. As
    `retry_of` another job it stands in for that one. A `key` that a server shall ask for, or one
    among the arguments, is in no command line and no record: others of this machine read those.

    Raises:
        OSError: the folder or process cannot be made.
    """
    folder = _new_folder(logs, stage)
    # Made under a hidden name and shown whole: without its job.json it would pass for a dead job.
    hidden = folder.with_name(f".{folder.name}")
    words, typed = _without_key(arguments)
    key = typed or key
    argv = [*PROGRAM, *words]
    process = None
    try:
        hidden.mkdir(parents=True)
        environment = os.environ | {JOB_FOLDER: str(folder.absolute())}
        if key is not None:
            environment |= {KEY_VARIABLE: key}
            write_key(hidden, key)
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


def _without_key(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments with `null` for the key of a server, and that key: null takes back one that
    config.json says, after which a server takes that of its environment."""
    words, key = list(arguments), None
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag not in ("--token", "--serve.token"):
            continue
        at = place if equals else place + 1
        if at < len(words):
            found = value if equals else words[at]
            key = found if found != "null" else key
            words[at] = f"{flag}=null" if equals else "null"
    return words, key


def _new_folder(logs: Path, stage: str) -> Path:
    """A name for a folder whose id no other job has."""
    stamp = time.strftime("%Y_%m_%d_%H_%M_%S")
    taken = {job_id(folder) for folder in (logs / "jobs").glob("*-*")}
    while (own := secrets.token_hex(2)) in taken:
        if len(taken) >= 1 << 16:
            raise OSError(0, "there are 65,536 jobs; remove old ones", str(logs / "jobs"))
    return logs / "jobs" / f"{stamp}-{stage}-{own}"


def find(logs: Path, requested: str | None, *, running: bool = False) -> Job:
    """The job of an id, its beginning or a name; without one, the newest (running) job.

    Raises:
        UsageError: there is none, or more than one.
    """
    jobs = all_jobs(logs)
    active = [job for job in jobs if job.state in ACTIVE]
    if requested is None:
        found = active if running else (active or jobs)[:1]
    else:
        found = [j for j in jobs if j.id.startswith(requested) or requested == j.folder.name]
        found = found or [job for job in jobs if job.called == requested][:1]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{j.id} ({j.stage})" for j in (found or (active if running else jobs))[:5])
    kind = "running " if running and requested is None else ""
    if found:
        problem = f"There are several {kind}jobs: name one."
    else:
        problem = f"There is no {kind}job {requested or ''}".rstrip() + "."
    raise UsageError(
        problem,
        found=known or f"no {kind}jobs under {logs / 'jobs'}",
        remedy="{}",
        commands=[("jobs", "list")],
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
            remedy="{}",
            commands=[("jobs", "stop", job.id)],
        )
    for other in jobs:
        if job.id in other.waits_for:
            raise RefusedError(
                f"{other.stage} {other.id} waits for job {job.id}.",
                found="without its folder nobody could tell whether it was done",
                remedy="{}",
                commands=[("jobs", "stop", other.id)],
            )
    # Renamed first: a half-deleted folder must not look like a job.
    dead = job.folder.with_name(f".deleted-{job.folder.name}")
    job.folder.rename(dead)
    shutil.rmtree(dead)
