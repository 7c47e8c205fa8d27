"""The validation points of a run, out of an events file that may hold millions of lines."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from pipeline.event_search import Found, end_of_lines, search
from pipeline.events import Metric

# In every validation: its kind, or its loss in files of versions without kinds.
_MARK = re.compile(rb'"val(idation|_loss)"')
_SEARCHED = 1 << 30  # bytes from the end


class Point(NamedTuple):
    """One validation: nats per token, and bits per byte of text where it was recorded."""

    step: int
    loss: float
    bits: float | None


class Curve:
    """The validations of one events file, oldest first; steps done again after a resume count
    once. A second look reads only what was added since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._points: dict[int, Point] = {}
        self._offset = 0

    def points(self) -> list[Point]:
        """All there are now; none where there is no file."""
        try:
            with self._path.open("rb") as handle:
                self._read_on(handle)
        except OSError:
            return []
        return [self._points[step] for step in sorted(self._points)]

    def _read_on(self, handle: IO[bytes]) -> None:
        end = end_of_lines(handle)  # the last line may be half-written
        if end < self._offset:  # another file of that name
            self._points, self._offset = {}, 0
        for _, metric in validations(handle, max(self._offset, end - _SEARCHED), end):
            loss = metric.values.get("val_loss")
            if loss is not None:
                bits = metric.values.get("bits_per_byte")
                self._points[metric.step] = Point(metric.step, loss, bits)
        self._offset = end


def validations(handle: IO[bytes], begin: int, end: int) -> Iterator[tuple[Found, Metric]]:
    """Every validation whose whole line lies in bytes [begin, end) of an events file, in order."""
    for found in search(handle, _MARK, begin, end):
        if isinstance(found.event, Metric) and found.event.kind == "validation":
            yield found, found.event


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
