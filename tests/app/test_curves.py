"""Curves in bounded memory."""

from random import Random

from app.charts.curve import Curve


def test_a_short_curve_keeps_every_value() -> None:
    curve = Curve()
    for step in range(10, 500, 10):
        curve.add(step, step / 2)
    assert [(p.step, p.mean) for p in curve.points] == [(s, s / 2) for s in range(10, 500, 10)]


def test_many_values_stay_few_and_no_spike_hides() -> None:
    curve, random = Curve(), Random(3)
    values = [random.gauss(3, 0.1) for _ in range(100_000)]
    values[70_001], values[20_002] = 25.0, -4.0
    for step, value in enumerate(values):
        curve.add(step, value)
    assert 1024 <= len(curve.points) <= 2048
    assert max(p.high for p in curve.points) == 25.0
    assert min(p.low for p in curve.points) == -4.0
    assert sum(p.number for p in curve.points) == len(values)
    assert abs(sum(p.total for p in curve.points) - sum(values)) < 1e-3
    steps = [p.step for p in curve.points]
    assert steps == sorted(set(steps))
    assert steps[-1] == len(values) - 1


def test_values_after_a_resume_take_the_place_of_those_before() -> None:
    curve = Curve()
    for step in range(1, 101):
        curve.add(step, 1.0)
    for step in range(61, 91):
        curve.add(step, 2.0)
    assert [p.step for p in curve.points] == list(range(1, 91))
    assert [p.mean for p in curve.points] == [1.0] * 60 + [2.0] * 30


def test_an_abandoned_future_leaves_nothing_in_a_coarse_curve() -> None:
    curve = Curve(most=64)
    for step in range(1000):
        curve.add(step, 100.0 if step >= 500 else 1.0)
    for step in range(500, 600):
        curve.add(step, 1.0)
    assert {p.high for p in curve.points} == {1.0}
    assert curve.points[-1].step == 599


def test_what_is_not_finite_leaves_the_curve_as_it_is() -> None:
    curve = Curve()
    for value in (1.0, float("nan"), float("inf"), 2.0):
        curve.add(len(curve.points) + 1, value)
    assert [p.mean for p in curve.points] == [1.0, 2.0]


def test_a_copy_of_the_points_stays_as_it_is() -> None:
    curve = Curve(most=8)
    curve.add(1, 1.0)
    before = curve.points[:]
    for step in range(2, 100):
        curve.add(step, 5.0)
    assert [tuple(p) for p in before] == [(1, 1.0, 1.0, 1.0, 1)]
