"""A terminal for tests: a program runs in it as in a real one, and its output is kept."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 30.0  # seconds that anything may take on a busy machine
_PRIVATE_MODE = re.compile(rb"\x1b\[\?(\d+)([hl])")
_ON_AT_HOME = {7, 25}  # line wrap and cursor; every other mode is off in a terminal at rest


class Terminal:
    """`command` in a pseudo-terminal of its own, as its session leader."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        size: tuple[int, int] = (120, 40),
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(*size)
        self.mode_before = self.mode
        self.output = bytearray()  # grows by a few kilobytes at a time
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
            | dict(environment or {}),
        )

    @property
    def mode(self) -> list[Any]:
        """Line discipline: echo, canonical input, signals from keys."""
        return termios.tcgetattr(self._slave)

    @property
    def text(self) -> str:
        """All output without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?<>$]*[a-zA-Z]", "", self.output.decode("utf-8", "replace"))

    def resize(self, columns: int, rows: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def read(self, seconds: float = 0.05) -> bool:
        """Take what was written; False when nothing came within `seconds`."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        with contextlib.suppress(OSError):
            self.output += os.read(self._master, 1 << 16)
        return True

    def until(self, wanted: str, since: int = 0) -> int:
        """Read until `wanted` was written after the offset `since`; the length of all output."""
        deadline = time.monotonic() + PATIENCE
        while wanted.encode() not in self.output[since:]:
            assert time.monotonic() < deadline, f"{wanted!r} never came: {self.text[-2000:]}"
            assert self.read() or self.process.poll() is None, self.text[-2000:]
        return len(self.output)

    def ended(self, seconds: float = PATIENCE) -> int:
        """Read until the program has ended; its exit code, negative for a signal."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, "it did not end"
        while self.read(0.0):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """The window is closed, or the connection is lost."""
        os.close(self._slave)
        os.close(self._master)
        self._master = -1

    @property
    def left_on(self) -> set[int]:
        """Private modes that are not as in a terminal at rest."""
        last = {int(mode): state == b"h" for mode, state in _PRIVATE_MODE.findall(self.output)}
        return {mode for mode, on in last.items() if on != (mode in _ON_AT_HOME)}

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._master >= 0:
            self.hang_up()


@contextlib.contextmanager
def terminal(*command: str, **settings: Any) -> Iterator[Terminal]:
    """`python COMMAND` in a terminal, ended at the end of the block."""
    opened = Terminal([sys.executable, *command], **settings)
    try:
        yield opened
    finally:
        opened.close()


def children(pid: int) -> list[int]:
    """The processes that process `pid` started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]
