"""What frames every screen is readable at every size: the keys below, the lines to type in."""

from pathlib import Path

import pytest
from textual.widgets import Input

from app.tui.app import HatcheryApp
from tests.support.pilot import opened, play, shown, until

LONG = "checkpoints/" + "a_long_name_" * 12
SIZES = [(60, 16), (70, 20), (80, 24), (100, 30), (120, 40), (200, 50)]


def _last_line(app: HatcheryApp) -> str:
    return shown(app).rpartition("\n")[2]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stage", ["train", "cleanup", "inference", "export"])
def test_the_way_out_and_help_are_named_in_a_form(
    workspace: Path, size: tuple[int, int], stage: str
) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await pilot.pause()
            await until(pilot, lambda: "q Leave" in _last_line(app))
            await until(pilot, lambda: "? Help" in _last_line(app))
            app.open_stage(stage)
            await until(pilot, lambda: "esc Back" in _last_line(app))
            await until(pilot, lambda: "? Help" in _last_line(app))

    play(scene)


def test_keys_that_find_no_room_come_back_with_it(workspace: Path) -> None:
    async def scene() -> None:
        async with opened((60, 16)) as (app, pilot):
            await until(pilot, lambda: "q Leave" in _last_line(app))
            assert "s Settings" not in _last_line(app)
            await pilot.resize_terminal(120, 40)
            await until(pilot, lambda: "s Settings" in _last_line(app))

    play(scene)


def test_keys_are_named_before_the_window_has_the_focus(workspace: Path) -> None:
    async def scene() -> None:
        app = HatcheryApp()
        app.set_reactive(HatcheryApp.app_focus, False)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "q Leave" in _last_line(app))

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        ("train", ["--resume", LONG]),
        ("train", ["--data", LONG]),
        ("cleanup", ["--input", LONG]),
        ("inference", ["--checkpoint", LONG]),
        ("export", ["--checkpoint", LONG]),
        ("tokenize", ["--load", LONG]),
    ],
)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_value_longer_than_its_field_is_shown(
    workspace: Path, size: tuple[int, int], stage: str, arguments: list[str]
) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            app.open_stage(stage, arguments)
            await pilot.pause()
            lines = [line for line in app.screen.query(Input) if line.value.strip() == LONG]
            assert lines
            lines[0].scroll_visible(animate=False)
            await pilot.pause()
            row = shown(app).splitlines()[lines[0].region.y]
            assert "a_long_name_" in row or "checkpoints/" in row
            assert lines[0].styles.scrollbar_size_horizontal == 0

    play(scene)
