"""The newest run and the disk use on the board: what is looked at, how much, and when."""

import os
import shutil
from pathlib import Path

import pytest

from app.tui.board.disk_panel import DiskPanel, DiskUse, fitting, measure
from app.tui.board.screen import BoardScreen
from app.tui.board.screen import workspace as workspace_name
from app.tui.watch import last_run
from app.tui.watch.last_run import LastRunPanel, RunReader
from app.tui.watch.screen import WatchScreen
from pipeline.events import Metric, to_json
from pipeline.options.config import Config
from tests.support.pilot import NARROW, opened, play, shown, until
from tests.support.run_folders import finished_run
from tests.support.snapshots import NOW, check

CHECKPOINTS = Path("checkpoints")
OLD, NEW = "run_2026_11_21_11_20_first", "run_2026_11_21_11_40_second"
SAMPLE = "def main():\n    return 7"


def _written(run: str, when: float) -> Path:
    log = CHECKPOINTS / run / "events.jsonl"
    os.utime(log, (when, when))
    return log


def test_the_newest_run_is_the_one_written_last(workspace: Path) -> None:
    finished_run(OLD, sample="old")
    finished_run(NEW, sample="new")
    _written(OLD, 2000)
    _written(NEW, 1000)
    (CHECKPOINTS / ".building").mkdir()
    (CHECKPOINTS / "empty").mkdir()
    (CHECKPOINTS / "file").write_text("")
    reader = RunReader(CHECKPOINTS)
    found = reader.read()
    assert found is not None
    assert found.folder == CHECKPOINTS / OLD
    assert found.view.samples[-1].text == "old"
    assert reader.read() is None  # nothing new
    _written(NEW, 3000)
    found = reader.read()
    assert found is not None
    assert found.folder == CHECKPOINTS / NEW
    assert found.view.samples[-1].text == "new"


def test_a_run_that_goes_on_is_read_on_and_one_made_anew_from_its_start(workspace: Path) -> None:
    log = finished_run(OLD) / "events.jsonl"
    whole = log.read_bytes()
    reader = RunReader(CHECKPOINTS)
    assert reader.read() is not None
    with log.open("ab") as handle:
        handle.write(to_json(Metric(step=999, values={"loss": 1.5})) + b"\n")
    found = reader.read()
    assert found is not None
    assert found.view.curves["loss"][-1].step == 999
    log.write_bytes(whole[: whole.rfind(b"\n", 0, 2000) + 1])
    found = reader.read()
    assert found is not None
    assert found.view.curves["loss"][-1].step < 200


def test_of_a_long_record_only_a_sample_is_read(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_run, "_LARGE", 1000)
    log = finished_run(OLD) / "events.jsonl"
    assert log.stat().st_size > 1000
    found = RunReader(CHECKPOINTS).read()
    assert found is not None
    assert found.view.curves["loss"][-1].step == 200
    assert found.view.samples[-1].text == SAMPLE


def test_a_run_that_is_deleted_is_shown_no_more(workspace: Path) -> None:
    reader = RunReader(CHECKPOINTS)
    assert reader.read() is None
    run = finished_run(OLD)
    assert reader.read() is not None
    shutil.rmtree(run)
    found = reader.read()
    assert found is not None
    assert found.folder is None
    assert reader.read() is None


@pytest.mark.slow
def test_the_board_shows_the_run_and_opens_it(workspace: Path, frozen: None) -> None:
    run = finished_run(OLD)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: "Last run: first" in shown(app))
            await until(pilot, lambda: "return 7" in shown(app))
            app.screen.query_one(LastRunPanel).focus()
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, WatchScreen))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, BoardScreen))
            await pilot.click(LastRunPanel)
            await until(pilot, lambda: isinstance(app.screen, WatchScreen))
            await pilot.press("escape")
            shutil.rmtree(run)
            await until(pilot, lambda: "Last run" not in shown(app))

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize("size", [NARROW, (99, 50), (140, 24)])
def test_where_there_is_no_room_the_stages_come_first(
    workspace: Path, frozen: None, size: tuple[int, int]
) -> None:
    finished_run(OLD)

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await until(pilot, lambda: app.screen.query(LastRunPanel))
            await until(pilot, lambda: "Next: " in shown(app))
            await pilot.pause(0.5)  # in which the panel could come
            text = shown(app)
            assert "Last run" not in text
            assert "Export" in text
            assert "Next: " in text

    play(scene)


