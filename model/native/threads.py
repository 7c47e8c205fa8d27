"""How many threads compute a step of the C engine fastest: found by trying, since neighbours on
the machine come and go."""

from collections.abc import Sequence

_TRIED, _KEPT = 3, 128  # steps with each number, steps with the best before trying again
_TOO_SLOW = 2.0  # times the best so far: no second step with that number


def candidates(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [*(n for n in (2**power for power in range(12)) if n < most), most]


class ThreadChoice:
    """Ask `threads` before each step and `record` how long it took. All numbers are tried again
    after a while, and as soon as several steps in a row are slow.

    With one of two cores busy elsewhere, two threads wait for each other up to 7 ms a step of
    2 ms; with both free they take 0.6 of one thread's time.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = list(numbers)
        self._begin()

    def _begin(self) -> None:
        self._place = self._steps = self._slow = 0
        self._times: list[list[float]] = [[] for _ in self._numbers]

    @property
    def threads(self) -> int:
        """Threads for the next step."""
        return self._numbers[self._place]

    def record(self, seconds: float) -> None:
        """The last step took so long."""
        if len(self._numbers) == 1:
            return
        if self._steps < 0:  # the best is in use until it is time to try again
            self._steps += 1
            usual = _mean(self._times[self._place])
            self._slow = self._slow + 1 if seconds > _TOO_SLOW * usual else 0
            if self._steps == 0 or self._slow == _TRIED:
                self._begin()
            return
        self._times[self._place].append(seconds)
        self._steps += 1
        best = min((_mean(times) for times in self._times[: self._place]), default=float("inf"))
        if self._steps < _TRIED and seconds < _TOO_SLOW * best:
            return
        self._steps = 0
        self._place += 1
        if self._place == len(self._numbers):
            means = [_mean(times) for times in self._times]
            self._place, self._steps = means.index(min(means)), -_KEPT


def _mean(times: Sequence[float]) -> float:
    return sum(times) / len(times)
