"""Kill -9 in the middle of training, at random instants, again and again.

HATCHERY_KILLS sets how often; the suite does a few, `HATCHERY_KILLS=50 pytest tests/test_kill.py`
is the full proof.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from conftest import ROOT
from safetensors.torch import load_file

from pipeline import runs
from pipeline.events import Metric, from_json

KILLS = int(os.environ.get("HATCHERY_KILLS", "4"))
STEPS = 40 * KILLS
FLAGS = (
    f"--max-steps {STEPS} --batch-size 4 --log-every 1 --eval-every 7 --eval-batches 1 "
    "--checkpoint-every 3 --sample-every 100000 --keep-checkpoints 2 --device cpu --threads 1 "
    "--no-tensorboard --model.hidden-size 32 --model.num-layers 2 --model.num-heads 2 "
    "--model.num-kv-heads 2 --model.dropout 0.1"
).split()


def start(*flags: str) -> "subprocess.Popen[bytes]":
    with Path("train.log").open("ab") as log:
        command = [sys.executable, str(ROOT / "main.py"), "train", *flags]
        return subprocess.Popen(command, stdout=log, stderr=log)


def run_named(name: str) -> Path | None:
    return next(Path("checkpoints").glob(f"run_*_{name}"), None)


def logged(run: Path | None) -> int:
    """Bytes of events so far."""
    log = None if run is None else run / "events.jsonl"
    return log.stat().st_size if log is not None and log.exists() else 0


def test_every_resume_after_kill_minus_nine_is_exact(prepared: Path) -> None:
    assert start("--name", "whole", *FLAGS).wait() == 0, Path("train.log").read_text()
    chance, kills = random.Random(1), 0
    while True:
        has_checkpoint = any(runs.step_folders(r) for r in [run_named("cut")] if r is not None)
        process = start(*(("--resume", "auto") if has_checkpoint else FLAGS), "--name", "cut")
        before = logged(run_named("cut"))
        while process.poll() is None and logged(run_named("cut")) <= before + 500:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        if process.poll() is not None or kills == KILLS:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.wait() == 0, Path("train.log").read_text()
    assert kills == KILLS
    folders = sorted(Path("checkpoints").glob("run_*_cut"))
    assert_same_run(run_named("whole"), folders)


def assert_same_run(whole: Path | None, cut: list[Path]) -> None:
    assert whole is not None
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
