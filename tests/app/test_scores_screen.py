"""The screen of benchmarks, used as a user does."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from app.tui.app import HatcheryApp
from app.tui.runs.scores_screen import ScoresScreen
from app.tui.runs.scores_wording import curves
from app.tui.widgets.curve_chart import CurveChart
from pipeline.runs.judged import Reader, history
from pipeline.runs.results import BENCHMARKS
from tests.support.benchmarks import RUN, report, write
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until

GRAMMAR, TEXT = "embedded_grammar", "embedded_python_text"
FEW, SOME, MOST = [1.0] * 20 + [0.0] * 80, [1.0] * 24 + [0.0] * 76, [1.0] * 90 + [0.0] * 10


def texts(bits: float) -> list[float]:
    return [-100 * math.log(2) * (bits + 0.1 * (n % 3)) for n in range(50)]


@pytest.fixture
def judged(workspace: Path) -> Path:
    """Two benchmarks of steps of one run, the newer with a clear winner at one of its tasks."""
    write(report({"step 100": {GRAMMAR: FEW, TEXT: texts(2.4)}}), "old")
    newer = report({
        "step 200": {GRAMMAR: SOME, TEXT: texts(2.2)}, "step 300": {GRAMMAR: FEW, TEXT: texts(2.0)}
    })  # fmt: skip
    newer["made_by"]["time"] = "2026-11-21T12:58:00Z"
    write(newer, "new")
    return workspace


async def open_scores(app: HatcheryApp, pilot: Any) -> ScoresScreen:
    await pilot.press("b", "b")
    await until(pilot, lambda: isinstance(app.screen, ScoresScreen) and app.screen._report)
    assert isinstance(app.screen, ScoresScreen)
    return app.screen


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_every_task_says_who_is_better_or_that_nobody_is(
    judged: Path, size: tuple[int, int]
) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await open_scores(app, pilot)
            await until(pilot, lambda: "No significant difference" in shown(app))
            text = " ".join(shown(app).replace("│", " ").split())
            assert "≈ not told apart" in text
            assert "first step 200 and first step 100" not in text
            assert "100 items can show differences from about" in text
            assert "guessing 50.0 %" in text
            assert "100 of 400" in text
            await pilot.press("down")
            await until(pilot, lambda: "step 300 is better than" in shown(app))
            starred = [line for line in shown(app).splitlines() if "★ first step 300" in line]
            assert len(starred) == 2  # in the list, and among the checkpoints

    play(scene)


@pytest.mark.slow
def test_the_curve_has_the_steps_of_all_benchmarks_that_asked_the_same(judged: Path) -> None:
    found = Reader().reports(BENCHMARKS).reports
    series, colours = curves(history(found, found[0], TEXT))
    assert [point.step for point in series[0].points] == [100, 200, 300]
    assert [one.name for one in series] == ["first", "", "95 % interval", ""]
    assert len(colours) == len(series)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await open_scores(app, pilot)
            await until(pilot, lambda: "accuracy over steps" in shown(app))
            await pilot.press("down", "down")
            await until(pilot, lambda: "Mean of accuracies" in shown(app))
            assert not app.screen.query_one(CurveChart).parent.display  # type: ignore[union-attr]
        async with opened(NARROW) as (app, pilot):
            await open_scores(app, pilot)
            assert "over steps" not in shown(app)
            await pilot.press("t")
            await until(pilot, lambda: "over steps" in shown(app))

    play(scene)


@pytest.mark.slow
def test_other_benchmarks_recipe_and_export_are_a_key_away(
    judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(HatcheryApp, "open_stage", lambda _, *about: asked.append(about))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await open_scores(app, pilot)
            await until(pilot, lambda: "1 of 2" in shown(app))
            await pilot.press("i")
            await until(pilot, lambda: "with BOS or EOS in front, window 256 tokens" in shown(app))
            await pilot.press("left")
            await until(pilot, lambda: "2 of 2" in shown(app))
            await until(pilot, lambda: "Alone" in shown(app))
            await pilot.press("left", "r", "e")
            await until(pilot, lambda: any("Wrote" in n.message for n in app._notifications))

    play(scene)
    where = f"checkpoints/{RUN}/checkpoint_step_000100"
    assert asked == [("benchmark", ["--checkpoint", where, "--tasks", GRAMMAR, TEXT])]
    [table] = BENCHMARKS.glob("scores_*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["task"] for row in rows} == {GRAMMAR, TEXT}
    [row] = [row for row in rows if row["metric"] == "acc"]
    assert (row["step"], row["value"], row["items"], row["of"]) == ("100", "0.2", "100", "400")


@pytest.mark.slow
def test_damaged_files_are_counted_and_nothing_at_all_is_said(workspace: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("b", "b")
            await until(pilot, lambda: "Nothing was judged yet" in shown(app))
            write({}, "bad")
            await until(pilot, lambda: "1 file unreadable" in shown(app))
            await pilot.press("left", "right", "i", "e", "r", "t")
            assert isinstance(app.screen, ScoresScreen)

    play(scene)


@pytest.mark.slow
def test_in_a_small_window_the_last_of_many_tasks_comes_into_sight(workspace: Path) -> None:
    tasks = ("arc_easy", "piqa", "copa", "hellaswag", "winogrande", "blimp", "lambada_openai")
    write(report({"step 10": dict.fromkeys(tasks, FEW), "step 20": dict.fromkeys(tasks, SOME)}))

    async def scene() -> None:
        async with opened(NARROW) as (app, pilot):
            await open_scores(app, pilot)
            await until(pilot, lambda: "ARC easy" in shown(app))
            assert "All accuracies" not in shown(app)
            await pilot.press("end")
            await until(pilot, lambda: "mean" in shown(app).lower())
            lines = shown(app).splitlines()
            below = next(n for n, line in enumerate(lines) if "─ All accuracies" in line)
            assert any("All accuracies" in line for line in lines[:below])

    play(scene)


@pytest.mark.slow
def test_what_was_seen_in_training_is_said_beside_the_score_without_it(workspace: Path) -> None:
    made = report({"step 10": {GRAMMAR: FEW}})
    [result] = (by_task[GRAMMAR] for by_task in made["results"].values())
    result["contamination"] = {
        "checked": True, "items": 30, "n_without": 70, "rule": "12 tokens in a row", "too_short": 5,
        "metrics_without": {"acc": 0.125}, "interval_without": [0.1, 0.2], "partly": "",
    }  # fmt: skip
    write(made)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await open_scores(app, pilot)
            await until(pilot, lambda: "30 of 100 items stand in its training text" in shown(app))
            assert "12.5 %" in shown(app)
            assert "12 tokens in a row" not in shown(app)
            await pilot.press("i")
            await until(pilot, lambda: "12 tokens in a row" in shown(app))

    play(scene)


@pytest.mark.slow
def test_what_a_server_judged_is_not_judged_again_as_a_checkpoint(workspace: Path) -> None:
    made = report({"step 10": {GRAMMAR: FEW}})
    for origin in made["checkpoints"].values():
        origin["path"] = "http:/127.0.0.1:8000/v1"
    write(made)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await open_scores(app, pilot)
            await until(pilot, lambda: "Grammar pairs" in shown(app))
            assert "Judge again" not in shown(app)
            await pilot.press("r")
            assert isinstance(app.screen, ScoresScreen)

    play(scene)
