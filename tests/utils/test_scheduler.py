"""Learning-rate schedules."""

import math
from itertools import pairwise

import pytest

from utils.scheduler import ScheduleName, lr_multiplier


def curve(schedule: ScheduleName, total: int = 100, **changes: float) -> list[float]:
    settings = {"warmup_steps": 10, "cooldown": 0.4, "min_ratio": 0.1} | changes
    return [
        lr_multiplier(
            step,
            total,
            schedule=schedule,
            warmup_steps=int(settings["warmup_steps"]),
            cooldown=settings["cooldown"],
            min_ratio=settings["min_ratio"],
        )
        for step in range(total)
    ]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_warm_up_rises_linearly_to_the_peak(schedule: ScheduleName) -> None:
    assert curve(schedule)[:11] == pytest.approx([(step + 1) / 10 for step in range(10)] + [1.0])


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_minimum() -> None:
    rates = curve("cosine")
    assert rates[55] == pytest.approx(0.1 + 0.9 / 2)
    assert rates[77] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 67 / 90)))
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)


def test_wsd_stays_at_the_peak_and_then_falls_in_a_straight_line() -> None:
    rates = curve("wsd")
    assert set(rates[10:61]) == {1.0}
    falls = [before - after for before, after in pairwise(rates[60:])]
    assert falls == pytest.approx([0.9 / 40] * 39)


def test_constant_never_falls() -> None:
    assert set(curve("constant")[10:]) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_the_shortest_runs_still_have_positive_rates(schedule: ScheduleName, total: int) -> None:
    rates = curve(schedule, total, warmup_steps=50)
    assert all(0 < rate <= 1 for rate in rates)


def test_beyond_the_end_the_rate_stays_at_the_minimum() -> None:
    rate = lr_multiplier(500, 100, schedule="cosine", warmup_steps=10, cooldown=0.4, min_ratio=0.1)
    assert rate == pytest.approx(0.1)
