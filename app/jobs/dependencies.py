"""Jobs that wait for others: who waits for whom, and the waiting itself.

There is no supervisor: every job waits in a process of its own, by reading the folders of those
before it. A retry of a failed job stands in for it, so a chain goes on once the retry is done.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event as StopSignal
from typing import NamedTuple

from app.jobs.folder import Record, job_id, read_record, record_began
from app.jobs.history import failure
from app.jobs.job import ACTIVE, Job
from pipeline.events import Warned
from utils.errors import HatcheryError, RefusedError

_POLL_SECONDS = 0.3
_RECORD_SECONDS = 20.0


class Dependency(NamedTuple):
    """A job that is still waited for, by the id in job.json; `job` stands for it now, None where
    its folder is gone."""

    id: str
    job: Job | None

    @property
    def blocked(self) -> bool:
        """Whether it has ended and only a retry helps."""
        return self.job is None or self.job.state not in ACTIVE


def open_dependencies(record: Record, jobs: Sequence[Job]) -> list[Dependency]:
    """What a job with this record waits for, given all jobs."""
    if record.queued:
        by_id = {job.id: job for job in jobs}
        waited = [Dependency(requested, by_id.get(requested)) for requested in record.after]
        return [dependency for dependency in waited if not dependency.blocked]
    waited = [Dependency(requested, stand_in(requested, jobs)) for requested in record.after]
    return [
        dependency
        for dependency in waited
        if dependency.job is None or dependency.job.state != "done"
    ]


def stand_in(requested: str, jobs: Sequence[Job]) -> Job | None:
    """Who stands for the job of an id: of it, its retries and theirs one that is done, else one
    that is under way, else the newest."""
    retries = [job for job in jobs if job.record is not None and job.record.retry_of]
    family, found = {requested}, 0
    while len(family) > found:
        found = len(family)
        family |= {job.id for job in retries if job.record and job.record.retry_of in family}
    members = sorted((job for job in jobs if job.id in family), key=lambda job: -job.started)
    for states in (("done",), ACTIVE):
        for job in members:
            if job.state in states:
                return job
    return members[0] if members else None


def blockers(job: Job, jobs: Sequence[Job]) -> list[Dependency]:
    """What keeps a waiting job from ever going on by itself."""
    if job.record is None or job.state != "waiting":
        return []
    return [dependency for dependency in open_dependencies(job.record, jobs) if dependency.blocked]


def cycle(own: str, jobs: Sequence[Job]) -> list[str]:
    """The ids of jobs that wait for each other with `own` among them, empty where none do."""
    waiting = {job.id: job.record for job in jobs if job.state == "waiting" and job.record}
    ways = [[own]]
    seen = {own}
    while ways:
        way = ways.pop()
        record = waiting.get(way[-1])
        for dependency in open_dependencies(record, jobs) if record else []:
            if dependency.job is not None and dependency.job.id == own:
                return [*way, own]
            if dependency.job is not None and dependency.job.id not in seen:
                seen.add(dependency.job.id)
                ways.append([*way, dependency.job.id])
    return []


def own_record(folder: Path) -> Record | None:
    """The job.json of this process, which its starter writes a moment after starting it; None when
    the starter never does."""
    deadline = time.monotonic() + _RECORD_SECONDS
    while time.monotonic() < deadline:
        if record := read_record(folder):
            return record
        time.sleep(0.01)
    return None


def wait_turn(
    folder: Path, record: Record, stop: StopSignal, look: Callable[[], list[Job]]
) -> Iterator[Warned]:
    """Return when all jobs before this one are done, or a stop is requested; yields once for each
    that ended badly.

    Raises:
        RefusedError: the jobs wait for each other.
        HatcheryError: the job's own folder is gone.
    """
    own, settled, announced = job_id(folder), set[str](), set[tuple[str, str]]()
    while not stop.is_set():
        jobs = look()
        waited = [
            dependency
            for dependency in open_dependencies(record, jobs)
            if dependency.id not in settled
        ]
        settled |= set(record.after).difference(dependency.id for dependency in waited)
        if not folder.is_dir():
            raise HatcheryError(f"The folder of job {own} is gone.", remedy="start it again")
        if not waited:
            record_began(folder)
            return
        if way := cycle(own, jobs):
            raise RefusedError(
                "These jobs wait for each other.",
                found=" → ".join(way),
                remedy="stop them, and start them again in the order they need",
            )
        for dependency in waited:
            standing = (
                (dependency.job.id, dependency.job.state)
                if dependency.job
                else (dependency.id, "gone")
            )
            if standing not in announced and (note := _warning(dependency, own)):
                yield note
            announced.add(standing)
        stop.wait(_POLL_SECONDS)


def _warning(dependency: Dependency, own: str) -> Warned | None:
    """What the user should know about a job that is waited for."""
    job = dependency.job
    if job is None:
        return Warned(
            f"This job waits for {dependency.id}, whose folder is gone: nobody knows if it was "
            "done.",
            f"not to wait for it: python main.py jobs stop {own}, then python main.py jobs retry "
            f"{own}",
        )
    if job.state == "elsewhere" and job.record:
        return Warned(
            f"{job.stage} {job.id} runs on {job.record.host}: only its folder tells when it is "
            "done.",
            f"to end the waiting: python main.py jobs stop {own}",
        )
    if not dependency.blocked:
        return None
    failed = failure(job.folder)
    why = f": {failed.problem.rstrip('.')}" if failed and job.state == "failed" else ""
    return Warned(
        f"This job waits, because {job.stage} {job.id} {IN_WORDS[job.state]}{why}.",
        f"what helps: python main.py jobs why {job.id}; once a retry of it is done, this job "
        "goes on by itself",
    )


IN_WORDS = {
    "failed": "failed",
    "died": "died",
    "killed": "was killed",
    "stopped": "was stopped",
}
"""How a job ended, after its name."""
