"""The results screen, used as a user does."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.tui.app import HatcheryApp
from app.tui.runs.results_screen import Heading, ResultsScreen
from tests.pipeline.test_results import write_run
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until


@pytest.fixture
def measured(workspace: Path) -> Path:
    """Two runs on one text with one tokenizer, and one with another tokenizer."""
    for name, losses, tokenizer in (
        ("run_a", [4.0, 3.5], "t1"),
        ("run_b", [4.0, 3.0], "t1"),
        ("run_c", [2.0, 1.0], "t2"),
    ):
        run = write_run(name, losses, tokens=1000, seconds=2.0)
        record = {
            "options": {},
            "model": {},
            "data": "data/none",
            "fingerprints": {"data": "same", "tokenizer": tokenizer},
            "created": "",
            "version": "0",
        }
        (run / "run.json").write_text(json.dumps(record))
    return workspace


async def open_results(app: HatcheryApp, pilot: Any) -> ResultsScreen:
    await pilot.press("b")
    await until(pilot, lambda: isinstance(app.screen, ResultsScreen) and app.screen._rows)
    assert isinstance(app.screen, ResultsScreen)
    return app.screen


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_best_is_starred_among_what_compares_and_the_rest_is_said(
    measured: Path, size: tuple[int, int]
) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await open_results(app, pilot)
            await until(pilot, lambda: "★ 3.0000" in shown(app))
            text = " ".join(shown(app).split())
            assert "★ 1.0000" not in text  # of another tokenizer: alone, so not best of any
            assert "run_b has the best val loss, 3.0000, of 2" in text
            assert "run_c has the best bits per byte, 0.5000, of 3" in text
            assert "Bits per byte compares them all" in text
            assert "█▁" in text

    play(scene)


@pytest.mark.slow
def test_keys_and_clicks_sort_and_e_writes_it_out(measured: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_results(app, pilot)
            await pilot.press("s")
            assert [row.name for row in screen._rows] == ["run_c", "run_b", "run_a"]
            assert "val loss▲" in shown(app)
            await pilot.press("o")
            assert [row.name for row in screen._rows] == ["run_a", "run_b", "run_c"]
            await pilot.click(Heading, offset=(1, 0))
            await until(pilot, lambda: "run▼" in shown(app) or "run▲" in shown(app))
            await pilot.press("e")
            await until(pilot, lambda: any("Wrote" in n.message for n in app._notifications))

    play(scene)
    [table] = Path("benchmark_results").glob("results_*.csv")
    assert table.read_text().count("\n") == 4
    assert len(json.loads(table.with_suffix(".json").read_bytes())) == 3


@pytest.mark.slow
def test_nothing_measured_yet_is_said(workspace: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("b")
            await until(pilot, lambda: "nothing measured yet" in shown(app))

    play(scene)
