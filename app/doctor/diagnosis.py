"""The doctor: why a job ended as it did, in plain words, what shows it, and what helps.

Reads what the job left behind (events, exit code, log) and what the machine says; changes nothing.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.doctor.remedies import Cause, Remedy, remedies, startable
from app.jobs.folder import Exit, output_tail, read_exit
from app.jobs.history import failure, last_event
from app.jobs.job import ACTIVE, Job
from app.jobs.processes import memory_kills, restarted_since
from pipeline.events import Failed, Metric, Progress, Warned
from utils.errors import ExitCode
from utils.files import existing_parent
from utils.units import human_bytes, human_count

_TAIL_LINES = 12
_FOUND_LINES = 8
_FULL = 1 << 20  # bytes free, with which a disk counts as full
_MUCH = 0.6  # share of the memory above which a sudden death is put down to it

_EXPLAINED = {
    Cause.MEMORY: "What it needed at one time did not fit into memory.",
    Cause.NAN: "The weights are unharmed. Most often the learning rate is too high.",
    Cause.DISK: "What was there before is intact.",
    Cause.MISSING: "It needs what an earlier step makes.",
    Cause.MISMATCH: "Going on would have spoiled the result without a sign of it.",
    Cause.BUSY: "Only one process may write there at a time.",
    Cause.SETTINGS: "The command or config.json asks for something that cannot be.",
    Cause.NETWORK: "What has arrived is kept.",
    Cause.KILLED_BY_YOU: "All that it had saved before is intact.",
    Cause.KILLED: "Its process is gone without a word: something ended it at once. That is what "
    "the system does when memory runs out, and what kill -9 does. All that it had saved is intact.",
    Cause.RESTARTED: "It was running when this machine went down. All that it had saved is intact.",
    Cause.TERMINAL: "It finished its step and saved.",
    Cause.TERMINATED: "The system or another program told it to end, as at a shutdown.",
    Cause.STOPPED: "It finished its step and saved.",
    Cause.MISTAKE: "You did nothing wrong, and what was saved is safe.",
    Cause.NONE: "It is done.",
}
_KINDS = {
    "DiskFullError": Cause.DISK,
    "NonFiniteError": Cause.NAN,
    "OutOfMemoryError": Cause.MEMORY,
    "MemoryError": Cause.MEMORY,
    "NetworkError": Cause.NETWORK,
    "RefusedError": Cause.MISMATCH,
    "UsageError": Cause.SETTINGS,
    "MissingError": Cause.MISSING,
    "FileNotFoundError": Cause.MISSING,
    "NotADirectoryError": Cause.MISSING,
}
_CODES: dict[int, Cause] = {ExitCode.REFUSED: Cause.MISMATCH, ExitCode.USAGE: Cause.SETTINGS}


class Diagnosis(NamedTuple):
    """The cause, a few sentences on it, what shows it, the end of the log, and remedies, the most
    promising first."""

    cause: Cause
    explanation: str
    evidence: tuple[str, ...]
    log: tuple[str, ...]
    remedies: tuple[Remedy, ...]


def diagnose(job: Job) -> Diagnosis:
    """Why `job` ended, as far as its folder tells. Takes a moment: it may measure folders."""
    ended = read_exit(job.folder)
    failed = failure(job.folder) if job.state == "failed" else None
    cause = _cause(job, ended, failed)
    problem = failed.problem if failed else _waiting_for(job)
    return Diagnosis(
        cause,
        " ".join(filter(None, (problem, _EXPLAINED.get(cause, "")))),
        tuple(_evidence(job, ended, failed)),
        tuple(output_tail(job.folder, _TAIL_LINES).splitlines()),
        tuple(remedies(cause, job, failed)),
    )


def _cause(job: Job, ended: Exit | None, failed: Failed | None) -> Cause:
    if job.state in ACTIVE:
        return Cause.ACTIVE
    if job.state == "done":
        return Cause.NONE
    if job.state == "died":
        return _sudden_end(job)
    if job.state == "killed":
        return Cause.KILLED_BY_YOU
    if job.state == "stopped":
        if ended is None or ended.exit_code == ExitCode.INTERRUPTED:
            return Cause.STOPPED
        return Cause.TERMINAL if ended.signal == "SIGHUP" else Cause.TERMINATED
    return _stated_cause(job, failed) if failed else Cause.OTHER


def _stated_cause(job: Job, failed: Failed) -> Cause:
    """The cause that a stage named itself."""
    if failed.problem.startswith("Another process is writing"):
        return Cause.BUSY
    before = [command[0] for command in startable(failed) if command[0] != job.stage]
    if failed.exit_code == ExitCode.USAGE and before:
        return Cause.MISSING
    if failed.kind in _KINDS:
        return _KINDS[failed.kind]
    if not failed.kind and failed.exit_code in _CODES:  # written by an earlier version
        return _CODES[failed.exit_code]
    mistake = failed.problem.startswith("A mistake in Hatchery")
    return Cause.MISTAKE if mistake else Cause.OTHER


def _sudden_end(job: Job) -> Cause:
    if job.record is not None and restarted_since(job.record.process_start):
        return Cause.RESTARTED
    if _disk_is_full(job):
        return Cause.DISK
    used, there = memory_used(job), _memory()
    return Cause.MEMORY if used is not None and used > _MUCH * there else Cause.KILLED


def _disk_is_full(job: Job) -> bool:
    """Whether the disk of its logs has no room: then it could not say how it ended."""
    return shutil.disk_usage(existing_parent(job.folder)).free < _FULL


def memory_used(job: Job) -> float | None:
    """Bytes of this machine's memory that a training last reported; None where it did not,
    or where it may have meant a GPU's."""
    if Path("/proc/driver/nvidia").exists():
        return None
    metric = last_event(job.folder, Metric, lambda metric: metric.values.get("memory") is not None)
    return metric.values["memory"] if metric else None


