"""Jobs wait for each other without anyone watching over them, and a chain survives a failure."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.jobs import dependencies, lifecycle, retry, states
from app.jobs.dependencies import blockers, cycle, open_dependencies, stand_in, wait_turn
from app.jobs.folder import Record, read_record, write_record
from app.jobs.history import EventReader
from app.jobs.job import Job, State
from pipeline import stages
from pipeline.events import Warned
from tests.conftest import ROOT
from tests.support.programs import fake_stage
from utils.errors import RefusedError

FAKE = [sys.executable, fake_stage.__file__]
LOGS = Path("logs")


@pytest.fixture
def work(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder whose jobs are of the fake kind; what still runs at the end is killed."""
    monkeypatch.setattr(lifecycle, "PROGRAM", tuple(FAKE))
    monkeypatch.setattr(stages, "STAGES", (fake_stage.FAKE,))
    yield workspace
    for job in states.all_jobs(LOGS):
        if job.state in ("running", "waiting"):
            lifecycle.kill(job)


def _start(mode: str, *after: Job, steps: int = 2, queued: bool = False) -> Job:
    words = ["fake", "--name", mode, "--max-steps", str(steps)]
    return lifecycle.start(
        LOGS, words, "fake", mode, after=[job.id for job in after], queued=queued
    )


def _until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError([(job.id, job.state) for job in states.all_jobs(LOGS)])
        time.sleep(0.02)


def _state(job: Job) -> str:
    return states.look(job.folder).state


def _told(job: Job) -> list[Warned]:
    return [event for event in EventReader(job.folder).read() if isinstance(event, Warned)]


