"""Metrics of a run: what the last steps looked like, and the whole history read back."""

import math
from collections import deque
from collections.abc import Iterable, Mapping


class MetricsTracker:
    """Keeps smoothed values and speeds of the steps seen so far.

    Smoothing is an exponential moving average with bias correction, so the first values are not
    pulled towards zero. The clock is passed in.
    """

    def __init__(self, smoothing: float = 0.9, window: int = 50) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), not {smoothing}")
        self._smoothing = smoothing
        self._average: dict[str, float] = {}
        self._weight: dict[str, float] = {}
        self._marks: deque[tuple[float, int]] = deque(maxlen=window)

    def update(self, values: Mapping[str, float]) -> None:
        """Take in one step's values; non-finite ones leave the averages as they are."""
        for name, value in values.items():
            if math.isfinite(value):
                keep = self._smoothing
                self._average[name] = keep * self._average.get(name, 0.0) + (1 - keep) * value
                self._weight[name] = keep * self._weight.get(name, 0.0) + (1 - keep)

    def smooth(self, name: str) -> float | None:
        """Smoothed value, None before the first finite one."""
        weight = self._weight.get(name, 0.0)
        return self._average[name] / weight if weight else None

    def mark(self, now: float, tokens: int) -> None:
        """Note that `tokens` tokens in all were done at `now` seconds."""
        self._marks.append((now, tokens))

    def restart(self, now: float, tokens: int) -> None:
        """Begin a new stretch of speed: what happened since the last mark was no training."""
        self._marks.clear()
        self.mark(now, tokens)

    def tokens_per_second(self) -> float | None:
        """Speed over the last marks, None until there are two."""
        if len(self._marks) < 2:
            return None
        (begin, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - begin) if end > begin else None


def history(
    points: Iterable[tuple[int, Mapping[str, float | None]]], name: str
) -> list[tuple[int, float]]:
    """`name` by step, in order. A step logged twice (before a kill and after the resume) counts
    once, as it was logged last; steps from a later, abandoned future are dropped."""
    series: list[tuple[int, float]] = []
    for step, values in points:
        value = values.get(name)
        if value is None:
            continue
        while series and series[-1][0] >= step:
            series.pop()
        series.append((step, value))
    return series
