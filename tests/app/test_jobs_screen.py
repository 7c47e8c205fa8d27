"""The screens of jobs and of the doctor, driven as a user does."""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.jobs import lifecycle, states
from app.jobs.folder import Record
from app.jobs.job import Job, State
from app.tui.app import HatcheryApp
from app.tui.jobs.doctor_screen import DoctorScreen
from app.tui.jobs.screen import JobsScreen, _row, cells, filtered
from app.tui.watch.screen import WatchScreen
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.virtual_list import RowList
from pipeline import stages
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.programs import fake_stage
from utils.units import ago

LOGS = Path("logs")


@pytest.fixture
def work(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder whose jobs are of the fake kind; what still runs at the end is killed."""
    monkeypatch.setattr(lifecycle, "PROGRAM", (sys.executable, fake_stage.__file__))
    monkeypatch.setattr(stages, "STAGES", (*stages.STAGES, fake_stage.FAKE))
    yield workspace
    for job in states.all_jobs(LOGS):
        if job.state in ("running", "waiting"):
            lifecycle.kill(job)


def _start(mode: str, *after: Job, steps: int = 1) -> Job:
    words = ["fake", "--name", mode, "--max-steps", str(steps)]
    return lifecycle.start(LOGS, words, "fake", mode, after=[job.id for job in after])


def _state(job: Job) -> str:
    return states.look(job.folder).state


def _notices(app: HatcheryApp) -> str:
    return "\n".join(notice.message for notice in app._notifications)


@pytest.mark.slow
def test_a_broken_chain_is_mended_with_one_key_and_goes_on(work: Path) -> None:
    async def scene() -> None:
        first = _start("noisy")
        middle = _start("missing", first)
        last = _start("noisy", middle)
        async with opened() as (app, pilot):
            await pilot.press("j")
            await until(pilot, lambda: "until fake is mended: d" in shown(app))
            await pilot.press("home")
            assert app.screen.query_one(RowList).current == last.folder.name  # waiting ones on top
            await pilot.press("d")
            await until(pilot, lambda: "Something is missing" in shown(app))
            assert "no/such/file: No such file or directory." in shown(app)
            assert "Check the path and its rights" in shown(app)
            (work / "no/such").mkdir(parents=True)
            (work / "no/such/file").write_bytes(b"here")
            assert "fake --name missing --max-steps 1" in shown(app)  # what Enter would run
            await pilot.press("enter")
            await until(pilot, lambda: _state(last) == "done")
            again = next(job for job in states.all_jobs(LOGS) if job.record and job.record.retry_of)
            assert again.record is not None
            assert again.record.retry_of == middle.id
            await until(pilot, lambda: not isinstance(app.screen, DoctorScreen))
            await pilot.press("escape")
            await until(pilot, lambda: f"again as {again.id}, done" in shown(app))

    play(scene)


@pytest.mark.slow
def test_stopping_is_asked_for_and_only_insisting_kills(work: Path) -> None:
    async def scene() -> None:
        job = _start("stubborn", steps=100_000)
        async with opened() as (app, pilot):
            await pilot.press("j")
            await until(pilot, lambda: "stubborn" in shown(app))
            await until(pilot, lambda: (job.folder / "events.jsonl").exists())
            await pilot.press("x")
            await until(pilot, lambda: "stopping" in (job.folder / "output.log").read_text())
            await pilot.press("x")
            await until(pilot, lambda: "x again kills it" in _notices(app))
            assert _state(job) == "running"
            await pilot.press("x")
            await until(pilot, lambda: _state(job) == "killed")
            await until(pilot, lambda: "killed" in shown(app))

    play(scene)


@pytest.mark.slow
def test_a_record_is_removed_after_a_question_and_not_while_another_waits(work: Path) -> None:
    async def scene() -> None:
        failed = _start("refuse")
        last = _start("noisy", failed)
        async with opened(NARROW) as (app, pilot):
            await pilot.press("j")
            await until(pilot, lambda: "until fake is mended" in shown(app))
            await pilot.press("end", "delete")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.press("y")
            await until(pilot, lambda: f"waits for job {failed.id}" in _notices(app))
            lifecycle.interrupt(last)
            await until(pilot, lambda: "stopped" in shown(app))
            await pilot.press("end", "delete")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.press("escape", "delete")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            assert failed.folder.is_dir()
            await pilot.press("y")
            await until(pilot, lambda: not failed.folder.exists())
            await until(pilot, lambda: "Jobs · 1" in shown(app))

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize("size", [NARROW, WIDE])
def test_the_list_filters_copes_with_ruins_and_shows_no_foreign_control(
    size: tuple[int, int], work: Path
) -> None:
    async def scene() -> None:
        for name in ("2026-fake-0001", "2026-train-0002", "odd"):
            (LOGS / "jobs" / name).mkdir(parents=True)
        evil = lifecycle.start(LOGS, ["fake", "--name", "refuse"], "fake", fake_stage.EVIL)
        async with opened(size) as (app, pilot):
            await pilot.press("j")
            await until(pilot, lambda: "Jobs · 4" in shown(app) and _state(evil) == "failed")
            assert not set("\x1b\x9b\u202e") & set(shown(app))
            await pilot.press("slash", *"train", "enter")
            await until(pilot, lambda: "Jobs · 1 of 4" in shown(app))
            assert "0001" not in shown(app)
            await pilot.press("d")
            await until(pilot, lambda: "What helps" in shown(app) and "jobs start" in shown(app))
            await pilot.press("escape", "escape")
            await until(pilot, lambda: "Jobs · 4" in shown(app))
            rows = app.screen.query_one(RowList)
            await pilot.click(rows, offset=(5, 2))
            await pilot.click(rows, offset=(5, 2))
            await until(pilot, lambda: not isinstance(app.screen, JobsScreen))

    play(scene)


def _job(own: str, state: State, started: float, *waits_for: str) -> Job:
    return Job(own, Path(f"2026-fake-{own}"), None, state, 1, started, 60.0, None, waits_for)


def test_running_jobs_come_first_then_waiting_then_ended_each_newest_first() -> None:
    everybody = [
        _job("a", "done", 9.0),
        _job("b", "waiting", 8.0),
        _job("c", "running", 1.0),
        _job("d", "running", 2.0),
        _job("e", "failed", 10.0),
    ]
    assert [job.id for job in filtered(everybody, "")] == ["d", "c", "b", "e", "a"]
    assert [job.id for job in filtered(everybody, "Fake run")] == ["d", "c"]
    assert filtered(everybody, "nothing") == []
    row = cells(everybody[4], everybody, now=120.0)
    assert (row.state, row.duration, row.age, row.note) == (
        "failed",
        "50 s",
        "1 min ago",
        "exit code 1",
    )
    assert cells(everybody[1], everybody, now=120.0).duration == ""


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "--name", "long"], "long"),
        (["train", "--name=long"], "long"),
        (["cleanup", "--input", "texts", "--name", "mine"], "mine"),
        (["train", "--max-steps", "3"], "ab12"),
        (["train", "--name"], "ab12"),
        (["train", "--dataset.source", "--name", "x"], "x"),
    ],
)
def test_a_job_is_called_what_its_command_calls_what_it_makes(words: list[str], name: str) -> None:
    record = Record(["main.py", *words], words[0], None, 1, "", "here", ".", 5.0, {})
    job = Job("ab12", Path("logs/jobs/2026-train-ab12"), record, "done", 0, 5.0, 6.0, None)
    assert job.name == name
    assert job._replace(record=msgspec.structs.replace(record, name="own")).name == "own"
    assert cells(job, [job], 9.0).name == name


@pytest.mark.parametrize("passed", [0, 59 * 60, 10 * 60, 23 * 3600, 400 * 86400])
def test_how_long_ago_a_job_ended_is_shown_whole(passed: int) -> None:
    job = Job("ab12", Path("logs/jobs/x-train-ab12"), None, "done", 0, 5.0, 6.0, None)
    shown_cells = cells(job, [job], 6.0 + passed)
    assert ago(passed) in _row(shown_cells, 116).plain


@pytest.mark.slow
@pytest.mark.parametrize("way", [("d",), ("enter", "d"), ("d", "l", "escape")])
def test_nobody_comes_back_to_a_failure_that_was_mended(work: Path, way: tuple[str, ...]) -> None:
    async def scene() -> None:
        failed = _start("missing")
        await asyncio.to_thread(_ended, failed)
        (work / "no/such").mkdir(parents=True)
        (work / "no/such/file").write_bytes(b"here")
        async with opened() as (app, pilot):
            await pilot.press("j")
            await until(pilot, lambda: "failed" in shown(app))
            for key in way:
                before = app.screen
                await pilot.press(key)
                await until(pilot, lambda before=before: app.screen is not before)
            await until(pilot, lambda: "Something is missing" in shown(app))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, WatchScreen))
            await until(pilot, lambda: len(states.all_jobs(LOGS)) == 2)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, JobsScreen))

    play(scene)


def _ended(job: Job) -> None:
    while _state(job) in ("running", "waiting"):
        time.sleep(0.02)