def _memory() -> int:
    from utils.hardware import machine  # psutil, 10 ms

    return machine().memory


def _waiting_for(job: Job) -> str:
    if job.state != "waiting":
        return "It is running." if job.state in ACTIVE else ""
    return f"It waits for {', '.join(job.waits_for) or 'nothing any more, and is about to begin'}."


def _evidence(job: Job, ended: Exit | None, failed: Failed | None) -> Iterator[str]:
    if failed and failed.found:
        yield from failed.found.splitlines()[-_FOUND_LINES:]
    if job.state == "waiting" and (warned := last_event(job.folder, Warned)):
        yield f"{warned.message} {warned.remedy}"
    if progress := last_event(job.folder, Progress):
        of = f" of {human_count(progress.total)}" if progress.total else ""
        yield f"last heard of at {human_count(progress.done)}{of} {progress.unit}".rstrip()
    used = memory_used(job) if job.state in ("died", "failed") else None
    if used is not None:
        yield f"it used {human_bytes(used)} of {human_bytes(_memory())} of memory"
    if job.state == "died":
        yield from _of_a_sudden_end(job)
    if ended is not None and ended.exit_code:
        by = f", after {ended.signal}" if ended.signal else ""
        yield f"it ended with exit code {ended.exit_code}{by}"


def _of_a_sudden_end(job: Job) -> Iterator[str]:
    if job.record is None:
        yield "its folder has no job.json that can be read"
        return
    if _disk_is_full(job):
        yield f"the disk with {job.folder} is full: a job could not write down there how it ended"
        yield "it may have finished: look at what it was to make"
    if job.ended is not None:
        when = time.strftime("%H:%M:%S on %d %b", time.localtime(job.ended))
        yield f"its process {job.record.pid} is gone; the last sign of it is from {when}"
    if restarted_since(job.record.process_start):
        yield "the machine was started anew since"
    elif kills := memory_kills():
        yield f"the system has ended {kills:,} processes here because memory was used up"