def _cli(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*FAKE, "jobs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


# A chain in real processes.


@pytest.mark.slow
def test_a_chain_whose_middle_fails_stops_says_why_and_goes_on_after_a_retry(work: Path) -> None:
    done = _cli(
        *("chain", "--", "fake", "--name", "noisy", "--max-steps", "2"),
        *("--", "fake", "--name", "refuse", "--", "fake", "--max-steps", "2"),
    )
    ids = done.stdout.split()
    first, middle, last = (lifecycle.find(LOGS, wanted) for wanted in ids)
    _until(lambda: _told(last))
    assert [_state(job) for job in (first, middle, last)] == ["done", "failed", "waiting"]
    (warned,) = _told(last)
    assert f"fake {middle.id} failed: They do not fit." in warned.message
    assert f"jobs why {middle.id}" in warned.remedy
    assert "waiting for " + middle.id in _cli("list").stdout

    refused = retry.start_again(LOGS, middle, ["fake", "--name", "refuse"])
    _until(lambda: len(_told(last)) == 2)  # the retry failed too, which is told as well
    assert _state(last) == "waiting"

    mended = _cli("retry", refused.id, "--", "--name", "noisy", "--max-steps", "1")
    assert mended.returncode == 0
    _until(lambda: _state(last) == "done")
    again = lifecycle.find(LOGS, mended.stdout.strip())
    assert again.record is not None
    assert again.record.retry_of == refused.id
    assert again.record.argv[2:] == ["fake", "--name", "noisy", "--max-steps", "1"]


@pytest.mark.slow
def test_a_chain_goes_on_when_its_starter_is_killed(work: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv.pop(1))\n"
        "from pathlib import Path; from app.jobs import lifecycle\n"
        f"lifecycle.PROGRAM = {tuple(FAKE)!r}; after = []\n"
        "for _ in range(2):\n"
        "    after = [lifecycle.start(Path('logs'), ['fake', '--max-steps', '5'], 'fake', None, "
        "after=after).id]\n"
        "print('started', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(ROOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        os.killpg(starter.pid, signal.SIGKILL)
    _until(lambda: [job.state for job in states.all_jobs(LOGS)] == ["done", "done"])
    late, early = states.all_jobs(LOGS)
    assert early.ended is not None
    assert late.started >= early.ended


@pytest.mark.slow
def test_a_waiting_job_that_is_killed_is_dead_and_its_retry_takes_its_place(work: Path) -> None:
    first = _start("stubborn", steps=100_000)
    middle = _start("noisy", first)
    last = _start("noisy", middle)
    assert [_state(job) for job in (middle, last)] == ["waiting", "waiting"]
    assert middle.record is not None
    os.kill(middle.record.pid, signal.SIGKILL)
    _until(lambda: _told(last))
    assert _state(middle) == "died"
    assert f"fake {middle.id} died" in _told(last)[0].message
    again = retry.start_again(LOGS, middle, retry.command_again(middle))
    assert again.waits_for == (first.id,)  # it still needs what its original needed
    lifecycle.kill(first)
    retry.start_again(LOGS, first, ["fake", "--max-steps", "1"])
    _until(lambda: _state(last) == "done")


@pytest.mark.slow
def test_a_waiting_job_can_be_stopped_and_loads_nothing_heavy(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _start("stubborn", steps=100_000)
    monkeypatch.undo()
    monkeypatch.chdir(work)
    waiting = lifecycle.start(LOGS, ["train"], "train", None, after=[first.id])
    assert waiting.record is not None
    _until(lambda: (waiting.folder / "events.jsonl").exists())  # it waits now
    if sys.platform == "linux":
        assert "torch" not in Path(f"/proc/{waiting.record.pid}/maps").read_text()
    assert _cli("stop", waiting.id).stdout == f"{waiting.id} stopped\n"
    stopped = states.look(waiting.folder)
    assert (stopped.exit_code, stopped.duration(0.0)) == (130, 0.0)  # it never began
    lifecycle.kill(first)


@pytest.mark.slow
def test_a_queued_job_waits_until_all_others_have_ended_however_they_did(work: Path) -> None:
    first = _start("stubborn", steps=100_000)
    queued = lifecycle.find(
        LOGS, _cli("start", "--queue", "--", "fake", "--max-steps", "1").stdout[:4]
    )
    assert queued.waits_for == (first.id,)
    lifecycle.kill(first)
    _until(lambda: _state(queued) == "done")
    assert _told(queued) == []


@pytest.mark.slow
def test_a_step_that_is_not_valid_keeps_the_whole_chain_from_starting(work: Path) -> None:
    refused = _cli("chain", "fake", "--", "fake", "--bogus")
    assert refused.returncode == 2
    assert states.all_jobs(LOGS) == []
    assert _cli("start", "--after", "zz", "--", "fake").returncode == 2
    assert states.all_jobs(LOGS) == []


@pytest.mark.slow
def test_a_retry_that_needs_an_earlier_stage_waits_for_it(work: Path) -> None:
    failed = _start("refuse")
    last = _start("noisy", failed)
    _until(lambda: _told(last))
    words = ["fake", "--max-steps", "1"]
    again = retry.start_again(LOGS, failed, words, ["fake", "--max-steps", "20"])
    (before,) = again.waits_for
    with pytest.raises(RefusedError, match="being done again already"):
        retry.start_again(LOGS, failed, words)
    _until(lambda: _state(last) == "done")
    prior, mended = (states.look(lifecycle.find(LOGS, i).folder) for i in (before, again.id))
    assert prior.ended is not None
    assert mended.started >= prior.ended


# Who waits for whom.


def _job(
    own: str, state: State, *after: str, retry_of: str | None = None, queued: bool = False
) -> Job:
    folder = LOGS / "jobs" / f"2026-fake-{own}"
    record = Record(
        ["x", "y", "fake"], "fake", None, 1, "", "far", "/", 0.0, {}, after, queued, retry_of
    )
    return Job(own, folder, record, state, None, float(ord(own[0])), None, None, after)


@pytest.mark.parametrize(
    ("others", "now"),
    [
        ([("a", "failed", None)], "a"),
        ([("a", "failed", None), ("b", "running", "a")], "b"),
        ([("a", "failed", None), ("b", "failed", "a"), ("c", "waiting", "b")], "c"),
        ([("a", "failed", None), ("b", "done", "a"), ("c", "failed", "a")], "b"),
        ([("a", "failed", "b"), ("b", "died", "a")], "b"),  # retries of each other
        ([("b", "done", "x")], None),
    ],
)
def test_a_retry_stands_in_for_a_job(others: list[tuple[str, State, str]], now: str) -> None:
    everybody = [_job(own, state, retry_of=of) for own, state, of in others]
    found = stand_in("a", everybody)
    assert (found.id if found else None) == now


def test_what_is_still_waited_for() -> None:
    everybody = [_job("a", "done"), _job("b", "failed"), _job("c", "elsewhere")]
    waiting = _job("w", "waiting", "a", "b", "c", "gone")
    assert waiting.record is not None
    assert [open.id for open in open_dependencies(waiting.record, everybody)] == ["b", "c", "gone"]
    assert [open.id for open in blockers(waiting, everybody)] == ["b", "gone"]
    queued = _job("q", "waiting", "a", "b", "c", "gone", queued=True)
    assert queued.record is not None
    assert [open.id for open in open_dependencies(queued.record, everybody)] == ["c"]
    assert blockers(queued, everybody) == []


def _waits(folder: Path, job: Job, looks: list[list[Job]], stop: threading.Event) -> list[Warned]:
    """What a waiting job says while it looks so often; at the last look it is stopped."""
    seen = iter(looks)

    def look() -> list[Job]:
        found = next(seen, None)
        if found is None:
            stop.set()
            return looks[-1]
        return found

    assert job.record is not None
    return list(wait_turn(folder, job.record, stop, look))


@pytest.fixture
def own(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job that waits."""
    monkeypatch.setattr(dependencies, "_POLL_SECONDS", 0.0)
    folder = LOGS / "jobs" / "2026-fake-w"
    folder.mkdir(parents=True)
    return folder


def test_everything_is_said_once_and_what_was_done_may_vanish(own: Path) -> None:
    job, stop = _job("w", "waiting", "a", "b"), threading.Event()
    done, failed = _job("a", "done"), _job("b", "died")
    said = _waits(own, job, [[done, failed]] * 3 + [[failed]] * 3, stop)
    assert len(said) == 1
    assert "fake b died" in said[0].message
    assert not (own / "began.json").exists()
    stop.clear()
    assert _waits(own, job, [[done], [_job("b", "done")]], stop)[0].message.count("gone") == 1
    assert (own / "began.json").exists()
    assert not stop.is_set()


def test_a_job_on_another_machine_is_waited_for_and_named(own: Path) -> None:
    (told,) = _waits(own, _job("w", "waiting", "a"), [[_job("a", "elsewhere")]], threading.Event())
    assert "runs on far" in told.message


def test_jobs_that_wait_for_each_other_are_refused(own: Path) -> None:
    a, b = _job("a", "waiting", "w"), _job("b", "waiting", "a")
    job = _job("w", "waiting", "b")
    assert cycle("w", [a, b, job]) == ["w", "b", "a", "w"]
    assert cycle("w", [_job("a", "running"), b, job]) == []
    with pytest.raises(RefusedError) as refused:
        _waits(own, job, [[a, b, job]], threading.Event())
    assert refused.value.found == "w → b → a → w"


def test_a_job_whose_folder_is_gone_stops_waiting(own: Path) -> None:
    own.rmdir()
    with pytest.raises(Exception, match="folder of job w is gone"):
        _waits(own, _job("w", "waiting", "a"), [[_job("a", "running")]], threading.Event())
    assert not own.exists()


def test_a_record_of_an_older_version_is_read(own: Path) -> None:
    write_record(own, Record(["x"], "fake", None, 1, "", "far", "/", 0.0, {}))
    kept = json.loads((own / "job.json").read_text())
    for name in ("after", "queued", "retry_of"):
        del kept[name]
    (own / "job.json").write_text(json.dumps(kept))
    record = read_record(own)
    assert record is not None
    assert (record.after, record.queued, record.retry_of) == ((), False, None)
