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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "leads_to"),
    [
        ("j Jobs", "› jobs"),
        ("c Runs", "› runs"),
        ("p Data", "› data"),
        ("s Settings", "› settings"),
        ("? Help", "› help"),
    ],
)
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_click_on_a_key_presses_it(
    workspace: Path, size: tuple[int, int], words: str, leads_to: str
) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await until(pilot, lambda: "q Leave" in _last_line(app))
            line = _last_line(app)
            if words not in line:
                return  # one that finds no room
            inside = line.index(words) + len(words) - 1
            await pilot.click(offset=(inside, size[1] - 1))
            await until(pilot, lambda: leads_to in shown(app).splitlines()[0])

    play(scene)


@pytest.mark.slow
def test_a_click_between_two_keys_presses_none(workspace: Path) -> None:
    async def scene() -> None:
        async with opened((120, 40)) as (app, pilot):
            await until(pilot, lambda: "q Leave" in _last_line(app))
            for column in (0, _last_line(app).index("j Jobs") - 2, 118):
                await pilot.click(offset=(column, 39))
            await pilot.pause()
            assert shown(app).splitlines()[0].startswith(" hatchery  ")

    play(scene)


@pytest.mark.slow
def test_keys_stand_apart_where_there_is_room(workspace: Path) -> None:
    async def scene() -> None:
        async with opened((120, 40)) as (app, pilot):
            await until(pilot, lambda: "r Run as set   " in _last_line(app))
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: "  " not in _last_line(app).strip())
            assert "r Run as set " in _last_line(app)

    play(scene)
