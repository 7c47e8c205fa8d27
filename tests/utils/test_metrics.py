"""Metrics: smoothing, speeds, history over kills, and both files of the logger."""

import json
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from utils.logging_utils import DualLogger
from utils.metrics import MetricsTracker, history


def test_the_first_smoothed_value_is_the_value_itself() -> None:
    tracker = MetricsTracker(smoothing=0.9)
    tracker.update({"loss": 5.0})
    assert tracker.smooth("loss") == pytest.approx(5.0)
    tracker.update({"loss": 3.0})
    assert tracker.smooth("loss") == pytest.approx((5.0 * 0.9 + 3.0) / 1.9)


def test_nan_leaves_the_average_as_it_was() -> None:
    tracker = MetricsTracker()
    assert tracker.smooth("loss") is None
    tracker.update({"loss": 2.0})
    tracker.update({"loss": math.nan})
    assert tracker.smooth("loss") == pytest.approx(2.0)


def test_speed_is_over_the_last_marks_and_starts_anew_after_a_pause() -> None:
    tracker = MetricsTracker(window=3)
    for second, tokens in ((0.0, 0), (1.0, 100), (2.0, 400), (3.0, 700)):
        tracker.mark(second, tokens)
    assert tracker.tokens_per_second() == pytest.approx(300.0)
    tracker.restart(60.0, 700)
    assert tracker.tokens_per_second() is None
    tracker.mark(62.0, 900)
    assert tracker.tokens_per_second() == pytest.approx(100.0)


def test_history_keeps_what_was_logged_last_for_a_step() -> None:
    points = [(1, {"loss": 5.0}), (2, {"loss": 4.0}), (3, {"loss": 9.0}), (2, {"loss": 4.0})]
    points += [(3, {"loss": 3.0}), (4, {"val_loss": 1.0}), (4, {"loss": None})]
    assert history(points, "loss") == [(1, 5.0), (2, 4.0), (3, 3.0)]


def test_metrics_are_written_for_tensorboard_and_as_json_lines(tmp_path: Path) -> None:
    logger = DualLogger(tmp_path, "run")
    logger.log(1, {"loss": 2.5, "grad_norm": math.nan}, 100.0)
    logger.log(2, {"loss": 1.5}, 101.0)
    logger.close()
    lines = (tmp_path / "raw_metrics" / "run.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 1, "time": 100.0, "loss": 2.5, "grad_norm": None}
    board = EventAccumulator(str(tmp_path / "tensorboard" / "run"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(1, 2.5), (2, 1.5)]


@pytest.mark.parametrize("resumed_at", [0, 1, 5, 9, 50])
def test_steps_done_again_after_a_kill_are_shown_once(tmp_path: Path, resumed_at: int) -> None:
    first = DualLogger(tmp_path, "run")
    for step in range(1, 11):
        first.log(step, {"loss": 10.0 - step}, 100.0 + step)
    first.close()
    again = DualLogger(tmp_path, "run", resumed_at=resumed_at)
    for step in range(resumed_at + 1, 14):
        again.log(step, {"loss": 20.0 - step}, 200.0 + step)
    again.close()
    board = EventAccumulator(str(tmp_path / "tensorboard" / "run"))
    board.Reload()
    shown = {e.step: e.value for e in board.Scalars("loss")}
    assert [e.step for e in board.Scalars("loss")] == list(range(1, max(10, *shown) + 1))
    assert all(value == (10 if step <= resumed_at else 20) - step for step, value in shown.items())
    third = DualLogger(tmp_path, "run", resumed_at=12)
    third.log(13, {"loss": 1.0}, 300.0)
    third.close()
    lines = (tmp_path / "raw_metrics" / "run.jsonl").read_bytes().splitlines()
    attempts = [json.loads(line).get("attempt", 1) for line in lines]
    repeated = max(0, 13 - resumed_at)
    assert attempts == [1] * 10 + [2] * repeated + [2 + (repeated > 0)]
