"""Kill -9 in the middle of a benchmark of several checkpoints, at random instants, again and again.

HATCHERY_KILLS sets how often; the suite does a few, the full proof is
`HATCHERY_KILLS=50 pytest tests/whole/test_benchmark_kill.py`.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs.results import BENCHMARKS
from tests.conftest import ROOT, WORDS
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step

KILLS = int(os.environ.get("HATCHERY_KILLS", "3"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 20 * KILLS)]

TASKS = {"arc_easy": 40 * KILLS, "copa": 40 * KILLS}
CHECKPOINTS = ("first", "second", "third")
FLAGS = ["--data", "sets", "--samples", "all", "--device", "cpu", "--batch-tokens", "64"]
_RUNNING = 120 + 5 * KILLS  # seconds, at most, of one benchmark


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints, two tasks, and the benchmark of these that nothing disturbed."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, name in enumerate(CHECKPOINTS, 1):
            run = Path(f"checkpoints/run_2026_01_0{number}_10_00_{name}")
            save_step(run, 10, lively_model(number, max_position_embeddings=128), byte_tokenizer())
        chance = random.Random(3)
        Path("sets").mkdir()
        for task, count in TASKS.items():
            with Path(f"sets/{task}.jsonl").open("w") as file:
                for row in _rows(chance, count):
                    file.write(json.dumps(row) + "\n")
        assert start(*CHECKPOINTS).wait(_RUNNING) == 0, Path("log").read_text()
    return folder


def _rows(chance: random.Random, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        query = f"{number}: {' '.join(chance.choices(WORDS, k=6))}"
        choices = [" ".join(chance.choices(WORDS, k=chance.randint(1, 5))) for _ in range(4)]
        yield {"query": query, "choices": choices, "gold": chance.randrange(4)}


@pytest.fixture
def judged(_made: Path, workspace: Path) -> Path:
    """The workspace without a benchmark, as the working directory; returns the judged one."""
    ignored = shutil.ignore_patterns(BENCHMARKS.name, "log")
    shutil.copytree(_made, workspace, dirs_exist_ok=True, symlinks=True, ignore=ignored)
    return _made


def start(*names: str, **more: Any) -> "subprocess.Popen[bytes]":
    with Path("log").open("ab") as log:
        command = [sys.executable, str(ROOT / "main.py"), "benchmark", *FLAGS, "--checkpoint"]
        return subprocess.Popen([*command, *names], stdout=log, stderr=log, **more)


def logs(folder: Path = Path()) -> list[Path]:
    return sorted((folder / BENCHMARKS).glob("items/*/scores.jsonl"))


def size() -> int:
    """Bytes of scores so far."""
    return sum(log.stat().st_size for log in logs())


def reports(folder: Path = Path()) -> list[dict[str, Any]]:
    """What every report says, without when it was made."""
    found = []
    for path in sorted((folder / BENCHMARKS).glob("benchmark_*.json")):
        report = json.loads(path.read_bytes())
        assert path.with_suffix(".txt").is_file()
        found.append({name: value for name, value in report.items() if name != "made_by"})
    return found


def assert_each_scored_once() -> None:
    """Every item of every checkpoint and task stands in one whole line, and no log is torn."""
    counts = []
    for log in logs():
        keys = Counter(json.loads(line)["key"] for line in log.read_bytes().splitlines())
        assert set(keys.values()) == {1}
        counts.append(len(keys))
    assert sorted(counts) == sorted([*TASKS.values()] * len(CHECKPOINTS))


def assert_like(whole: Path) -> None:
    """The only report says what the undisturbed one does, and nothing half-written is left."""
    assert reports() == reports(whole)
    assert_each_scored_once()
    left = [path for path in BENCHMARKS.rglob("*") if path.name.endswith(".tmp")]
    assert left == []


def test_a_benchmark_killed_again_and_again_scores_every_item_once(judged: Path) -> None:
    chance, kills = random.Random(1), 0
    while True:
        process, before = start(*CHECKPOINTS), size()
        while process.poll() is None and size() <= before:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))
        if process.poll() is not None or kills == KILLS:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if kills % 2:  # as where the power fails within a line
            log = chance.choice(logs())
            os.truncate(log, max(0, log.stat().st_size - chance.randrange(1, 40)))
    assert process.wait(_RUNNING) == 0, Path("log").read_text()
    assert kills == KILLS
    assert_like(judged)


_KILLED_BEFORE_A_NAME = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from app.cli.main import main
replace, left = Path.replace, [{number}]
def renamed(self, target):
    if Path(target).name.startswith("benchmark_"):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = renamed
main()
"""