def _folder(path: str, size: int) -> None:
    folder = Path(path)
    (folder / "inner").mkdir(parents=True)
    (folder / "a").write_bytes(b"x" * (size // 2))
    (folder / "inner/b").write_bytes(b"x" * (size - size // 2))


def test_every_artefact_is_measured_under_the_stage_that_made_it(workspace: Path) -> None:
    _folder("data/cleaned_articles/python", 70)
    _folder("data/cleaned_articles/mine", 90)
    _folder("data/tokenized_datasets/mine_full_dataset", 50)
    _folder("data/raw/empty", 0)
    _folder("tokenizers/mine", 10)
    _folder(f"checkpoints/{OLD}", 500)
    Path(f"checkpoints/{OLD}/checkpoint_best").symlink_to("inner")
    Path("checkpoints/loose.pt").write_bytes(b"x" * 5)
    _folder("logs/jobs/1", 30)
    assert measure(Config()) == [
        DiskUse("Clean", "mine", 90),
        DiskUse("Clean", "python", 70),
        DiskUse("Tokenizer", "mine", 10),
        DiskUse("Prepare", "mine", 50),
        DiskUse("Train", "first", 500),
        DiskUse("Train", "loose.pt", 5),
        DiskUse("Jobs", "logs", 30),
    ]


@pytest.mark.parametrize("room", [-3, 0, 2, 3, 5, 8, 40])
def test_lines_fit_and_add_up_to_the_whole(room: int) -> None:
    uses = [DiskUse("Clean", f"corpus {n}", 100 - n) for n in range(9)]
    uses += [DiskUse("Train", f"run {n}", 1000 - n) for n in range(7)] + [
        DiskUse("Jobs", "logs", 3)
    ]
    lines = fitting(uses, room)
    assert len(lines) == max(3, min(room, len(uses)))
    for stage in ("Clean", "Train", "Jobs"):
        whole = sum(use.size for use in uses if use.stage == stage)
        assert sum(line.size for line in lines if line.stage == stage) == whole
    if room == 3:
        assert [line.name for line in lines] == ["9 in all", "7 in all", "logs"]
    if room == 5:
        names = [line.name for line in lines if line.stage == "Train"]
        assert names == ["run 0", "run 1", "5 more"]


def test_a_workspace_in_the_home_is_named_from_there(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace_name() == str(workspace)
    monkeypatch.setattr(Path, "home", lambda: workspace.parent)
    assert workspace_name() == f"~/{workspace.name}"
    monkeypatch.setattr(Path, "home", lambda: workspace)
    assert workspace_name() == "~"
    monkeypatch.setattr(Path, "cwd", lambda: Path("/gone").resolve(strict=True))
    assert workspace_name() == ""


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (200, 50)])
def test_the_board_with_a_run_looks_as_it_did(
    workspace: Path, frozen: None, size: tuple[int, int]
) -> None:
    finished_run(OLD)
    _folder("data/cleaned_articles/mine", 9_000_000)
    _folder("data/cleaned_articles/python", 4_000_000)
    _folder("tokenizers/mine", 10_000)
    for path in Path().rglob("*"):
        os.utime(path, (NOW - 60, NOW - 60))

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await until(pilot, lambda: "return 7" in shown(app))
            assert app.screen.query_one(DiskPanel).display
            await check(pilot, "board_run")

    play(scene)
