"""No room for the last checkpoint: the training fails, and what waits for it does not begin."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.jobs import lifecycle, states
from app.jobs.history import EventReader
from pipeline.events import Failed, Finished
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

LOGS = Path("logs")
MAIN = [sys.executable, str(ROOT / "main.py")]
TRAIN = shlex.split(
    "train --name full --batch-size 2 --device cpu --threads 1 --no-tensorboard "
    "--model.hidden-size 64 --model.num-layers 2 --model.num-heads 2"
)
LARGEST_FILE = 128 << 10  # bytes: events and metrics fit, the weights of this model do not


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))


def test_a_chain_does_not_go_on_after_a_training_that_could_not_save(prepared: Path) -> None:
    started = subprocess.run(
        [*MAIN, "jobs", "chain", "--", *TRAIN, "--max-steps", "2", "--", "train", "--name", "next"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=_limit_files,  # files of a limited size stand in for a full disk
    )
    first, second = (lifecycle.find(LOGS, job) for job in started.stdout.split())
    try:
        deadline = time.monotonic() + 120
        while states.look(first.folder).state == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert states.look(first.folder).exit_code == 1
        events = EventReader(first.folder).read()
        assert isinstance(events[-1], Failed)
        assert "step 2 could not be saved" in events[-1].problem
        assert not any(isinstance(event, Finished) for event in events)
        assert states.look(second.folder).state == "waiting"
    finally:
        lifecycle.kill(states.look(second.folder))


def test_a_training_told_to_stop_does_not_say_that_everything_is_saved(prepared: Path) -> None:
    command = [*MAIN, *TRAIN, "--max-steps", "1000000", "--eval-every", "1000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=_limit_files)
    while not any(b"metric" in log.read_bytes() for log in Path().glob("checkpoints/*/*.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=120)[1].decode()
    assert process.returncode == 1
    assert "could not be saved" in errors
    assert "everything up to here is saved" not in errors
