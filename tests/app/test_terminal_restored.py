"""However the app ends, the terminal is as before and the jobs go on."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.jobs import lifecycle, states
from app.launcher import RESTORE
from tests.support.programs import front_door
from tests.support.terminals import PATIENCE, Terminal, children, terminal

DOOR = front_door.__file__
LOGS = Path("logs")
PAINTED = "Pipeline"


@pytest.fixture
def app(workspace: Path) -> Iterator[Terminal]:
    """The app in a terminal, with one job that it started; the job is killed at the end."""
    with terminal(DOOR) as opened:
        opened.until(PAINTED)
        opened.type("\x14")
        wait_for(lambda: [job.state for job in states.all_jobs(LOGS)] == ["running"], opened)
        yield opened
    for job in states.all_jobs(LOGS):
        lifecycle.kill(job)


def wait_for(true: Callable[[], bool], opened: Terminal) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        opened.read()
        assert time.monotonic() < deadline, opened.text[-2000:]


def the_app(opened: Terminal) -> int:
    """The process that draws; the one that opened it is its parent."""
    return next(
        pid
        for pid in children(opened.process.pid)
        if b"front_door" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )


def state(pid: int) -> str:
    """One letter: T is stopped, Z is a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


Death = Callable[[Terminal], None]
DEATHS: dict[str, tuple[Death, int, str]] = {
    "left": (lambda opened: opened.type("q"), 0, ""),
    "exception": (lambda opened: opened.type("?"), 1, "ZeroDivisionError"),
    "TERM to the app": (lambda opened: os.kill(the_app(opened), signal.SIGTERM), 143, ""),
    "TERM": (lambda opened: opened.process.terminate(), 143, ""),
    "HUP": (lambda opened: opened.process.send_signal(signal.SIGHUP), 129, ""),
    "KILL": (lambda opened: os.kill(the_app(opened), signal.SIGKILL), 137, "SIGKILL"),
}


@pytest.mark.slow
@pytest.mark.parametrize("death", DEATHS)
def test_the_terminal_is_as_before_and_the_jobs_go_on(death: str, app: Terminal) -> None:
    assert app.mode != app.mode_before
    die, code, said = DEATHS[death]
    before = len(app.output)
    die(app)
    assert app.ended() == code
    assert app.mode == app.mode_before
    assert app.left_on == set()
    assert app.output.count(b"\x1b[<u") >= app.output.count(b"\x1b[>")
    last_words = app.output[before:].rpartition(b"\x1b[?1049l")[2].decode()
    job = states.all_jobs(LOGS)[0]
    assert job.state == "running"
    assert f"1 job goes on: fake {job.id}" in last_words
    assert said in last_words


@pytest.mark.slow
def test_a_mistake_shows_its_traceback_and_no_foreign_control_character(app: Terminal) -> None:
    app.type("?")
    app.ended()
    last_words = app.output.rpartition(b"\x1b[?1006l")[2].decode()
    assert "front_door.py" in last_words
    assert "[/broken]" in last_words
    assert not any(ord(c) < 32 and c not in "\r\n" for c in last_words)
    assert "\u202e" not in last_words


@pytest.mark.slow
def test_a_lost_connection_ends_the_app_and_not_the_job(app: Terminal) -> None:
    both = [app.process.pid, the_app(app)]
    app.hang_up()
    app.process.wait(PATIENCE)
    assert not Path(f"/proc/{both[1]}").exists()
    assert states.all_jobs(LOGS)[0].state == "running"


@pytest.mark.slow
def test_the_app_leaves_when_the_process_that_opened_it_is_killed(app: Terminal) -> None:
    drawing = Path(f"/proc/{the_app(app)}")
    app.process.kill()
    app.process.wait()
    wait_for(lambda: not drawing.exists() or "Z" in (drawing / "stat").read_text(), app)
    while app.read(0.0):
        pass
    assert app.left_on == set()
    assert app.mode == app.mode_before


@pytest.mark.slow
def test_a_stopped_app_gives_the_terminal_back_and_goes_on_where_it_was(app: Terminal) -> None:
    child = the_app(app)
    before = len(app.output)
    app.type("\x1a")
    wait_for(lambda: state(app.process.pid) + state(child) == "TT", app)
    while app.read(0.0):
        pass
    assert app.mode == app.mode_before
    assert app.left_on == set()
    stopped = len(app.output)
    assert stopped > before
    os.killpg(app.process.pid, signal.SIGCONT)
    app.until(PAINTED, since=stopped)
    assert the_app(app) == child
    app.type("q")
    assert app.ended() == 0
    assert app.mode == app.mode_before


def test_the_restoring_sequences_switch_off_what_the_app_switches_on(app: Terminal) -> None:
    switched_on = {mode for mode in app.left_on if mode not in (7, 25)}
    for mode in switched_on:
        assert f"\x1b[?{mode}l" in RESTORE
    for mode in app.left_on & {7, 25}:
        assert f"\x1b[?{mode}h" in RESTORE
