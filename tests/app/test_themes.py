"""What the app remembers of a person, and that it never insists on it."""

from pathlib import Path

import pytest

from app.tui import themes
from app.tui.themes import DARK, LIGHT
from tests.support.pilot import opened, play, until


@pytest.mark.slow
def test_the_theme_chosen_is_there_again_in_the_next_session(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            assert app.theme == DARK.name
            await pilot.press("ctrl+t")
            await until(pilot, lambda: themes.kept_theme() == LIGHT.name)
        async with opened() as (app, pilot):
            assert app.theme == LIGHT.name
            await pilot.press("ctrl+t")
            await until(pilot, lambda: themes.kept_theme() == DARK.name)

    play(act)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"[]", b'{"theme": 7}', b'{"theme": "no-such"}', b"[" * 60_000, b" " * 99_999],
    ids=["empty", "bytes", "list", "number", "unknown", "deep", "long"],
)
def test_a_file_that_cannot_be_understood_leaves_the_default(workspace: Path, text: bytes) -> None:
    Path("logs").mkdir()
    themes.FILE.write_bytes(text)

    async def act() -> None:
        async with opened() as (app, _):
            assert app.theme == DARK.name

    play(act)


def test_where_nothing_can_be_written_the_theme_changes_all_the_same(workspace: Path) -> None:
    Path("logs").write_text("in the way")

    async def act() -> None:
        async with opened() as (app, pilot):
            await pilot.press("ctrl+t")
            await app.workers.wait_for_complete()
            assert app.theme == LIGHT.name

    play(act)
    assert Path("logs").read_text() == "in the way"
