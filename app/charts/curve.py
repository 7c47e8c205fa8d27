"""A curve over optimizer steps in bounded memory, however long the run and often resumed."""

import math
from typing import NamedTuple


class Point(NamedTuple):
    """One or several neighbouring values: `step` is the last one's, `total` their sum."""

    step: int
    low: float
    high: float
    total: float
    number: int

    @property
    def mean(self) -> float:
        return self.total / self.number


class Curve:
    """Lowest, mean and highest value over equal stretches of steps, at most `most` of them.

    A stretch doubles whenever there are too many, so a spike of one step stays to be seen. Where
    steps go back, as after a resume, the later values take the place of the earlier ones.
    """

    def __init__(self, most: int = 2048) -> None:
        self._most = most
        self._stretch = 1
        self.points: list[Point] = []
        """In order of steps; a copy stays as it is."""

    def add(self, step: int, value: float) -> None:
        """Take in the value of a step; one that is not finite leaves the curve as it is."""
        if not math.isfinite(value):
            return
        points = self.points
        if points and points[-1].step >= step:
            self.cut(step)
        if points:
            newest, low, high, total, number = points[-1]
            if newest // self._stretch == step // self._stretch:
                # Written out, as a million values take this path.
                low, high = value if value < low else low, value if value > high else high
                points[-1] = Point(step, low, high, total + value, number + 1)
                return
        points.append(Point(step, value, value, value, 1))
        if len(points) > self._most:
            self._coarsen()

    def cut(self, step: int) -> None:
        """Forget `step` and what comes after it, together with the stretch it lies in."""
        while self.points and self.points[-1].step >= step:
            self.points.pop()

    def _coarsen(self) -> None:
        while len(self.points) > self._most // 2:
            self._stretch *= 2
            coarser: list[Point] = []
            for point in self.points:
                if coarser and coarser[-1].step // self._stretch == point.step // self._stretch:
                    coarser[-1] = _merged(coarser[-1], point)
                else:
                    coarser.append(point)
            self.points[:] = coarser


def _merged(left: Point, right: Point) -> Point:
    return Point(
        right.step,
        min(left.low, right.low),
        max(left.high, right.high),
        left.total + right.total,
        left.number + right.number,
    )
