"""Jobs outlive their terminals, can be watched from others, and end the way they were asked to."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.jobs import folder as job_folder
from app.jobs import history, lifecycle, states
from app.jobs.folder import Record, write_record
from app.jobs.history import EventReader, compress
from app.jobs.job import Job
from app.jobs.processes import process_start
from app.jobs.runner import JobRenderer
from pipeline import events
from tests.conftest import ROOT
from tests.support.programs import fake_stage
from utils.errors import RefusedError, UsageError
from utils.files import AppendLog, DiskFullError

FAKE = [sys.executable, fake_stage.__file__]
LOGS = Path("logs")


@pytest.fixture
def work(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder whose jobs are of the fake kind; what still runs at the end is killed."""
    monkeypatch.setattr(lifecycle, "PROGRAM", tuple(FAKE))
    yield workspace
    for job in states.all_jobs(LOGS):
        if job.state == "running":
            lifecycle.kill(job)


def _start(mode: str, steps: int = 100_000) -> Job:
    return lifecycle.start(LOGS, ["fake", "--name", mode, "--max-steps", str(steps)], "fake", mode)


def _cli(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*FAKE, "jobs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _wait_for(job: Job, *, events_written: int = 0) -> Job:
    """Wait until the job has written so many events, or (for none) until it has ended."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        now = states.look(job.folder)
        if events_written and len(EventReader(job.folder).read()) >= events_written:
            return now
        if not events_written and now.state != "running":
            return now
        os.sched_yield()
    raise AssertionError(f"{states.look(job.folder)} {job_folder.output_tail(job.folder)}")


@pytest.mark.slow
def test_a_job_runs_to_its_end_and_its_folder_tells_everything(work: Path) -> None:
    job = _start("noisy", 20)
    assert job.state == "running"
    done = _wait_for(job)
    assert (done.state, done.exit_code) == ("done", 0)
    record = json.loads((job.folder / "job.json").read_text())
    assert record["argv"] == [*FAKE, "fake", "--name", "noisy", "--max-steps", "20"]
    assert record["cwd"] == str(work)
    assert set(record["versions"]) == {"hatchery", "python", "torch"}
    history = EventReader(job.folder).read()
    assert isinstance(history[0], events.Started)
    assert isinstance(history[-1], events.Finished)
    assert "made/it" in (job.folder / "output.log").read_text()


@pytest.mark.slow
def test_a_typo_fails_at_once_and_makes_no_job(work: Path) -> None:
    for arguments in (["fake", "--bogus"], ["fkae"], ["fake", "--max-steps", "0"], []):
        typed = _cli("start", "--", *arguments)
        assert typed.returncode == 2
        assert typed.stdout == ""
    assert states.all_jobs(LOGS) == []


@pytest.mark.slow
def test_a_job_survives_its_terminal_and_attach_follows_it_from_another(work: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(FAKE[0], [*FAKE, "jobs", "start", "fake", "--max-steps", "60"])
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # the starter has left and with it the terminal's last user
        os.close(terminal)
    os.waitpid(pid, 0)
    (job,) = states.all_jobs(LOGS)
    assert job.state == "running"
    os.kill(job.record.pid, 0) if job.record else pytest.fail("no record")
    assert os.getsid(job.record.pid) == job.record.pid
    attached = _cli("attach", job.id)
    assert attached.returncode == 0
    assert attached.stdout == "made/it\n"
    assert "done after" in attached.stderr
    assert states.look(job.folder).state == "done"


@pytest.mark.slow
def test_stop_ends_a_job_with_its_state_saved_and_130_recorded(work: Path) -> None:
    job = _wait_for(_start("noisy"), events_written=3)
    assert job.percent is None or 0 <= job.percent <= 100
    stopped = _cli("stop")
    assert stopped.returncode == 0
    assert stopped.stdout == f"{job.id} stopped\n"
    assert Path("saved_state").is_file()
    ended = states.look(job.folder)
    assert (ended.state, ended.exit_code) == ("stopped", 130)
    final = EventReader(job.folder).read()[-1]
    assert isinstance(final, events.Finished)
    assert final.stopped
    assert _cli("attach", job.id).returncode == 130
    assert _cli("stop", job.id).returncode == 2


@pytest.mark.slow
def test_a_job_stopped_while_it_still_loads_is_stopped_not_dead(work: Path) -> None:
    job = _start("noisy")
    assert _cli("stop", "--json").returncode == 0
    assert states.look(job.folder).state == "stopped"


@pytest.mark.slow
def test_a_stubborn_job_is_named_and_only_hard_ends_it(work: Path) -> None:
    job = _wait_for(_start("stubborn", 100_000), events_written=2)
    refused = _cli("stop", job.id, "--timeout", "0.3")
    assert refused.returncode == 1
    assert f"jobs stop {job.id} --hard" in refused.stderr
    assert states.look(job.folder).state == "running"
    killed = _cli("stop", job.id, "--hard")
    assert killed.stdout == f"{job.id} killed\n"
    assert states.look(job.folder).exit_code == 137


@pytest.mark.slow
def test_a_second_interrupt_ends_a_job_at_once_and_is_recorded(work: Path) -> None:
    job = _wait_for(_start("stubborn", 100_000), events_written=2)
    lifecycle.interrupt(job)
    while "stopping" not in job_folder.output_tail(job.folder):
        assert states.look(job.folder).state == "running"
    lifecycle.interrupt(job)
    ended = _wait_for(job)
    assert (ended.state, ended.exit_code) == ("stopped", 130)


def test_a_full_disk_does_not_end_a_job_and_what_is_lost_is_counted(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, full = AppendLog.write, [False]

    def sometimes_full(self: AppendLog, line: bytes) -> None:
        if full[0]:
            raise DiskFullError("The disk is full.")
        write(self, line)

    monkeypatch.setattr(AppendLog, "write", sometimes_full)
    with JobRenderer(work) as renderer:
        for full[0] in (False, True, True, False):
            renderer.show(events.Progress(1))
    kinds = EventReader(work).read()
    assert [type(event).__name__ for event in kinds] == ["Progress", "Warned", "Progress"]
    assert isinstance(kinds[1], events.Warned)
    assert kinds[1].message == "2 events could not be recorded: disk full."


@pytest.mark.slow
def test_attach_to_a_job_that_dies_says_so_with_its_last_words(work: Path) -> None:
    job = _start("die")
    attached = _cli("attach", job.id)
    assert attached.returncode == 1
    assert f"Job {job.id} (fake) died." in attached.stderr
    assert "last words" in attached.stderr
    assert states.look(job.folder).state == "died"
    as_json = _cli("attach", job.id, "--json")
    assert json.loads(as_json.stdout.splitlines()[-1])["event"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "code"), [("refuse", 3), ("crash", 1)])
def test_attach_ends_with_the_exit_code_of_the_job(mode: str, code: int, work: Path) -> None:
    job = _wait_for(_start(mode))
    assert (job.state, job.exit_code) == ("failed", code)
    assert _cli("attach").returncode == code


@pytest.mark.slow
def test_detaching_leaves_the_job_alone(work: Path) -> None:
    job = _wait_for(_start("noisy"), events_written=3)
    with subprocess.Popen([*FAKE, "jobs", "attach"], stderr=subprocess.PIPE) as watcher:
        assert watcher.stderr is not None
        while b"Fake work" not in watcher.stderr.readline():
            pass
        watcher.send_signal(signal.SIGINT)
        assert f"job {job.id} goes on".encode() in watcher.stderr.read()
        assert watcher.wait(30) == 0
    assert states.look(job.folder).state == "running"


@pytest.mark.slow
def test_list_is_newest_first_and_json_on_demand(work: Path) -> None:
    assert "No jobs" in _cli().stderr
    first, second = _wait_for(_start("noisy", 1)), _wait_for(_start("refuse", 1))
    rows = _cli("list").stdout.splitlines()
    assert rows[0].split() == ["id", "stage", "name", "state", "duration", "age"]
    assert [row.split()[0] for row in rows[1:]] == [second.id, first.id]
    listed = [json.loads(line) for line in _cli("--json").stdout.splitlines()]
    assert [job["state"] for job in listed] == ["failed", "done"]


def _record(pid: int, start: str, host: str = lifecycle.platform.node()) -> Record:
    return Record(["x"], "fake", None, pid, start, host, "/", time.time(), {})


@pytest.mark.slow
def test_half_written_foreign_and_newer_job_folders_never_break_the_list(work: Path) -> None:
    home = LOGS / "jobs"
    for name, content in {
        "2026-fake-0001": None,
        "2026-fake-0002": b"",
        "2026-fake-0003": b'{"argv": 3}',
        "2026-fake-0004": b"\xff\xfe",
        "odd": b"[]",
    }.items():
        (home / name).mkdir(parents=True)
        if content is not None:
            (home / name / "job.json").write_bytes(content)
    (home / "stray.txt").write_text("not a folder")
    (home / "2026-fake-0001" / "events.jsonl").write_bytes(b'\xff{"event":"teleported"}\n{"ev')
    write_record(home / "odd", _record(1, "never"))
    newer = json.loads((home / "odd" / "job.json").read_text()) | {"color": "blue"}
    (home / "odd" / "job.json").write_text(json.dumps(newer))
    listed = _cli("list")
    assert listed.returncode == 0
    assert listed.stdout.count("died") == 5
    assert _cli("attach", "0001").returncode == 1


def test_a_recycled_pid_is_never_mistaken_for_the_job(work: Path) -> None:
    folder = LOGS / "jobs" / "2026-fake-0001"
    folder.mkdir(parents=True)
    write_record(folder, _record(os.getpid(), "another start"))
    assert states.look(folder).state == "died"
    lifecycle.interrupt(states.look(folder))  # would stop this test run
    write_record(folder, _record(os.getpid(), process_start(os.getpid()) or ""))
    assert states.look(folder).state == "running"
    write_record(folder, _record(os.getpid(), "", host="elsewhere"))
    assert states.look(folder).state == "elsewhere"


@pytest.mark.slow
def test_a_folder_deleted_while_it_is_watched_ends_the_watching(work: Path) -> None:
    job = _wait_for(_start("noisy"), events_written=3)
    with subprocess.Popen([*FAKE, "jobs", "attach"], stderr=subprocess.PIPE) as watcher:
        assert watcher.stderr is not None
        while b"Fake work" not in watcher.stderr.readline():
            pass
        lifecycle.kill(job)
        job.folder.rename(work / "gone")
        rest = watcher.stderr.read()
        assert watcher.wait(30) in (1, 137)
    assert b"Traceback" not in rest


def test_ids_names_and_beginnings_find_a_job(work: Path) -> None:
    home = LOGS / "jobs"
    for name in ("2026-fake-ab12", "2026-fake-ab34", "2026-train-cd56"):
        (home / name).mkdir(parents=True)
    assert lifecycle.find(LOGS, "ab12").id == "ab12"
    assert lifecycle.find(LOGS, "c").stage == "train"
    with pytest.raises(UsageError, match="several jobs") as several:
        lifecycle.find(LOGS, "ab")
    assert "ab12" in several.value.found
    with pytest.raises(UsageError, match="no job zz"):
        lifecycle.find(LOGS, "zz")


def test_a_long_history_is_replayed_in_short(work: Path) -> None:
    def note(step: int) -> events.Metric:
        return events.Metric(step, {"val_loss": 1.0})

    history: list[events.Event] = [events.Started(stage="s", title="S")]
    for step in range(50_000):
        history += [events.Progress(step, 50_000), events.Delta("x")]
        if step % 1000 == 0:
            history += [note(step), events.Metric(step, {"loss": 1.0})]
    kept, left_out = compress(history)
    assert kept[0] == history[0]
    assert kept.count(history[-2]) == 1
    assert sum(isinstance(event, events.Progress) for event in kept) == 1
    assert (sum(isinstance(event, events.Metric) for event in kept), left_out) == (20, 30)


def test_a_huge_log_is_read_from_its_end_and_torn_lines_wait(work: Path) -> None:
    path = work / "events.jsonl"
    line = events.to_json(events.Progress(1, 2, message="x" * 1000)) + b"\n"
    start = events.to_json(events.Started(stage="s", title="S")) + b"\n"
    path.write_bytes(start + line * 6000)
    reader = EventReader(work)
    kept, _ = reader.replay()
    assert [type(event) for event in kept] == [events.Started, events.Progress]
    with path.open("ab") as log:
        log.write(line[:-10])
        log.flush()
        assert reader.read() == []
        log.write(line[-10:])
    assert len(reader.read()) == 1
    assert reader.read() == []


def test_a_job_that_cannot_be_recorded_is_not_started(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def full(folder: Path, record: Record) -> None:
        started.append(record.pid)
        raise DiskFullError("The disk is full.")

    monkeypatch.setattr(lifecycle, "write_record", full)
    with pytest.raises(DiskFullError):
        _start("noisy")
    assert list((LOGS / "jobs").iterdir()) == []
    assert process_start(started[0]) is None


@pytest.mark.slow
def test_a_child_whose_starter_died_before_anyone_could_know_of_it_ends(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from app.jobs import dependencies; dependencies._RECORD_SECONDS = 0.1\n"
        "from tests.support.programs import fake_stage; fake_stage.main()"
    )
    command = [sys.executable, "-c", script, str(ROOT), "fake"]
    monkeypatch.setenv("HATCHERY_JOB", str(work / "never"))
    assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 1
    assert not (work / "never").exists()


@pytest.mark.slow
def test_a_command_that_became_invalid_ends_with_its_reason_recorded(work: Path) -> None:
    Path("config.json").write_text("{")
    ended = _wait_for(_start("noisy"))
    assert (ended.state, ended.exit_code) == ("failed", 2)
    failed = history.failure(ended.folder)
    assert failed is not None
    assert "config.json" in failed.problem
    assert failed.kind == "UsageError"


@pytest.mark.slow
def test_the_signal_that_stopped_a_job_is_recorded(work: Path) -> None:
    job = _wait_for(_start("noisy"), events_written=3)
    assert job.record is not None
    os.kill(job.record.pid, signal.SIGHUP)
    ended = _wait_for(job)
    assert (ended.state, ended.exit_code) == ("stopped", 143)
    told = job_folder.read_exit(job.folder)
    assert told is not None
    assert told.signal == "SIGHUP"


def test_no_two_jobs_share_an_id(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (LOGS / "jobs" / "2025-fake-aaaa").mkdir(parents=True)
    given = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(given))
    assert lifecycle._new_folder(LOGS, "fake").name.endswith("-fake-bbbb")


def test_what_has_ended_is_read_once_and_what_vanishes_is_forgotten(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = LOGS / "jobs"
    for number in range(50):
        folder = home / f"2026-fake-{number:04}"
        folder.mkdir(parents=True)
        write_record(folder, _record(1, "never"))
        if number % 2:
            job_folder.record_exit(folder, 0)
        else:
            os.utime(folder, (1.0, 1.0))  # died long ago
    (home / ".half-made").mkdir()
    looked: list[Path] = []
    look = states.look
    monkeypatch.setattr(states, "look", lambda folder: looked.append(folder) or look(folder))
    watch = states.Watch(LOGS)
    assert len(watch.look()) == 50
    assert len(looked) == 50
    assert len(watch.look()) == 50
    assert len(looked) == 50
    lifecycle.remove(watch.look()[0], [])
    assert len(watch.look()) == 49
    assert sorted(entry.name[0] for entry in home.iterdir())[:2] == [".", "2"]


def test_a_job_that_has_not_ended_keeps_its_folder(work: Path) -> None:
    job = _start("noisy")
    with pytest.raises(RefusedError, match="has not ended"):
        lifecycle.remove(job, [])
    assert job.folder.is_dir()
