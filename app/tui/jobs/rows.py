"""What a list of jobs says: which, in which order, and what about each. Knows no widgets."""

from collections.abc import Sequence
from typing import NamedTuple

from app.jobs.dependencies import blockers, stand_in
from app.jobs.job import ACTIVE, Job
from utils.units import ago, human_seconds

_ORDER = {"running": 0, "elsewhere": 1, "waiting": 2}


class Cells(NamedTuple):
    """The texts of one row; `sign` is the state whose mark it bears."""

    sign: str
    stage: str
    name: str
    state: str
    duration: str
    age: str
    note: str


def chosen(jobs: Sequence[Job], wanted: str) -> list[Job]:
    """Those that hold every word of `wanted` in id, stage, name or state: running ones, then
    waiting, then ended, each newest first."""
    words = wanted.casefold().split()
    found = [job for job in jobs if all(word in _text(job) for word in words)]
    return sorted(found, key=lambda job: (_ORDER.get(job.state, 3), -job.started))


def _text(job: Job) -> str:
    return f"{job.id} {job.stage} {job.name} {job.state}".casefold()


def cells(job: Job, jobs: Sequence[Job], now: float) -> Cells:
    """The row of `job` among all jobs, `now` seconds since 1970."""
    duration = job.duration(now)
    state = f"{job.percent:.0f} %" if job.percent is not None else job.state
    return Cells(
        job.state,
        job.stage,
        job.name,
        state,
        "" if duration is None else human_seconds(duration),
        ago(max(0.0, now - (job.ended or job.started))),
        note(job, jobs),
    )


def note(job: Job, jobs: Sequence[Job]) -> str:
    """What one should know beside the state: whom it waits for, or who does it again."""
    if job.state == "waiting":
        stuck = [open.job.stage if open.job else open.id for open in blockers(job, jobs)]
        if stuck:
            return f"until {' and '.join(stuck)} is mended: d"
        return f"for {', '.join(_called(wanted, jobs) for wanted in job.waits_for)}"
    now = stand_in(job.id, jobs) if job.state not in ("done", *ACTIVE) else None
    if now is not None and now.id != job.id:
        return f"again as {now.id}" + (", done" if now.state == "done" else "")
    if job.state == "failed":
        return f"exit code {job.exit_code}"
    return f"of {job.record.host}" if job.state == "elsewhere" and job.record else ""


def _called(wanted: str, jobs: Sequence[Job]) -> str:
    job = next((job for job in jobs if job.id == wanted), None)
    return f"{job.stage} {wanted}" if job else wanted
