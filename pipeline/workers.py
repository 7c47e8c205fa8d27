"""Units of work shared out among processes: messages come back as they happen, nothing outlives us.

A worker is a fresh interpreter at the end of a pipe. It takes one unit at a time and sends what
the unit yields. Between messages it looks at the pipe: closed means that the parent was stopped
or died, and the worker leaves. An interrupt of the terminal is the parent's business alone.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Event as StopSignal
from typing import Protocol, TypeVar

from utils.errors import HatcheryError, OutOfMemoryError
from utils.hardware import usable_cores

MessageT = TypeVar("MessageT")
_MessageT_co = TypeVar("_MessageT_co", covariant=True)

_NAMED = 3  # files of a unit
_LOOK = 0.1  # seconds between looks at the stop signal
_GRACE = 5.0  # seconds a worker may take to notice that its pipe is closed


class WorkUnit(Protocol[_MessageT_co]):
    """A part of a stage that can be done on its own. It and its messages must be picklable."""

    def run(self) -> Iterator[_MessageT_co]:
        """Do the work; yields progress and results."""
        ...

    def __str__(self) -> str:
        """What a message about it calls it."""
        ...


class UnitDone:
    """Sent by a worker when a unit has yielded everything."""


def summarized(names: Sequence[str]) -> str:
    """The first of the names of a unit's files, for messages."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more files" if more > 0 else "")


def run_units(
    units: Sequence[WorkUnit[MessageT]], workers: int, stop: StopSignal
) -> Iterator[MessageT]:
    """What all units yield, that of one unit in order, until `stop` is set.

    With one worker or unit, or one core, the work is done in this process.

    Raises:
        HatcheryError: what a unit raised, or that a worker died.
    """
    count = min(workers, len(units), usable_cores())
    if count > 1:
        yield from _in_processes(units, count, stop)
        return
    for unit in units:
        if stop.is_set():
            return
        for message in unit.run():
            yield message
            if stop.is_set():
                return


def _in_processes(
    units: Sequence[WorkUnit[MessageT]], count: int, stop: StopSignal
) -> Iterator[MessageT]:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads half-way
    processes: dict[Connection, BaseProcess] = {}
    at_work: dict[Connection, WorkUnit[MessageT]] = {}
    waiting = list(reversed(units))
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_serve, args=(theirs, max(1, usable_cores() // count)), daemon=True
            )
            process.start()
            theirs.close()
            processes[ours] = process
            at_work[ours] = waiting.pop()
            ours.send(at_work[ours])
        busy = set(processes)
        while busy and not stop.is_set():
            for pipe in wait(list(busy), timeout=_LOOK):
                assert isinstance(pipe, Connection)
                message = _received(pipe, processes[pipe], str(at_work[pipe]))
                if not isinstance(message, UnitDone):
                    yield message  # type: ignore[misc]  # only a unit's own messages are left
                elif waiting:
                    at_work[pipe] = waiting.pop()
                    pipe.send(at_work[pipe])
                else:
                    busy.remove(pipe)
    finally:
        for pipe in processes:
            pipe.close()
        for process in processes.values():
            process.join(_GRACE)
            process.kill()


def _received(pipe: Connection, process: BaseProcess, unit: str) -> object:
    try:
        message = pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        process.join(_GRACE)
        killed = process.exitcode == -signal.SIGKILL
        raise (OutOfMemoryError if killed else HatcheryError)(
            f"A worker process died while working on {unit[:300]}.",
            found=f"exit code {process.exitcode}, which a full memory can cause"
            if killed
            else f"exit code {process.exitcode}; its own message is above",
            remedy="run the same command again, it goes on where it stopped; --workers 1 needs "
            "the least memory",
        ) from error
    if isinstance(message, HatcheryError):
        raise message
    return message


def _serve(pipe: Connection, threads: int) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))  # of the tokenizers library
    try:
        while True:
            for message in pipe.recv().run():
                if pipe.poll():
                    return
                pipe.send(message)
            pipe.send(UnitDone())
    except HatcheryError as error:
        pipe.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone or wants no more
