"""Every screen looks as it did, at the design size and at 80x24."""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from textual.pilot import Pilot

from app.jobs.folder import Exit, Record
from app.tui.app import HatcheryApp
from app.tui.themes import LIGHT
from pipeline.events import (
    Event,
    Failed,
    Finished,
    Rejected,
    Saved,
    Started,
    Warned,
    from_json,
    to_json,
)
from tests.support.benchmarks import report, write
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.run_folders import finished_run
from tests.support.snapshots import NOW, check

RUN = "run_2026_11_21_11_20_first"
Scene = Callable[[HatcheryApp, Pilot[None]], Awaitable[None]]


@pytest.fixture
def world(workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two raw articles, a finished run and three jobs, all of a fixed moment."""
    raw = Path("data/raw/wikipedia")
    raw.mkdir(parents=True)
    rows = [
        {"name": "Hen", "abstract": "The [[hen|bird]] lays eggs [1] every day." + " More." * 30},
        {"name": "Fox", "abstract": "The fox  waits ." + " Long." * 30},
    ]
    (raw / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("config.json").write_text('{"dataset": {"source": "wikipedia"}}')
    run = finished_run(RUN)
    log = run / "events.jsonl"
    told = [from_json(line) for line in log.read_bytes().splitlines()]
    log.write_bytes(b"".join(to_json(_at(event, NOW - 90)) + b"\n" for event in told))
    (run / "run.json").write_text(json.dumps(_RECORD))
    failed = Failed("The disk is full.", "12 KiB are free", "free some room", 1, kind="DiskFull")
    _job("cleanup", 900, 400, 0, Rejected("stub", "a.jsonl:7", "3 words"), _END)
    _job("prepare", 300, 290, 1, Warned("The window is long.", "--window 256"), failed)
    _job("train", 250, 60, 0, Saved("run", f"checkpoints/{RUN}"), _END)
    for path in Path().rglob("*"):
        os.utime(path, (NOW - 60, NOW - 60))
    return workspace


_END = Finished({"documents": 511}, "data/cleaned_articles/wikipedia")
_RECORD: dict[str, Any] = {
    "options": {"learning_rate": 0.005, "batch_size": 8, "max_steps": 200},
    "model": {"hidden_size": 128, "num_layers": 4},
    "data": "data/tokens",
    "fingerprints": {"data": "d", "tokenizer": "t"},
    "created": "2026-11-21T11:20:00+0000",
    "version": "0.1.0",
}


def _job(stage: str, began: float, ended: float, code: int, *events: Event) -> None:
    """A job that ran from `began` to `ended` seconds ago."""
    folder = Path(f"logs/jobs/2026_11_21_11_00_00-{stage}-{stage[:2]}12")
    folder.mkdir(parents=True)
    record = Record(
        ["python", "main.py", stage], stage, None, 1, "gone", "host", ".", NOW - began, {}
    )
    files = {"job.json": record, "exit.json": Exit(code, NOW - ended)}
    for name, content in files.items():
        (folder / name).write_bytes(msgspec.json.encode(content))
    told = [Started(stage, f"{stage.capitalize()} wikipedia", time=NOW - began), *events]
    lines = [to_json(_at(event, NOW - ended)) for event in told]
    (folder / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (folder / "output.log").write_text(f"{stage} began\n{stage} ended\n")


def _at(event: Event, time: float) -> Event:
    return msgspec.structs.replace(event, time=time)


def _keys(*keys: str) -> Scene:
    async def act(app: HatcheryApp, pilot: Pilot[None]) -> None:
        await pilot.press(*keys)

    return act


def _opens(way: str, *arguments: Any) -> Scene:
    async def act(app: HatcheryApp, pilot: Pilot[None]) -> None:
        getattr(app, way)(*arguments)

    return act


async def _find(app: HatcheryApp, pilot: Pilot[None]) -> None:
    app.open_stage("train")
    await until(pilot, lambda: "Learning rate" in shown(app))
    await pilot.press("slash", *"decay")


async def _doctor(app: HatcheryApp, pilot: Pilot[None]) -> None:
    await until(pilot, lambda: app.jobs)
    app.open_doctor(next(job for job in app.jobs if job.stage == "prepare"))


async def _job_view(app: HatcheryApp, pilot: Pilot[None]) -> None:
    await until(pilot, lambda: app.jobs)
    app.open_job(next(job for job in app.jobs if job.stage == "cleanup"))


async def _scores(app: HatcheryApp, pilot: Pilot[None]) -> None:
    """A benchmark of two steps: one task with a clear winner, one that tells none apart."""
    few, some = [1.0] * 20 + [0.0] * 80, [1.0] * 24 + [0.0] * 76
    texts = {step: [-140.0 - step / 10 - n % 3 for n in range(50)] for step in (100, 200)}
    write(
        report(
            {
                "step 100": {"embedded_grammar": few, "embedded_python_text": texts[200]},
                "step 200": {"embedded_grammar": some, "embedded_python_text": texts[100]},
            },
            run=RUN,
        )
    )
    app.open_scores()
    await until(pilot, lambda: "difference" in shown(app))
    await pilot.press(*["t"] * (app.size.width < 100))


SCENES: dict[str, tuple[Scene, str]] = {
    "form_quickstart": (_opens("open_stage", "quickstart"), "Minutes"),
    "form_cleanup": (_opens("open_stage", "cleanup"), "Source"),
    "form_train": (_opens("open_stage", "train", ["--model.preset", "mini"]), "Batch size"),
    "find": (_find, "--weight-decay"),
    "settings": (_opens("open_settings"), "dataset"),
    "jobs": (_opens("open_jobs"), "cleanup"),
    "doctor": (_doctor, "disk"),
    "job": (_job_view, "stub"),
    "run": (_opens("open_run", Path("checkpoints") / RUN), "validation"),
    "runs": (_opens("open_runs"), "first"),
    "scores": (_scores, "over steps"),
    "results": (_opens("open_results"), "first"),
    "peek": (_opens("open_data"), "Raw"),
    "help": (_keys("question_mark"), "On this screen"),
}


@pytest.mark.parametrize("size", [pytest.param(WIDE, marks=pytest.mark.slow), NARROW])
@pytest.mark.parametrize("name", SCENES)
def test_a_screen_looks_as_it_did(world: Path, size: tuple[int, int], name: str) -> None:
    act, word = SCENES[name]

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await until(pilot, lambda: len(app.jobs) == 3)
            await act(app, pilot)
            await until(pilot, lambda: word in shown(app))
            await check(pilot, name)

    play(scene)


@pytest.mark.slow
def test_the_light_theme_looks_as_it_did(world: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("ctrl+t")
            assert app.theme == LIGHT.name
            app.open_run(Path("checkpoints") / RUN)
            await check(pilot, "run_light")

    play(scene)


def test_no_picture_is_compared_while_the_clock_runs() -> None:
    with pytest.raises(pytest.fail.Exception, match="frozen"):
        play(lambda: check(Mock(), "any"))
