"""Processes of this machine: starting one that outlives us, and whether one still lives."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.files import AppendLog

STOP_SIGNALS = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def detach(
    argv: Sequence[str], output: Path, environment: Mapping[str, str], cwd: Path | None
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own that reads nothing and writes to `output`.

    Requests to stop reach it only once it unblocks `STOP_SIGNALS`, so that one that is stopped
    while it still loads can end in order.

    Raises:
        OSError: it cannot be started.
    """
    log = AppendLog(output)
    try:
        with _signals_held_back():
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
                cwd=cwd,
            )
    finally:
        log.close()


def attach(
    argv: Sequence[str], errors: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a process that we hold by a pipe to its standard input, which closes however we end;
    what it prints is ours to read, what it complains goes to `errors`.

    Raises:
        OSError: it cannot be started.
    """
    log = AppendLog(errors)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.fileno(),
            start_new_session=True,
            env=environment,
        )
    finally:
        log.close()


def release(process: "subprocess.Popen[bytes]", patience: float) -> int:
    """Close the input of an attached process, which asks it to leave; after `patience` seconds it
    and its children are killed. Its exit code."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """A child inherits the mask of the thread that starts it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def process_start(pid: int) -> str | None:
    """When process `pid` started, in a form that no later process of that number shares.

    None when there is none or only a zombie. On Linux ticks since this boot, which unlike the
    time of day never shift while the process lives.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return None
        state, *fields = stat.rpartition(")")[2].split()  # the command may hold anything
        return None if state in "ZX" else f"{_boot()}-{fields[18]}"
    import psutil

    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return None if zombie else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def restarted_since(start: str) -> bool:
    """Whether this machine was restarted after a process with this `process_start` began."""
    if sys.platform == "linux":
        boot = start.partition("-")[0]
        return bool(boot) and boot != _boot()
    import psutil

    try:
        return float(start) < psutil.boot_time()
    except ValueError:
        return False


def memory_kills() -> int:
    """How many processes of this container the system has ended because its memory was used up;
    0 where that is not counted."""
    try:
        counts = Path("/sys/fs/cgroup/memory.events").read_text().split()
    except OSError:
        return 0
    named = dict(zip(counts[::2], counts[1::2], strict=False))
    count = named.get("oom_kill", "0")
    return int(count) if count.isdigit() else 0
