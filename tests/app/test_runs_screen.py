"""The runs screen, used as a user does."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.tui.app import HatcheryApp
from app.tui.runs.screen import RunsScreen
from app.tui.widgets.confirm import ConfirmDialog
from pipeline.runs import folders
from pipeline.runs.lineage import PROOF
from tests.pipeline.test_deletion import HOME, checkpoint
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from utils.artefacts import build_folder, source
from utils.files import FolderLock

HEN, FOX = "run_2026_01_02_10_00_hen", "run_2026_01_01_10_00_fox"


@pytest.fixture
def coop(workspace: Path) -> Path:
    """Two runs: one with a best, a latest and a damaged checkpoint, one that saved nothing."""
    for step, loss in ((10, 3.0), (20, 2.0), (30, 2.5)):
        checkpoint(HOME / HEN, step, loss)
    record = {
        "options": {"learning_rate": 0.5, "batch_size": 16},
        "model": {},
        "data": "data/gone",
        "fingerprints": {"data": "d", "tokenizer": "t"},
        "created": "2026-01-02T10:00:00+0000",
        "version": "0.1.0",
        "parent": f"checkpoints/{FOX}/checkpoint_step_000007",
    }
    (HOME / HEN / "run.json").write_text(json.dumps(record))
    folders.point(HOME / HEN, "best", folders.step_folder(HOME / HEN, 20))
    folders.point(HOME / HEN, "latest", folders.step_folder(HOME / HEN, 30))
    (folders.step_folder(HOME / HEN, 10) / "model.safetensors").write_text("cut")
    (HOME / FOX).mkdir()
    (HOME / FOX / "run.json").write_text("{}")
    return workspace


async def open_runs(app: HatcheryApp, pilot: Any) -> RunsScreen:
    """The screen with its tree."""
    await pilot.press("c")
    await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen._rows)
    assert isinstance(app.screen, RunsScreen)
    return app.screen


async def go_to(pilot: Any, screen: RunsScreen, name: str) -> None:
    """Put the cursor on a line."""
    place = next(n for n, row in enumerate(screen._rows) if row.name == name)
    screen._list.highlighted = place
    await until(pilot, lambda: name.split()[-1] in shown(screen.app).split("Details")[1])


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_best_latest_and_damage_are_told_in_words(coop: Path, size: tuple[int, int]) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await open_runs(app, pilot)
            text = shown(app)
            assert "★ step 20  best" in text
            assert "● step 30  latest" in text
            assert "✕ step 10  damaged: model.sa" in text
            assert "no checkpoint yet" in text

    play(scene)


@pytest.mark.slow
def test_the_details_tell_settings_data_and_descent(coop: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            await go_to(pilot, screen, HEN)
            await until(pilot, lambda: "learning-rate" in shown(app))
            text = shown(app)
            assert "batch-size" not in text  # it is the default
            assert "↻ not there" in text
            assert "Branched off" in text
            assert text.count(FOX) == 2  # in the tree, and as the parent

    play(scene)


@pytest.mark.slow
def test_what_an_export_has_proved_is_shown_at_its_checkpoint_and_run(coop: Path) -> None:
    proved = folders.step_folder(HOME / HEN, 20)
    inputs = [source(proved)]
    target = Path("exports/egg")
    made = build_folder(target, kind="model folder", command="export", options={}, inputs=inputs)
    with made as builder:
        builder.facts[PROOF] = "50 of 50 are equal"

    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            for name, there in (("step 20", True), ("step 30", False), (HEN, True)):
                await go_to(pilot, screen, name)
                await until(pilot, lambda told=there: ("50 of 50" in shown(app)) == told)
                assert ("exports/egg" in shown(app)) == there

    play(scene)


@pytest.mark.slow
def test_keys_open_the_forms_with_the_run_filled_in(
    coop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(HatcheryApp, "open_stage", lambda _, *a: asked.append((a[0], list(a[1]))))
    monkeypatch.setattr(HatcheryApp, "open_chat", lambda _, model: asked.append(("chat", [model])))
    monkeypatch.setattr(
        HatcheryApp, "open_compare", lambda _, models: asked.append(("compare", models))
    )
    monkeypatch.setattr(HatcheryApp, "open_run", lambda _, folder: asked.append(("run", [folder])))

    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            await go_to(pilot, screen, HEN)
            await pilot.press("r", "g", "t", "b", "enter")
            await go_to(pilot, screen, "step 20")
            await pilot.press("f", "g", "t", "b", "space", "up", "up", "space", "v", "b")
            await go_to(pilot, screen, "step 10")
            await pilot.press("g", "f")  # damaged: refused
            await pilot.pause()

    play(scene)
    best = str(folders.step_folder(HOME / HEN, 20))
    assert asked == [
        ("train", ["--resume", HEN]),
        ("inference", ["--checkpoint", HEN]),
        ("chat", [HEN]),
        ("benchmark", ["--every-checkpoint", HEN]),
        ("run", [HOME / HEN]),
        ("train", ["--resume", best]),
        ("inference", ["--checkpoint", best]),
        ("chat", [f"{HEN}/step-20"]),
        ("benchmark", ["--checkpoint", best]),
        ("compare", [f"{HEN}/step-30", f"{HEN}/step-20"]),
        ("benchmark", ["--checkpoint", best, str(folders.step_folder(HOME / HEN, 30))]),
    ]


@pytest.mark.slow
def test_deleting_asks_first_and_no_changes_nothing(coop: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            await go_to(pilot, screen, "step 20")
            await pilot.press("delete")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            assert "checkpoint_step_000020, the best" in shown(app)
            assert "will be free" in shown(app)
            await pilot.press("enter")  # the answer at hand is no
            await until(pilot, lambda: app.screen is screen)
            assert folders.step_folder(HOME / HEN, 20).is_dir()
            await pilot.press("delete")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.press("y")
            await until(pilot, lambda: "★ step 30  best, latest" in shown(app))
            assert not folders.step_folder(HOME / HEN, 20).exists()

    play(scene)


@pytest.mark.slow
def test_a_run_at_work_is_not_deleted(coop: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            await go_to(pilot, screen, "step 30")
            with FolderLock(HOME / HEN):
                await pilot.press("delete")
                await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
                await pilot.press("y")
                await until(pilot, lambda: any("Another" in n.message for n in app._notifications))
            assert folders.step_folder(HOME / HEN, 30).is_dir()

    play(scene)


@pytest.mark.slow
def test_the_tree_is_filtered_and_folded(coop: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            await pilot.press("slash", *"fox", "enter")
            await until(pilot, lambda: [row.name for row in screen._rows] == [FOX])
            await pilot.press("slash", "escape")
            await until(pilot, lambda: len(screen._rows) == 5)
            assert app.screen is screen
            assert screen.focused is screen._list
            await go_to(pilot, screen, "step 20")
            await pilot.press("left")
            assert [row.top for row in screen._rows] == [True, True]
            assert screen._row is not None
            assert screen._row.name == HEN
            await pilot.press("right")
            assert len(screen._rows) == 5

    play(scene)


@pytest.mark.slow
def test_an_empty_workspace_says_how_to_begin(workspace: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("c")
            await until(pilot, lambda: "There is no run in checkpoints yet" in shown(app))

    play(scene)


@pytest.mark.slow
def test_names_that_would_be_markup_or_escapes_stay_text(coop: Path) -> None:
    strange = HOME / "run_[bold]x[foo]\x1b[31m"
    strange.mkdir()

    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await open_runs(app, pilot)
            await until(pilot, lambda: "[bold]x[foo]␛[31m" in shown(app))
            assert "\x1b" not in shown(app)
            screen._list.highlighted = len(screen._rows) - 1
            await pilot.press("delete")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))

    play(scene)
