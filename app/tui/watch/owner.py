"""Who trains a run: a job, a process in some terminal, or nobody."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from app.jobs.folder import EVENTS
from app.jobs.job import Job
from pipeline.event_search import search
from pipeline.events import Event, Saved, Started

_JOBS_SEARCHED = 20


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
    mark = re.compile(re.escape(run.name.encode(errors="replace")))
    for job in list(jobs)[:_JOBS_SEARCHED]:
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
        return event.run
    if isinstance(event, Saved) and event.kind == "checkpoint":
        return Path(event.path).parent.name
    return ""
