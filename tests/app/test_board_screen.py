"""The board, used as a person uses it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.widgets import OptionList

from app.jobs.folder import Record
from app.jobs.job import Job
from app.tui.app import HatcheryApp
from app.tui.board.rows import ROWS
from app.tui.board.screen import BoardScreen
from app.tui.screen import HelpScreen
from app.tui.stage.preflight import Outlook
from app.tui.stage.preflight_card import PreflightCard
from app.tui.stage.screen import StageScreen
from app.tui.widgets.confirm import ConfirmDialog
from pipeline.options.config import Config
from pipeline.planning.wording import Line
from pipeline.stages import MISSING, Product
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import NOW, check
from utils.errors import HatcheryError

_FULL = {
    "download": Product("fresh", "python", "embedded in this Python"),
    "cleanup": Product("fresh", "python", "511 documents of 522", Path("data/cleaned"), NOW - 7200),
    "tokenize": Product(
        "fresh", "first", "4,096 ids, 3.70 bytes per token", Path("tokenizers/first"), NOW - 7100
    ),
    "prepare": Product(
        "stale",
        "python",
        "2.44 M tokens, 19,030 windows of 256",
        Path("data/tokens"),
        NOW - 7000,
        "first has changed since",
    ),
    "train": Product("fresh", "first", "step 1,361, val 3.272", Path("checkpoints/x"), NOW - 600),
}
_EMPTY = dict.fromkeys(_FULL, MISSING) | {"download": _FULL["download"]}


def _job(stage: str, state: Any, started: float, ended: float | None = None, **more: Any) -> Job:
    record = Record(
        ["main.py", stage], stage, more.pop("name", None), 1, "", "here", ".", started, {}
    )
    facts = {"percent": None, "exit_code": None if ended is None else 1} | more
    folder = Path(f"logs/jobs/2026-{stage}-ab12")
    return Job("ab12", folder, record, state, started=started, ended=ended, **facts)


@pytest.fixture
def stage_set(
    workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, Product], list[Job]], None]:
    """Products and jobs that the app finds, instead of those of this folder."""

    def set_up(products: dict[str, Product], jobs: list[Job]) -> None:
        def survey(config: Config) -> dict[str, Product]:
            return products

        monkeypatch.setattr("pipeline.survey.survey", survey)
        monkeypatch.setattr("app.jobs.states.Watch.look", lambda self: jobs)

    return set_up


_RUNNING = [
    _job("train", "running", NOW - 432, percent=62.4, name="exp1"),
    _job("prepare", "failed", NOW - 900, NOW - 800),
    _job("cleanup", "done", NOW - 2000, NOW - 1900),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "name", "products", "jobs"),
    [
        (WIDE, "board_empty", _EMPTY, []),
        (NARROW, "board_empty", _EMPTY, []),
        (WIDE, "board_busy", _FULL, _RUNNING),
        (NARROW, "board_busy", _FULL, _RUNNING),
        (NARROW, "board_stale", _FULL, []),
        (WIDE, "board_failed", _FULL, _RUNNING[1:]),
        (NARROW, "board_failed", _FULL, _RUNNING[1:]),
    ],
)
def test_the_board_looks_as_it_did(
    stage_set: Callable[..., None],
    size: tuple[int, int],
    name: str,
    products: dict[str, Product],
    jobs: list[Job],
) -> None:
    stage_set(products, jobs)

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await until(pilot, lambda: app.jobs == jobs)
            await check(pilot, name)

    play(scene)


def _chosen(app: HatcheryApp) -> str:
    assert isinstance(app.screen, BoardScreen)
    row = app.screen.chosen
    assert row is not None
    return row.stage.command


@pytest.mark.slow
def test_the_cursor_waits_on_the_next_step_until_it_is_moved(
    stage_set: Callable[..., None],
) -> None:
    stage_set(_EMPTY, [])

    async def scene() -> None:
        async with opened() as (app, pilot):
            assert _chosen(app) == "quickstart"
            stage_set(_FULL, [])
            await until(pilot, lambda: _chosen(app) == "prepare")
            await pilot.press("down")
            assert _chosen(app) == "train"
            stage_set(_EMPTY, [])
            await until(pilot, lambda: app.products == _EMPTY)
            await pilot.pause()
            assert _chosen(app) == "train"
            await pilot.press("j")
            await until(pilot, lambda: not isinstance(app.screen, BoardScreen))
            stage_set(_FULL, [])
            await until(pilot, lambda: app.products == _FULL)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, BoardScreen))
            await until(pilot, lambda: _chosen(app) == "prepare")

    play(scene)


@pytest.mark.slow
def test_enter_digits_and_clicks_open_a_stage(
    stage_set: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_EMPTY, [])
    asked: list[str] = []
    monkeypatch.setattr(HatcheryApp, "open_stage", lambda self, command: asked.append(command))

    async def scene() -> None:
        async with opened() as (_, pilot):
            await pilot.press("enter", "2")
            await pilot.click("#stages", offset=(8, 3))
            await until(pilot, lambda: len(asked) == 3)

    play(scene)
    assert asked == ["quickstart", "cleanup", "tokenize"]


@pytest.mark.slow
def test_what_runs_is_watched_and_what_failed_is_explained(
    stage_set: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_FULL, _RUNNING)
    asked: list[tuple[str, str]] = []
    for way in ("open_job", "open_doctor"):
        monkeypatch.setattr(
            HatcheryApp, way, lambda self, job, way=way: asked.append((way, job.stage))
        )

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: app.jobs == _RUNNING)
            await pilot.press("enter", "d", "tab", "down", "down", "down", "enter")

    play(scene)
    assert asked == [("open_job", "train"), ("open_doctor", "prepare"), ("open_job", "cleanup")]


@pytest.mark.slow
def test_help_names_every_key_of_the_screen_below(stage_set: Callable[..., None]) -> None:
    stage_set(_EMPTY, [])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("question_mark")
            await until(pilot, lambda: isinstance(app.screen, HelpScreen))
            await pilot.pause()
            text = shown(app)
            for words in ("Run as set", "Jobs", "Settings", "Leave", "Light or dark", "Back"):
                assert words in text
            assert text.count("tab ") == 2  # Tab and Shift+Tab, each once
            assert "Focus Next" not in text
            await pilot.press("escape")
            assert isinstance(app.screen, BoardScreen)

    play(scene)


@pytest.mark.slow
def test_escape_does_not_leave_home(stage_set: Callable[..., None]) -> None:
    stage_set(_EMPTY, [])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("escape", "escape")
            assert isinstance(app.screen, BoardScreen)
            assert app.is_running

    play(scene)


@pytest.mark.slow
def test_a_job_that_ends_makes_the_board_look_again(stage_set: Callable[..., None]) -> None:
    stage_set(_EMPTY, _RUNNING)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: app.jobs == _RUNNING)
            stage_set(_FULL, [])
            await until(pilot, lambda: app.products == _FULL)
            stages = app.screen.query_one("#stages", OptionList)
            await until(pilot, lambda: "511 documents" in shown(app))
            assert stages.option_count == len(ROWS)

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "state", "name", "said", "severity"),
    [
        ("train", "done", "exp1", "Train exp1: done", "information"),
        ("train", "stopped", None, "Train ab12: stopped", "information"),
        ("cleanup", "failed", None, "Clean ab12: failed", "error"),
        ("prepare", "died", "mine", "Prepare mine: died", "error"),
        ("another", "killed", None, "another ab12: killed", "error"),
    ],
)
def test_the_end_of_a_job_is_told_once_with_a_bell(
    stage_set: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    state: Any,
    name: str | None,
    said: str,
    severity: str,
) -> None:
    before = [_job(stage, "running", NOW - 60, name=name)]
    stage_set(_EMPTY, before)
    told: list[tuple[str, str]] = []
    bells: list[str] = []

    def notify(self: HatcheryApp, text: str, *, severity: str = "information", **_: Any) -> None:
        told.append((text, severity))

    monkeypatch.setattr(HatcheryApp, "notify", notify)
    monkeypatch.setattr(HatcheryApp, "bell", lambda self: bells.append(said))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: app.jobs == before)
            assert told == []
            after = [_job(stage, state, NOW - 60, NOW, name=name)]
            stage_set(_EMPTY, after)
            await until(pilot, lambda: app.jobs == after)
            await until(pilot, lambda: told and bells)
            await pilot.pause(0.5)  # in which a second one could come

    play(scene)
    assert told == [(said, severity)]
    assert bells == [said]


def test_a_notice_covers_neither_the_next_step_nor_the_keys(stage_set: Callable[..., None]) -> None:
    stage_set(_EMPTY, [])

    async def scene() -> None:
        app = HatcheryApp()
        async with app.run_test(size=NARROW, notifications=True) as pilot:
            await until(pilot, lambda: "Next: press" in shown(app))
            app.note("Look here")
            await until(pilot, lambda: "Look here" in shown(app))
            lines = shown(app).splitlines()
            assert next(n for n, line in enumerate(lines) if "Look here" in line) < 8
            assert "Next: press" in lines[-2]
            assert "q Leave" in lines[-1]

    play(scene)


def test_an_exit_of_another_version_is_still_a_job(stage_set: Callable[..., None]) -> None:
    stage_set(_EMPTY, [Job("zz", Path("logs/jobs/odd"), None, "died", None, NOW, NOW, None)])

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: len(app.jobs) == 1)
            await until(pilot, lambda: "died" in shown(app))

    play(scene)


@pytest.mark.slow
def test_r_starts_what_the_form_would_start(
    stage_set: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_EMPTY, [])
    asked: list[tuple[str, list[str]]] = []

    def start(self: HatcheryApp, stage: Any, arguments: list[str], **_: Any) -> None:
        asked.append((stage.command, arguments))

    monkeypatch.setattr(HatcheryApp, "start_job", start)

    async def scene() -> None:
        async with opened() as (_, pilot):
            await pilot.press("down", "down", "r", "down", "r")
            await until(pilot, lambda: len(asked) == 2)

    play(scene)
    assert asked == [("cleanup", []), ("tokenize", ["--train", "bpe"])]


_STOPPED = _FULL | {
    "prepare": _FULL["prepare"]._replace(state="fresh", why=""),
    "train": Product(
        "stopped", "shake", "stopped at 15 of 80", Path("checkpoints/run_x_shake"), NOW - 600
    ),
}


@pytest.mark.slow
def test_a_stopped_training_looks_as_it_did(stage_set: Callable[..., None]) -> None:
    stage_set(_STOPPED, [])

    async def scene() -> None:
        async with opened(NARROW) as (_, pilot):
            await check(pilot, "board_stopped")

    play(scene)


@pytest.mark.slow
def test_a_stopped_training_is_resumed_by_r_or_in_its_form(
    stage_set: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_STOPPED, [])
    asked: list[tuple[str, list[str]]] = []

    def start(self: HatcheryApp, stage: Any, arguments: list[str], **_: Any) -> None:
        asked.append((stage.command, arguments))

    monkeypatch.setattr(HatcheryApp, "start_job", start)
    monkeypatch.setattr("app.tui.stage.preflight.outlook", _outlook(20.0))
    monkeypatch.setattr(
        HatcheryApp, "open_stage", lambda self, command, preset: asked.append((command, preset))
    )

    async def scene() -> None:
        async with opened() as (_, pilot):
            await pilot.press("r", "enter", "5")
            await until(pilot, lambda: len(asked) == 3)

    play(scene)
    assert asked == [("train", ["--resume", "run_x_shake"])] * 3


@pytest.mark.slow
def test_what_failed_is_explained_by_d_and_its_form_stays_open_to_enter(
    stage_set: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_FULL, _RUNNING[1:])
    asked: list[str] = []
    monkeypatch.setattr(HatcheryApp, "open_stage", lambda self, command: asked.append(command))
    monkeypatch.setattr(
        HatcheryApp, "open_doctor", lambda self, job: asked.append(f"why {job.stage}")
    )

    async def scene() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: app.jobs == _RUNNING[1:])
            await pilot.press("enter", "4", "d")
            await until(pilot, lambda: len(asked) == 3)

    play(scene)
    assert asked == ["prepare", "prepare", "why prepare"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands of the jobs that would have been started."""
    commands: list[str] = []

    def start(self: HatcheryApp, stage: Any, arguments: list[str], **_: Any) -> None:
        commands.append(stage.command)

    monkeypatch.setattr(HatcheryApp, "start_job", start)
    return commands


