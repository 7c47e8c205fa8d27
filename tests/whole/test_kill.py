"""Kill -9 in the middle of training or tuning, at random instants, again and again.

HATCHERY_KILLS sets how often; the suite does a few, the full proof is
`HATCHERY_KILLS=50 pytest tests/whole/test_kill.py`.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.events import Metric, from_json
from pipeline.runs import folders as runs
from tests.conftest import ROOT
from tests.support.example_sets import SET, base_run, conversations, example_set

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("HATCHERY_KILLS", "3"))
STEPS = 40 * KILLS
FLAGS = (
    f"--max-steps {STEPS} --log-every 1 --eval-every 7 --eval-batches 1 "
    "--checkpoint-every 3 --sample-every 100000 --keep-checkpoints 2 --device cpu --threads 1 "
    "--no-tensorboard"
).split()
OWN_FLAGS = {
    "train": "--batch-size 4 --model.hidden-size 32 --model.num-layers 2 --model.num-heads 2 "
    "--model.num-kv-heads 2 --model.dropout 0.1",
    "sft": "--batch-size 2 --learning-rate 0.001",
}


def start(stage: str, *flags: str) -> "subprocess.Popen[bytes]":
    with Path("train.log").open("ab") as log:
        command = [sys.executable, str(ROOT / "main.py"), stage, *flags]
        return subprocess.Popen(command, stdout=log, stderr=log)


def runs_named(name: str) -> list[Path]:
    """In the order they began: a kill before the first checkpoint leaves a run to start again."""
    found = [p for p in Path("checkpoints").glob("*_*") if runs.is_called(p.name, name)]
    return sorted(found, key=lambda run: (len(run.name), run.name))


def logged(name: str) -> int:
    """Steps and validations in the events so far."""
    logs = [run / "events.jsonl" for run in runs_named(name)]
    return sum(log.read_bytes().count(b'"metric"') for log in logs if log.exists())


@pytest.mark.parametrize("stage", ["train", "sft"])
def test_every_resume_after_kill_minus_nine_is_exact(stage: str, prepared: Path) -> None:
    flags = [*FLAGS, *OWN_FLAGS[stage].split()]
    if stage == "sft":
        base_run(max_position_embeddings=192)
        example_set(SET, conversations(240))
    assert start(stage, "--name", "whole", *flags).wait() == 0, Path("train.log").read_text()
    chance, kills = random.Random(1), 0
    while True:
        has_checkpoint = any(map(runs.step_folders, runs_named("cut")))
        process = start(
            stage, *(("--resume", "auto") if has_checkpoint else flags), "--name", "cut"
        )
        before = logged("cut")
        while process.poll() is None and logged("cut") < before + 4:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        if process.poll() is not None or kills == KILLS:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.wait() == 0, Path("train.log").read_text()
    assert kills == KILLS
    assert_same_run(runs_named("whole")[0], runs_named("cut"))


def assert_same_run(whole: Path, cut: list[Path]) -> None:
    expected = curve([whole])
    assert sorted(expected) == list(range(1, STEPS + 1))
    assert curve(cut) == expected
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (load_file(runs.step_folder(r, STEPS) / name) for r in (whole, cut[-1]))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def curve(folders: list[Path]) -> dict[int, set[tuple[float | None, float | None]]]:
    """All losses and gradient norms ever logged for a step: one pair, if resumes are exact."""
    seen: dict[int, set[tuple[float | None, float | None]]] = {}
    for folder in folders:
        for line in (folder / "events.jsonl").read_bytes().split(b"\n")[:-1]:
            event = from_json(line)
            if isinstance(event, Metric) and "loss" in event.values:
                pair = (event.values["loss"], event.values["grad_norm"])
                seen.setdefault(event.step, set()).add(pair)
    return seen
