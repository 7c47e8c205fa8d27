"""How the app ends: the signals that end it, and what the terminal says afterwards."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.jobs import states
from app.jobs.job import ACTIVE, Job

ORPHAN_CHECK = 1.0  # seconds between two looks for the process that opened the app
_NAMED = 5


def on_signals(leave: Callable[[int], None]) -> None:
    """Call `leave` with the exit code, in the event loop that runs, at SIGTERM and SIGHUP."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave, 128 + number)


def orphaned(parent: int) -> bool:
    """Whether the process that opened the app, of id `parent`, is gone, so that nobody would put
    the terminal back or close the browser's session."""
    if os.getppid() == parent:
        return False
    # A shell may own the terminal now; without this, putting it back would stop the process.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    return True


def farewell(found: Sequence[Job]) -> str:
    """The jobs that go on, and the way back; empty when there are none."""
    going = [job for job in found if job.state in ACTIVE]
    if not going:
        return ""
    named = ", ".join(f"{job.stage} {job.id}" for job in going[:_NAMED])
    more = f" and {len(going) - _NAMED} more" if len(going) > _NAMED else ""
    count = "1 job goes on" if len(going) == 1 else f"{len(going)} jobs go on"
    return f"{count}: {named}{more}\nback to the app: python main.py"


def say_farewell(logs: Path) -> None:
    """Print it on stderr, if the terminal is still there."""
    from app.terminal.layout import Console  # 20 ms, not needed until now

    words = farewell(states.all_jobs(logs))
    if words:
        with suppress(OSError):
            Console(stderr=True).say(words)