@pytest.mark.parametrize("number", [1, 2])
def test_a_benchmark_killed_as_it_writes_its_report_leaves_nothing_half_written(
    judged: Path, number: int
) -> None:
    shutil.copytree(judged / BENCHMARKS / "items", BENCHMARKS / "items")
    program = _KILLED_BEFORE_A_NAME.format(root=str(ROOT), number=number)
    command = [sys.executable, "-c", program, "benchmark", *FLAGS, "--checkpoint", *CHECKPOINTS]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert len([*BENCHMARKS.glob("benchmark_*")]) == number - 1
    assert [path for path in BENCHMARKS.iterdir() if path.name.endswith(".tmp")]
    assert start(*CHECKPOINTS).wait(_RUNNING) == 0, Path("log").read_text()
    assert len({json.dumps(report) for report in reports()}) == 1  # the killed one's says the same
    assert len({path.read_text() for path in BENCHMARKS.glob("*.txt")}) == 1
    assert [path for path in BENCHMARKS.rglob("*") if path.name.endswith(".tmp")] == []
    assert reports()[-1] == reports(judged)[0]


def wait_for_scores(process: "subprocess.Popen[bytes]") -> None:
    before = size()
    while size() <= before:
        assert process.poll() is None, Path("log").read_text()
        time.sleep(0.002)


def test_a_benchmark_that_is_interrupted_keeps_what_was_scored(judged: Path) -> None:
    process = start(*CHECKPOINTS)
    wait_for_scores(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(_RUNNING) == 130
    kept = {log: log.read_bytes() for log in logs()}
    assert sum(map(len, kept.values())) < sum(log.stat().st_size for log in logs(judged))
    for path in BENCHMARKS.glob("benchmark_*"):  # of the tasks that were whole by then
        path.unlink()
    assert start(*CHECKPOINTS).wait(_RUNNING) == 0, Path("log").read_text()
    assert all(log.read_bytes().startswith(lines) for log, lines in kept.items())
    assert_like(judged)


def test_where_the_disk_is_full_what_was_scored_is_kept(judged: Path) -> None:
    most = max(log.stat().st_size for log in logs(judged)) // 2 + 7

    def limit() -> None:  # files of a limited size stand in for a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    assert start(*CHECKPOINTS, preexec_fn=limit).wait(_RUNNING) == 1
    said = Path("log").read_text()
    assert "scores.jsonl is larger than a file may be here" in said
    [log] = logs()
    assert log.read_bytes().endswith(b"\n")
    assert most - 500 < log.stat().st_size <= most
    assert start(*CHECKPOINTS).wait(_RUNNING) == 0, Path("log").read_text()
    assert_like(judged)


def test_of_two_benchmarks_at_once_the_second_is_refused_on_the_same_checkpoint_only(
    judged: Path,
) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "benchmark", *FLAGS, "--checkpoint"]
    first = start(CHECKPOINTS[0])
    wait_for_scores(first)
    first.send_signal(signal.SIGSTOP)
    try:
        same = subprocess.run([*command, CHECKPOINTS[0]], capture_output=True, text=True)
        other = subprocess.run([*command, CHECKPOINTS[1]], capture_output=True, text=True)
    finally:
        first.send_signal(signal.SIGCONT)
    assert same.returncode == 3
    assert "Another benchmark scores the same checkpoint at arc_easy." in same.stderr
    assert f"process {first.pid}, " in same.stderr
    assert other.returncode == 0, other.stderr
    assert first.wait(_RUNNING) == 0
    assert len(reports()) == 2
