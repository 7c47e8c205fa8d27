"""The data screen, used as a user does."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.tui.app import HatcheryApp
from app.tui.data.documents import TabBar
from app.tui.data.screen import DataScreen
from pipeline.inspection.windows import RunWindows
from tests.pipeline.test_inspection import write_run
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until


async def open_data(app: HatcheryApp, pilot: Any) -> DataScreen:
    await pilot.press("p")
    await until(pilot, lambda: isinstance(app.screen, DataScreen) and app.screen._shown)
    await pilot.pause()
    assert isinstance(app.screen, DataScreen)
    return app.screen


@pytest.fixture
def wiki(workspace: Path) -> Path:
    """A raw folder with two documents that have something to remove, and one stub."""
    folder = Path("data/raw/wikipedia")
    folder.mkdir(parents=True)
    rows = [
        {"name": "Hen", "abstract": "The [[hen|bird]] lays eggs [1] every day." + " More." * 30},
        {"name": "Fox [b]\x1b[0m", "abstract": "The fox  waits." + " Long." * 30},
        {"name": "Stub", "abstract": "Short."},
    ]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("config.json").write_text('{"dataset": {"source": "wikipedia"}}')
    return workspace


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_raw_stands_beside_clean_and_the_rules_are_named(wiki: Path, size: tuple[int, int]) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await open_data(app, pilot)
            await until(pilot, lambda: "citations" in shown(app))
            text = shown(app)
            assert "The [[hen|bird]] lays" in text
            assert "The bird lays eggs every" in text
            assert "links" in text
            assert "document 1 · file 1 of 1" in text
            assert not app._notifications

    play(scene)


@pytest.mark.slow
def test_one_leafs_jumps_and_searches(wiki: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_data(app, pilot)
            await pilot.press("n")
            await until(pilot, lambda: "Fox [b]␛[0m" in shown(app))
            await pilot.press("g", "3", "enter")
            await until(pilot, lambda: "left out: stub" in shown(app))
            await pilot.press("n")
            await until(pilot, lambda: any("last" in n.message for n in app._notifications))
            await pilot.press("g", "9", "enter")
            few = "there are fewer than 9 documents"
            await until(pilot, lambda: any(few in n.message for n in app._notifications))
            await pilot.press("g", "1", "enter")
            await until(pilot, lambda: "document 1 ·" in shown(app))
            await pilot.press("slash", *"fox", "enter")
            await until(pilot, lambda: "Fox [b]" in shown(app))
            assert app.screen is screen
            await pilot.press("x")
            await until(pilot, lambda: "document 2 ·" not in shown(app))

    play(scene)


@pytest.mark.slow
def test_rejected_documents_are_shown_by_reason_with_their_raw_text(wiki: Path) -> None:
    from tests.support.stage_runner import run_stage

    run_stage("cleanup", cleanup={"source": "wikipedia", "workers": 1})

    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_data(app, pilot)
            await pilot.press("2")
            await until(pilot, lambda: '"abstract": "Short."' in shown(app))
            assert "stub" in shown(app)
            await pilot.press("enter", "enter")
            await until(pilot, lambda: "left out: stub" in shown(app))
            assert screen._view == "documents"

    play(scene)


@pytest.mark.slow
def test_tokens_of_every_tokenizer_stand_side_by_side(prepared: Path) -> None:
    from tests.support.token_sets import save_tokenizer

    save_tokenizer("bytes")

    async def scene() -> None:
        async with opened() as (app, pilot):
            await open_data(app, pilot)
            await pilot.click(TabBar, offset=(34, 0))
            await until(pilot, lambda: shown(app).count("bytes per token") == 2)
            assert "╭─ bytes" in shown(app)
            assert "╭─ chars" in shown(app)
            assert "·" in shown(app).split("bytes per token")[-1]
            await pilot.press("i")
            await until(pilot, lambda: "₁" in shown(app))

    play(scene)


@pytest.mark.slow
def test_the_windows_of_a_step_open_directly_and_are_walked(prepared: Path) -> None:
    folder = write_run(Path("checkpoints/run_a"), batch_size=3, window=32)
    windows = RunWindows(folder, Path("tokenizers"))

    def on_screen(app: HatcheryApp, step: int, **which: bool) -> bool:
        numbers = windows.indices(step, **which)
        listed = "\n".join(shown(app).splitlines()[4:])
        return all(f"{n + 1:>3}  {number:,}" in listed for n, number in enumerate(numbers))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await app.push_screen(DataScreen(folder, 5))
            await until(pilot, lambda: "step 5 ·" in shown(app) and on_screen(app, 5))
            first = windows.window(int(windows.indices(5)[0]))
            line = first.excerpts[-1].text.replace("<s>", "").splitlines()[-1]
            await until(pilot, lambda: line.replace("</s>", "").strip() in shown(app))
            await until(pilot, lambda: f"document {first.excerpts[0].row} · " in shown(app))
            await pilot.press("n")
            await until(pilot, lambda: "step 6 ·" in shown(app) and on_screen(app, 6))
            await pilot.press("g", *"40", "enter")
            await until(pilot, lambda: "step 40 ·" in shown(app) and on_screen(app, 40))
            second = windows.window(int(windows.indices(40)[1]))
            await pilot.press("down")
            await until(pilot, lambda: f"Window {second.number:,} ·" in shown(app))
            await pilot.press("v")
            await until(pilot, lambda: "validation batch 1 of" in shown(app))
            assert on_screen(app, 1, validation=True)

    play(scene)


@pytest.mark.slow
def test_an_empty_workspace_says_in_every_view_what_is_missing(workspace: Path) -> None:
    Path("config.json").write_text('{"dataset": {"source": "wikipedia"}}')

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("p")
            for view, said in (
                ("1", "There is no raw text of wikipedia"),
                ("2", "Nothing was rejected, or nothing cleaned yet"),
                ("3", "There is no raw text of wikipedia"),
                ("4", "There is no run yet"),
                ("5", "There are no conversations yet"),
            ):
                await pilot.press(view)
                await until(pilot, lambda said=said: said in shown(app))

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_what_is_learned_of_a_conversation_is_marked_and_what_was_left_out_is_shown(
    workspace: Path, size: tuple[int, int]
) -> None:
    from tests.pipeline.test_inspected_conversations import ROWS, lima

    lima(ROWS, "hens")
    lima([{"prompt": "Q?", "chosen": "Good", "rejected": "Bad"}], "pairs")
    folder = Path("data/post-training/hens")

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await app.push_screen(DataScreen(examples=folder))
            await until(
                pilot, lambda: "What is a hen?" in shown(app) and "━━ learned" in shown(app)
            )
            text = shown(app)
            assert "A bird [b]␛[2J." in text
            assert "━━ read · " in text
            assert "7 conversations" in text
            assert any(
                segment.style is not None and segment.style.underline and "A bird" in segment.text
                for strip in app.screen._compositor.render_strips()
                for segment in strip
            )
            await pilot.press("g", "2", "enter")
            await until(pilot, lambda: "Assistant:" in shown(app) and "2 · " in shown(app))
            await pilot.press("v")
            await until(pilot, lambda: "2 left out" in shown(app) and "✕ duplicate" in shown(app))
            await pilot.press("down")
            await until(pilot, lambda: '"completion": ""' in shown(app))
            await pilot.press("v", "u")
            await until(pilot, lambda: "✓ chosen" in shown(app) and "✕ not chosen" in shown(app))

    play(scene)
