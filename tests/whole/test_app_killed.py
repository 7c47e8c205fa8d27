"""The app is killed in the middle of a training that it started; nothing is lost."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from app.jobs import states
from app.jobs.job import ACTIVE
from app.tui.watch.screen import WatchScreen
from pipeline.events import Metric, from_json
from pipeline.runs import folders
from tests.conftest import ROOT
from tests.support.pilot import opened, play, until
from tests.support.stage_runner import run_stage
from tests.support.terminals import PATIENCE, Terminal, children, terminal

pytestmark = pytest.mark.slow

STEPS = 400
SETTINGS: dict[str, dict[str, Any]] = {
    "dataset": {"source": "files"},
    "model": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2},
    "train": {
        "max_steps": STEPS,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 50,
        "eval_batches": 1,
        "sample_every": 1000,
        "device": "cpu",
        "threads": 1,
        "tensorboard": False,
    },
}


def losses(run: Path) -> dict[int, float | None]:
    events = [from_json(line) for line in (run / "events.jsonl").read_bytes().splitlines()]
    told = [e for e in events if isinstance(e, Metric) and "loss" in e.values]
    assert len({e.step for e in told}) == len(told)
    return {e.step: e.values["loss"] for e in told}


def run_called(name: str) -> Path | None:
    found = (p for p in Path("checkpoints").glob("run_*") if folders.is_called(p.name, name))
    return next(found, None)


def trained(app: Terminal) -> int:
    """Optimizer steps that the training started in `app` has logged; reads what the app shows."""
    app.read()
    run = run_called("cut")
    log = run / "events.jsonl" if run else None
    return log.read_bytes().count(b'"loss"') if log is not None and log.exists() else 0


def test_a_training_outlives_the_app_and_its_chart_is_whole(prepared: Path) -> None:
    for name in ("whole", "cut"):
        SETTINGS["train"]["name"] = name
        Path("config.json").write_text(json.dumps(SETTINGS))
        if name == "whole":
            run_stage("train")
    with terminal(str(ROOT / "main.py")) as app:
        app.until("windows of")
        app.type("5")
        app.until("Before you start")
        app.type("\r")
        deadline = time.monotonic() + PATIENCE
        while trained(app) < 3:
            assert time.monotonic() < deadline, app.text[-2000:]
        (drawing,) = children(app.process.pid)
        os.kill(drawing, signal.SIGKILL)
        assert app.ended() == 128 + signal.SIGKILL
    (job,) = states.all_jobs(Path("logs"))
    assert job.state == "running"
    while states.look(job.folder).state in ACTIVE:
        time.sleep(0.05)
        assert time.monotonic() < deadline + PATIENCE

    whole, cut = run_called("whole"), run_called("cut")
    assert whole is not None
    assert cut is not None
    assert losses(cut) == losses(whole)
    assert sorted(losses(cut)) == list(range(1, STEPS + 1))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: app.jobs)
            app.open_job(app.jobs[0])
            await until(pilot, lambda: isinstance(app.screen, WatchScreen))
            screen = app.screen
            assert isinstance(screen, WatchScreen)
            await until(pilot, lambda: screen._view.step == STEPS)
            points = screen._view.curves["loss"]
            assert (points[0].step, points[-1].step) == (1, STEPS)
            assert sum(point.number for point in points) == STEPS

    play(scene)
