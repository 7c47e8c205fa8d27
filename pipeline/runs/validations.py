"""The validation points of a run, out of an events file that may hold millions of lines.

The file is searched for the few lines that hold a validation loss, at the speed of memory; a
second look reads only what was added since.
"""

import mmap
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.events import Metric, from_json

_KEY = b'"val_loss":'  # inside a text every quote is escaped, so it is never one of those
_SEARCHED = 1 << 30  # bytes from the end


class Point(NamedTuple):
    """One validation: nats per token, and bits per byte of text where it was recorded."""

    step: int
    loss: float
    bits: float | None


class Curve:
    """The validations of one events file, oldest first; steps done again after a resume count
    once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._points: dict[int, Point] = {}
        self._upto = 0

    def points(self) -> list[Point]:
        """All there are now; none where there is no file."""
        try:
            with self._path.open("rb") as handle:
                size = handle.seek(0, 2)
                if size < self._upto:  # another file of that name
                    self._points, self._upto = {}, 0
                if size > self._upto:
                    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                        self._search(data)
        except (OSError, ValueError):
            return []
        return [self._points[step] for step in sorted(self._points)]

    def _search(self, data: mmap.mmap) -> None:
        end = data.rfind(b"\n") + 1  # the last line may be half-written
        at = max(self._upto, end - _SEARCHED)
        while (found := data.find(_KEY, at, end)) >= 0:
            begin = data.rfind(b"\n", 0, found) + 1
            at = data.find(b"\n", found)
            self._note(data[begin:at])
        self._upto = max(self._upto, end)

    def _note(self, line: bytes) -> None:
        try:
            event = from_json(line)
        except msgspec.DecodeError:
            return
        loss = event.values.get("val_loss") if isinstance(event, Metric) else None
        if isinstance(event, Metric) and loss is not None:
            self._points[event.step] = Point(event.step, loss, event.values.get("bits_per_byte"))


def sparkline(values: list[float], width: int) -> str:
    """The course of `values` in `width` cells at most, the lowest as the lowest block."""
    blocks = "▁▂▃▄▅▆▇█"
    if not values:
        return ""
    cells = min(width, len(values))
    ends = [round((cell + 1) * len(values) / cells) for cell in range(cells)]
    chosen = [values[end - 1] for end in ends]
    low, high = min(chosen), max(chosen)
    if high == low:
        return blocks[0] * cells
    return "".join(blocks[round((value - low) / (high - low) * 7)] for value in chosen)
