"""Growing files read piece by piece: lines of events, and the last lines of a log.

Each call does a bounded amount of work, whatever has been written since the last one, and never
fails: a file may not be there yet, shrink, or be deleted while it is watched.
"""

from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline.runs.validations import validations

_LONGEST_LINE = 16 << 20
_LOG_READ = 256 << 10
_LOG_LINES = 2000
_LOG_WIDTH = 1000  # characters of a line that are kept

_BLOCKS, _BLOCK = 240, 4096
_NEWEST = 128 << 10
_RECENT = 8  # of the newest validations, also the events right after them
_MOST_VALIDATIONS = 8192
_TOGETHER = 4  # a validation, its sample, its checkpoint, and one line more


class LineTail:
    """The whole lines of a growing file, each once, from `offset` bytes on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset

    def waiting(self) -> int:
        """Bytes not read yet; a file that has shrunk was made anew and is read from its start."""
        try:
            size = self.path.stat().st_size
        except OSError:
            return 0
        if size < self.offset:
            self.offset = 0
        return size - self.offset

    def read(self, limit: int) -> list[bytes]:
        """The next lines, of about `limit` bytes; the one still being written waits."""
        data = b""
        with suppress(OSError), self.path.open("rb") as handle:
            handle.seek(self.offset)
            data = handle.read(limit)
            while len(data) == limit and b"\n" not in data and limit < _LONGEST_LINE:
                data += handle.read(limit)
                limit *= 2
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and len(data) >= _LONGEST_LINE:
            whole = data  # no line of ours: passed over
        self.offset += len(whole)
        return whole.split(b"\n")[:-1] if whole else []


class LogTail:
    """The last lines of a log that may grow faster than anyone can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._torn = b""
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)

    def read(self) -> bool:
        """Catch up; whether there was anything new. What the ring could not hold is skipped."""
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return False
            if size < self._offset:
                self._offset, self._torn = 0, b""  # made anew
            start = max(self._offset, size - _LOG_READ)
            with self._path.open("rb") as handle:
                handle.seek(start)
                data = handle.read(size - start)
        except OSError:
            return False
        if start > self._offset:
            self._torn = b""
            data = data[data.find(b"\n") + 1 :]
        self._offset = size
        *whole, torn = (self._torn + data).split(b"\n")
        self._torn = torn[-_LOG_READ:]
        self._lines.extend(map(_readable, whole[-_LOG_LINES:]))
        return True

    def lines(self) -> tuple[str, ...]:
        """The last lines, the unfinished one included."""
        unfinished = (_readable(self._torn),) if self._torn else ()
        return (*self._lines, *unfinished)


def _readable(line: bytes) -> str:
    """A line as a terminal would leave it: what follows the last carriage return."""
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown[: 4 * _LOG_WIDTH].decode(errors="replace").expandtabs()[:_LOG_WIDTH]


def glance(path: Path) -> tuple[list[bytes], int]:
    """A large file of events in short: evenly spaced pieces, all validations, and its end.

    Returns the lines in their order, and the offset where the rest begins. 300 MB take 0.2 s.
    """
    found: dict[int, bytes] = {}
    with suppress(OSError), path.open("rb") as handle:
        size = path.stat().st_size
        newest = max(0, size - _NEWEST)
        for number in range(_BLOCKS):
            found |= _whole_lines(handle, newest * number // _BLOCKS, _BLOCK)
        kept = _validations(handle, size)
        found |= kept
        for begin in list(kept)[-_RECENT:]:
            handle.seek(begin)
            for _ in range(_TOGETHER):
                start = handle.tell()
                line = handle.readline(_LONGEST_LINE)
                if line.endswith(b"\n"):
                    found[start] = line
        found |= _whole_lines(handle, newest, size - newest)
        end = max((start + len(line) for start, line in found.items()), default=0)
        return [found[start] for start in sorted(found)], end
    return [], 0


def _whole_lines(handle: IO[bytes], start: int, size: int) -> dict[int, bytes]:
    """The lines that lie wholly within `size` bytes from `start`, by where they begin."""
    handle.seek(start)
    data = handle.read(size)
    at = 0 if start == 0 else data.find(b"\n") + 1
    lines = {}
    while end := data.find(b"\n", at) + 1:
        lines[start + at] = data[at:end]
        at = end
    return lines


def _validations(handle: IO[bytes], end: int) -> dict[int, bytes]:
    """The lines of the validations before `end` by where they begin, oldest first; evenly thinned
    where there are too many, but with the newest."""
    kept: list[tuple[int, bytes]] = []
    recent: deque[tuple[int, bytes]] = deque(maxlen=_RECENT)
    every = 1
    for number, (found, _) in enumerate(validations(handle, 0, end)):
        recent.append((found.start, found.line))
        if number % every == 0:
            kept.append(recent[-1])
        if len(kept) > _MOST_VALIDATIONS:
            del kept[1::2]
            every *= 2
    return dict(sorted({*kept, *recent}))
