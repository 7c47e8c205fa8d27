"""The screen of a job or run, used as a user does."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.dom import NoScreen
from textual.pilot import Pilot

from app.jobs import lifecycle
from app.jobs.folder import Record, record_exit, write_record
from app.jobs.processes import process_start
from app.tui.app import HatcheryApp
from app.tui.runs.scores_screen import ScoresScreen
from app.tui.stage.screen import StageScreen
from app.tui.watch import wording
from app.tui.watch.event_summary import Snapshot
from app.tui.watch.panels import RunPanels
from app.tui.watch.screen import WatchScreen
from app.tui.widgets.curve_chart import CurveChart
from pipeline import events
from pipeline.events import Event, to_json
from tests.support.benchmarks import report
from tests.support.benchmarks import write as write_report
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from utils.files import write_file

RUN = "run_2026_01_02_03_04_exp1"
EVIL = "\x1b]52;c;aGk=\x07\x1b[2J\u202e[/red]\x9b31m"


def tell(folder: Path, told: Sequence[Event]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events.jsonl").open("ab") as handle:
        handle.write(b"".join(to_json(event) + b"\n" for event in told))
    return folder


def training(first: int, last: int, loss: float = 3.0) -> list[Event]:
    values = {"grad_norm": 0.81, "learning_rate": 4.1e-4, "memory": 2.0**30, "mfu": 0.23}
    return [
        events.Metric(step, values | {"loss": loss, "tokens_per_second": 5912.0})
        for step in range(first, last + 1)
    ]


def started(total: int = 1000) -> events.Started:
    return events.Started("train", f"Train {RUN}", total, "steps", RUN)


def job_folder(stage: str = "train", *, alive: bool = True) -> Path:
    """A job of this very process, or of one that is gone."""
    folder = Path("logs/jobs") / f"2026_01_02_03_04_05-{stage}-ab12"
    folder.mkdir(parents=True, exist_ok=True)
    pid = os.getpid()
    start = process_start(pid) or "" if alive else "0"
    where = (platform.node(), str(Path.cwd()), time.time() - 60)
    write_record(folder, Record([sys.executable, stage], stage, "exp1", pid, start, *where, {}))
    return folder


async def watched(pilot: Pilot[None], app: HatcheryApp) -> WatchScreen:
    await until(pilot, lambda: app.jobs)
    app.open_job(app.jobs[0])
    await until(pilot, lambda: isinstance(app.screen, WatchScreen) and app.screen.is_mounted)
    assert isinstance(app.screen, WatchScreen)
    return app.screen


async def says(pilot: Pilot[None], app: HatcheryApp, *words: str) -> None:
    await until(pilot, lambda: all(word in shown(app) for word in words))


@pytest.mark.slow
def test_a_tuning_is_watched_and_gone_on_with_like_any_training(workspace: Path) -> None:
    run = Path("checkpoints/sft_lima_2026_01_02_03_04_mine")
    told: list[Event] = [events.Started("sft", f"Tune {run.name} on lima", 90, "steps", str(run))]
    told += [*training(1, 60), events.Metric(60, {"val_loss": 3.214})]
    told.append(events.Sample(" It lays eggs.", prompt="User: A hen?\nAssistant:", step=60))
    tell(run, told)
    (run / "run.json").write_text('{"command": "sft"}')
    done = events.Finished({"steps": 60}, str(run), stopped=True)
    tell(job_folder("sft", alive=False), [*told, done])
    asked: list[tuple[str, list[str]]] = []

    async def scene() -> None:
        async with opened(WIDE) as (app, pilot):
            screen = await watched(pilot, app)
            await says(pilot, app, "── training", "It lays eggs.", "3.214")
            app.open = lambda what, *more: asked.append(more)  # type: ignore[method-assign]
            screen.action_resume()

    play(scene)
    assert asked == [("sft", ["--resume", run.name])]


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_training_shows_curves_figures_and_how_long_it_will_take(
    workspace: Path, size: tuple[int, int]
) -> None:
    tell(Path("checkpoints") / RUN, [started(), *training(1, 600)])
    told: list[Event] = [started(), *training(1, 600)]
    told += [events.Progress(n, 1000, "steps", time=time.time() - 60 + n / 10) for n in (1, 600)]
    told.append(events.Metric(600, {"val_loss": 3.214, "bits_per_byte": 1.284}))
    tell(job_folder(), told)

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "step 600 / 1,000", "left", "5,912", "23%", "1.0 GiB", "60%")
            await says(pilot, app, "── training", "Stop", "Save now", "Back (it goes on)")
            tell(Path("checkpoints") / RUN, training(601, 640, loss=2.5))
            await says(pilot, app, "2.500")

    play(scene)


@pytest.mark.slow
def test_keys_and_mouse_change_and_read_the_chart(workspace: Path) -> None:
    tell(Path("checkpoints") / RUN, [started(), *training(1, 200)])
    tell(Path("checkpoints") / "run_2026_01_01_01_01_exp0", [*training(1, 300, loss=4.0)])

    async def scene() -> None:
        async with opened() as (app, pilot):
            app.open_run(Path("checkpoints") / RUN)
            await says(pilot, app, "Loss", "linear axis · smoothing light")
            await pilot.press("l", "m")
            await says(pilot, app, "log axis · smoothing strong")
            await pilot.press("t")
            await says(pilot, app, "Learning rate")
            await pilot.press("t", "t")
            await says(pilot, app, "Tokens per second")
            await pilot.press("t", "t", "t", "v")
            await says(pilot, app, "○ run_2026_01_01_01_01_exp0")
            await pilot.press("enter")
            await says(pilot, app, "● run_2026_01_01_01_01_exp0", "╌╌ exp0")
            await pilot.press("escape")
            await until(pilot, lambda: "Overlay (" not in shown(app))
            chart = app.screen.query_one(CurveChart)
            await until(pilot, lambda: chart.has_focus)
            await pilot.press("left", "left")
            await says(pilot, app, "step 1", "training 3")
            await pilot.click(CurveChart, offset=(12, 8))
            await until(pilot, lambda: 1 <= (chart.cursor or 0) < 150)
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, WatchScreen))

    play(scene)


@pytest.mark.slow
def test_save_now_asks_the_run_for_a_checkpoint(workspace: Path) -> None:
    run = tell(Path("checkpoints") / RUN, [started(), *training(1, 20)])
    tell(job_folder(), [started(), *training(1, 20)])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "Save now")
            await pilot.press("s")
            await until(pilot, lambda: (run / "save_now").exists())

    play(scene)


@pytest.mark.slow
def test_the_first_x_asks_and_the_second_ends_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(job_folder("cleanup"), [events.Started("cleanup", "Clean python", 10, "documents")])
    done: list[str] = []
    monkeypatch.setattr(lifecycle, "interrupt", lambda job: done.append(f"asked {job.id}"))
    monkeypatch.setattr(lifecycle, "kill", lambda job: done.append(f"killed {job.id}"))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "x Stop")
            await pilot.press("x")
            await says(pilot, app, "stopping, it saves first", "End at once")
            assert done == ["asked ab12"]
            await pilot.press("x")
            assert done == ["asked ab12", "killed ab12"]

    play(scene)


@pytest.mark.slow
def test_a_job_that_ends_while_watched_says_how_and_what_it_made(workspace: Path) -> None:
    folder = tell(job_folder("cleanup"), [events.Started("cleanup", "Clean python", 10, "files")])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            tell(folder, [events.Progress(4, 10, "files", "reading a.jsonl", {"speed": "92 MB/s"})])
            await says(pilot, app, "40%", "4 / 10 files", "92 MB/s", "reading a.jsonl")
            tell(folder, [events.Rejected("stub", "a:1"), events.Saved("cleaned", "data/python")])
            tell(folder, [events.Finished({"read": 522, "kept": 511}, "data/python")])
            record_exit(folder, 0)
            await says(pilot, app, "Done.", "data/python", "511", "stub", "Left out", "cleaned")
            await until(pilot, lambda: "Stop" not in shown(app))

    play(scene)


@pytest.mark.slow
def test_a_benchmark_tells_each_score_as_it_comes_and_at_its_end_who_is_better(
    workspace: Path,
) -> None:
    right, wrong = [1.0] * 40, [0.0] * 40
    made = report({"step 10": {"piqa": wrong}, "step 20": {"piqa": right}}, of=40)
    path = write_report(made)
    folder = tell(job_folder("benchmark"), [events.Started("benchmark", "Judge", 80, "items")])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            tell(folder, [events.Scored("first step 10", "PIQA", "acc", 0.25, 0.1, 0.4, 40)])
            await says(pilot, app, "first step 10 at PIQA: accuracy 25.0 % (10.0 to 40.0)")
            tell(folder, [events.Finished(made, str(path))])
            record_exit(folder, 0)
            await says(pilot, app, "Done.", "accuracy 100.0 %", "★ first step 20", "Scores")
            await pilot.press("b")
            await until(pilot, lambda: isinstance(app.screen, ScoresScreen))

    play(scene)


@pytest.mark.parametrize("summary", [{"results": 3}, {"results": {"a": {"b": {"metrics": {}}}}}])
def test_a_benchmark_whose_end_is_damaged_is_shown_like_any_other(summary: dict[str, Any]) -> None:
    view = Snapshot(title="x", stage="benchmark", final=events.Finished(summary))
    assert wording.scores_of(view) is None
    assert "Done" in wording.ending(view, None, "done").plain


@pytest.mark.slow
def test_a_training_that_was_stopped_is_gone_on_with_by_one_key(workspace: Path) -> None:
    folder = tell(job_folder(), [started(), *training(1, 4)])
    run = Path("checkpoints", RUN)
    run.mkdir(parents=True)
    tell(run, [started(), *training(1, 4)])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "Stop")
            assert "Resume" not in shown(app)
            tell(folder, [events.Finished({"steps": 4}, str(run), stopped=True)])
            record_exit(folder, 130)
            await says(pilot, app, "Resume")
            await pilot.press("r")
            await until(pilot, lambda: isinstance(app.screen, StageScreen))
            await says(pilot, app, f"--resume {RUN}")

    play(scene)


@pytest.mark.slow
def test_a_failed_job_says_why_and_names_the_key_that_helps(workspace: Path) -> None:
    folder = job_folder("prepare")
    tell(folder, [events.Started("prepare", "Prepare python")])
    tell(folder, [events.Failed("They do not fit.", "a and b", "python main.py mend", 3)])
    record_exit(folder, 3)

    async def scene() -> None:
        async with opened(NARROW) as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "They do not fit.", "a and b", "python main.py mend", "d says")

    play(scene)


@pytest.mark.slow
def test_a_job_that_died_shows_the_end_of_its_log(workspace: Path) -> None:
    folder = tell(job_folder("prepare", alive=False), [events.Started("prepare", "Prepare")])
    write_file(folder / "output.log", "first\nlast words\n")

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "died without a last word", "last words")
            await pilot.press("g")
            await says(pilot, app, "Log (g: notes)", "first")

    play(scene)


@pytest.mark.slow
def test_texts_grow_as_they_are_written(workspace: Path) -> None:
    folder = tell(job_folder("inference"), [events.Started("inference", "Generate", 1, "texts")])
    tell(folder, [events.Delta("", prompt="def ", source="run_a")])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            tell(folder, [events.Delta("main():", source="run_a")])
            await says(pilot, app, "def main():")
            tell(folder, [events.Delta("\n    pass", source="run_a")])
            await says(pilot, app, "    pass")

    play(scene)


@pytest.mark.slow
def test_foreign_text_is_shown_as_text_everywhere(workspace: Path) -> None:
    folder = job_folder("train")
    everything: list[Any] = [
        events.Started(EVIL, EVIL, 10, EVIL),
        events.Progress(1, 10, EVIL, EVIL, {EVIL: EVIL}),
        events.Metric(1, {EVIL: 1.0, "loss": 2.0}),
        events.Metric(2, {EVIL: None, "loss": None, "val_loss": 1.0}),
        events.Sample(EVIL, prompt=EVIL, step=1),
        events.Delta(EVIL, prompt=EVIL, source=EVIL),
        events.Rejected(EVIL, EVIL, EVIL),
        events.Example(EVIL, EVIL, EVIL, EVIL),
        events.Saved(EVIL, EVIL, {EVIL: EVIL, "step": EVIL, "val_loss": EVIL}),
        events.Warned(EVIL, EVIL),
        events.Finished({EVIL: EVIL, "rejected": {EVIL: 3}, "x": {EVIL: EVIL}}, path=EVIL),
    ]
    tell(folder, everything)
    write_file(folder / "output.log", EVIL * 3 + "\nend")
    record_exit(folder, 0)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await watched(pilot, app)
            await says(pilot, app, "Done.")
            for key in ("g", "g", "g", "t", "l", "v"):
                await pilot.press(key)
                await pilot.pause()
                text = shown(app)
                assert not any(char in text for char in "\x1b\x07\x9b\u202e")

    play(scene)


@pytest.mark.slow
def test_a_folder_deleted_while_watched_keeps_what_was_seen(workspace: Path) -> None:
    folder = tell(job_folder("cleanup"), [events.Started("cleanup", "Clean python", 10, "files")])
    tell(folder, [events.Progress(4, 10, "files")])

    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await watched(pilot, app)
            await says(pilot, app, "40%")
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            await until(pilot, lambda: not app.jobs)
            await says(pilot, app, "died")
            assert screen.is_current

    play(scene)


@pytest.mark.slow
def test_what_was_to_be_drawn_when_the_screen_was_closed_is_dropped(workspace: Path) -> None:
    tell(job_folder(), [started(), *training(1, 20)])

    async def scene() -> None:
        async with opened() as (app, pilot):
            screen = await watched(pilot, app)
            await says(pilot, app, "5,912")
            panels = screen.query_one(RunPanels)
            await pilot.press("escape")
            await until(pilot, lambda: not panels.is_attached)
            with pytest.raises(NoScreen) as late:
                panels._lay_out(panels._shown[0], over=False)
            app._handle_exception(late.value)
            assert app._exception is None

    play(scene)


def test_the_end_shows_what_was_passed_over_however_much_else_is_told() -> None:
    summary = {
        "read": 234,
        "kept": 230,
        "raw_bytes": 365_789,
        "text_bytes": 343_163,
        "rejected": {"stub": 4},
        "files_passed_over": {"not_read_here": {".pdf": 1}},
        "decoded_files": {"utf-16-le": {"files": 6}},
        "more": {"deep": {"x": 1}},
        "units": 3,
        "passed_over": "1 file (.pdf 1)",
        "decoded": "utf-16-le 6 files",
        "removed_spans": {},
    }
    ended = wording.ending(Snapshot(title="x", final=events.Finished(summary)), None, "done").plain
    for words in ("read  234", "passed over  1 file (.pdf 1)", "decoded  utf-16-le 6 files"):
        assert words in ended
    assert "not_read_here" not in ended
    assert "units" not in ended
