"""Who trains a run: a job, a process in some terminal, or nobody."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from app.jobs.folder import EVENTS
from app.jobs.job import Job

_JOBS_SEARCHED = 20
_READ = 4 << 20


def holder(run: Path) -> int | None:
    """The process that has the run open for writing, None where there is none.

    Told from what the lock file says: trying the lock itself could make a training that starts at
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
    title = b'"title":"Train %s"' % run.name.encode()
    for job in list(jobs)[:_JOBS_SEARCHED]:
        with suppress(OSError), (job.folder / EVENTS).open("rb") as handle:
            before = b""
            while data := handle.read(_READ):
                if title in before + data:
                    return job
                before = data[-len(title) :]
    return None