def _outlook(seconds: float | None, problem: HatcheryError | None = None) -> Callable[..., Any]:
    """What the card would say of a training that takes so long."""
    time = Line("Time", "3 h" if seconds else "not measured yet", "p times a few real steps here")
    told = [Line("Model", "24.7 M parameters"), Line("Disk", "1 GiB"), time]
    plan: Any = SimpleNamespace(seconds=seconds)
    return lambda config, measured: Outlook(told, plan, [], problem)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [None, 10_800.0])
def test_r_asks_before_a_training_and_says_what_it_takes(
    seconds: float | None,
    stage_set: Callable[..., None],
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage_set(_EMPTY, [])
    monkeypatch.setattr("app.tui.stage.preflight.outlook", _outlook(seconds))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press(*["down"] * 5, "r")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await until(pilot, lambda: "24.7 M parameters" in shown(app))
            assert ("3 h" in shown(app)) == (seconds is not None)
            assert ("p in its form times a few" in shown(app)) == (seconds is None)
            await pilot.press("enter")  # on what is chosen beforehand, which is no
            await until(pilot, lambda: not isinstance(app.screen, ConfirmDialog))
            assert asked == []
            await pilot.press("r")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.press("y")
            await until(pilot, lambda: asked == ["train"])

    play(scene)


@pytest.mark.slow
def test_r_starts_a_training_of_seconds_at_once(
    stage_set: Callable[..., None], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_EMPTY, [])
    monkeypatch.setattr("app.tui.stage.preflight.outlook", _outlook(20.0))

    async def scene() -> None:
        async with opened() as (_, pilot):
            await pilot.press(*["down"] * 5, "r")
            await until(pilot, lambda: asked == ["train"])

    play(scene)


@pytest.mark.slow
def test_r_opens_the_form_of_a_training_that_would_be_refused(
    stage_set: Callable[..., None], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_set(_EMPTY, [])
    problem = HatcheryError("A window of 512 does not fit.")
    monkeypatch.setattr("app.tui.stage.preflight.outlook", _outlook(None, problem))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press(*["down"] * 5, "r")
            await until(pilot, lambda: isinstance(app.screen, StageScreen))
            await until(pilot, lambda: app.screen.query(PreflightCard))
            told = app._notifications
            await until(pilot, lambda: any("does not fit" in note.message for note in told))

    play(scene)
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("took", "question"), [(300.0, "the last time it took 5 min"), (5.0, ""), (None, "")]
)
def test_r_asks_where_the_stage_took_long_the_last_time(
    took: float | None, question: str, stage_set: Callable[..., None], asked: list[str]
) -> None:
    done = [] if took is None else [_job("cleanup", "done", NOW - 900, NOW - 900 + took)]
    stage_set(_EMPTY, done)

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("down", "down", "r")
            if question:
                await until(pilot, lambda: question in shown(app))
                assert asked == []
                await pilot.press("y")
            await until(pilot, lambda: asked == ["cleanup"])

    play(scene)
