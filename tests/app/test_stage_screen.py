"""The stage form as a user meets it: keys and clicks in, the screen and the jobs out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from app.jobs import lifecycle
from app.jobs.job import Job
from app.tui.app import HatcheryApp
from app.tui.forms.field import FieldLine, TextLine
from app.tui.forms.field_panel import FieldPanel
from app.tui.stage.preflight import speed_settings
from app.tui.stage.screen import StageScreen
from app.tui.system import MeasuredSpeed
from pipeline.runs.record import RunRecord, write_record
from pipeline.stages import find
from tests.support.pilot import NARROW, opened, play, shown, until
from tests.support.run_folders import finished_run
from utils.files import DiskFullError

Started = list[tuple[list[str], dict[str, Any]]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The jobs that would have been started, in place of starting them; none is opened."""
    calls: Started = []

    def start(
        logs: Path, arguments: Sequence[str], stage: str, name: str | None, **more: Any
    ) -> Job:
        calls.append((list(arguments), {"name": name} | more))
        return Job(f"id{len(calls)}", logs, None, "running", None, 0.0, None, None)

    monkeypatch.setattr(lifecycle, "start", start)
    monkeypatch.setattr(HatcheryApp, "open_job", lambda self, job: None)
    return calls


async def form(app: HatcheryApp, pilot: Pilot[None], command: str, *preset: str) -> StageScreen:
    app.open_stage(command, preset)
    await until(pilot, lambda: isinstance(app.screen, StageScreen) and app.screen.query("#command"))
    await pilot.pause()
    assert isinstance(app.screen, StageScreen)
    return app.screen


def line(screen: StageScreen, path: str) -> FieldLine:
    found = screen.query_one(FieldPanel).lines
    return next(line for line in found if line.margins.field.path == path)


async def type_into(pilot: Pilot[None], screen: StageScreen, path: str, text: str) -> None:
    line(screen, path).focus()
    await pilot.pause()
    await pilot.press("end", "ctrl+u", *text)
    await pilot.pause()


def test_enter_on_a_fresh_form_starts_the_stage_as_it_is(workspace: Path, started: Started) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            await form(app, pilot, "quickstart")
            assert "▶ Start" in shown(app)
            assert "python main.py quickstart" in shown(app)
            await pilot.press("enter")
            await until(pilot, lambda: started)
            assert not isinstance(app.screen, StageScreen)

    play(act)
    assert started[0][0] == ["quickstart"]
    assert (started[0][1]["name"], started[0][1]["after"]) == ("first", ())


@pytest.mark.slow
def test_a_typed_value_shows_in_the_command_and_is_kept_when_the_form_is_left(
    workspace: Path,
) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "prepare")
            await pilot.press("6")  # on Start, where only the card of a training has remedies
            await pilot.press("down", "down")  # from Start to the first setting, and to the second
            await pilot.press("6", "4", "down", "space")
            await pilot.pause()
            assert "python main.py prepare --window 64 --test" in shown(app)
            assert "• Window" in shown(app)
            assert "2 changes unsaved" in shown(app)
            await pilot.press("enter")
            assert screen.focused is screen.query_one("#start")
            await pilot.press("y")  # a letter is a command here, and was text in the field
            assert app.clipboard == "python main.py prepare --window 64 --test"
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, StageScreen))
            screen = await form(app, pilot, "prepare")
            assert screen.form.line == "python main.py prepare --window 64 --test"

    play(act)


@pytest.mark.slow
def test_a_wrong_value_is_told_below_its_field_and_start_goes_there(
    workspace: Path, started: Started
) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "quickstart")
            await type_into(pilot, screen, "quickstart.minutes", "soon")
            await until(pilot, lambda: "needs a number" in shown(app))
            await pilot.press("enter")
            assert screen.focused is screen.query_one("#start")
            await pilot.press("enter")
            await pilot.pause()
            assert screen.focused is line(screen, "quickstart.minutes")
            assert started == []
            await type_into(pilot, screen, "quickstart.minutes", "0")
            await until(pilot, lambda: "must be more than 0" in shown(app))
            await type_into(pilot, screen, "quickstart.minutes", "5")
            await until(pilot, lambda: "must be" not in shown(app))
            await pilot.press("ctrl+r")
            await until(pilot, lambda: started)

    play(act)
    assert started[0][0] == ["quickstart", "--minutes", "5"]


@pytest.mark.slow
def test_preset_arguments_are_changes_that_s_writes_into_the_file(workspace: Path) -> None:
    before = {"extends": "base.json", "train": {"seed": 1}, "prepare": {"window": 128}}
    Path("base.json").write_text('{"prepare": {"workers": 2}}')
    Path("config.json").write_text(json.dumps(before))

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "prepare", "--window", "64", "--batch", "7")
            assert "• Batch" in shown(app)  # not essential, but shown since it is typed
            assert "2 changes unsaved" in shown(app)
            await pilot.press("s")
            await until(pilot, lambda: app.config.prepare.window == 64)
            assert screen.form.draft.unsaved == 0
            assert screen.form.line == "python main.py prepare"
            assert "unsaved" not in shown(app)

    play(act)
    after = json.loads(Path("config.json").read_text())
    assert after == before | {"prepare": {"window": 64, "batch": 7}}
    assert list(after) == list(before)


@pytest.mark.slow
def test_u_takes_back_the_change_of_a_field_first_and_then_the_save(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "prepare", "--window", "64")
            await pilot.press("s")
            await until(pilot, lambda: app.config.prepare.window == 64)
            await until(pilot, lambda: screen.form.draft.unsaved == 0)
            test = line(screen, "prepare.test")
            test.focus()
            await pilot.press("space")
            assert screen.form.draft.changes == {"prepare.test": True}
            await pilot.press("u")
            await until(pilot, lambda: screen.form.draft.changes == {})
            await pilot.press("u")
            await until(pilot, lambda: not Path("config.json").exists())
            await until(pilot, lambda: screen.form.draft.changes == {"prepare.window": 64})
            assert "--window 64" in screen.form.line

    play(act)


@pytest.mark.slow
def test_what_is_lacking_is_told_and_c_starts_everything_in_order(
    workspace: Path, started: Started
) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            await form(app, pilot, "prepare", "--window", "64")
            await until(pilot, lambda: "c makes everything in order" in shown(app))
            assert "○ clean documents: not there yet" in shown(app)
            await pilot.press("c")
            await until(pilot, lambda: len(started) == 3)

    play(act)
    assert [arguments for arguments, _ in started] == [
        ["cleanup"],
        ["tokenize", "--train", "bpe"],
        ["prepare", "--window", "64"],
    ]
    assert [more["after"] for _, more in started] == [[], ["id1"], ["id2"]]


@pytest.mark.slow
def test_w_starts_after_the_jobs_that_run_now_and_q_starts_nothing(
    workspace: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Job("abcd", workspace, None, "running", None, 0.0, None, None)

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "cleanup")
            assert not screen.check_action("queue", ())
            monkeypatch.setattr("app.jobs.states.Watch.look", lambda self: [running])
            await until(pilot, lambda: app.jobs == [running])
            await pilot.press("q")
            await pilot.pause()
            assert not started
            await pilot.press("w")
            await until(pilot, lambda: started)

    play(act)
    assert started[0][0] == ["cleanup"]
    assert (started[0][1]["after"], started[0][1]["queued"]) == (["abcd"], True)


@pytest.mark.slow
def test_a_remedy_of_the_card_becomes_a_change_and_o_rehearses_with_it(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            from app.tui.stage.preflight_card import PreflightCard

            screen = await form(app, pilot, "train", "--model.preset", "tiny")
            card = screen.query_one(PreflightCard)
            card.post_message(PreflightCard.Chosen({"train.batch_size": 2}))
            await until(pilot, lambda: "• Batch size" in shown(app))
            size = line(screen, "train.batch_size")
            assert isinstance(size, TextLine)
            assert size.value == "2"
            await pilot.press("o")
            await until(pilot, lambda: "› rehearse" in shown(app))
            assert isinstance(app.screen, StageScreen)
            wanted = "python main.py rehearse --batch-size 2 --model.preset tiny"
            assert app.screen.form.line == wanted

    play(act)


@pytest.mark.slow
def test_a_digit_says_what_it_took_over_and_a_probe_is_not_forgotten(prepared: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            from app.tui.stage.preflight_card import PreflightCard

            screen = await form(app, pilot, "train", "--model.preset", "mini")
            await until(pilot, lambda: "What would help" in shown(app))
            await pilot.press("1")
            await until(pilot, lambda: "• " in shown(app) and app._notifications)
            assert "Taken over: " in next(iter(app._notifications)).message
            probed = MeasuredSpeed(
                1234.0, 1e9, 1 << 30, 5, speed_settings(screen.form.draft.config)
            )
            screen.query_one(PreflightCard).measured = probed
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is not screen)
            await form(app, pilot, "train", "--model.preset", "mini")
            await until(pilot, lambda: "1,234 tokens/s" in shown(app))

    play(act)


@pytest.mark.slow
def test_a_small_terminal_shows_fields_start_and_command(workspace: Path) -> None:
    async def act() -> None:
        async with opened(NARROW) as (app, pilot):
            await form(app, pilot, "train")
            for essential in (
                "Name",
                "Batch size",
                "▶ Start",
                "python main.py train",
                "⏎ Start",
            ):
                assert essential in shown(app)

    play(act)


@pytest.mark.slow
def test_a_fault_elsewhere_in_config_json_refuses_to_start(
    workspace: Path, started: Started
) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            Path("config.json").write_text('{"train": {"bach": 1}}')
            screen = await form(app, pilot, "cleanup")
            assert "train.bach" in shown(app)
            screen.query_one("#start").focus()
            await pilot.press("enter")
            await pilot.pause()

    play(act)
    assert started == []


@pytest.mark.slow
def test_a_full_disk_is_told_when_a_job_is_started_and_the_form_stays(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Job:
        raise DiskFullError("The disk is full: no job.", remedy="free some room")

    monkeypatch.setattr(lifecycle, "start", full)

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "quickstart")
            await pilot.press("enter")
            await until(pilot, lambda: app._notifications)
            told = [notice.message for notice in app._notifications]
            assert told == ["The disk is full: no job.\nfree some room"]
            assert app.screen is screen
            assert app.return_code is None

    play(act)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["cleanup", "tokenize", "prepare", "inference", "export"])
def test_up_from_start_is_the_last_setting_and_ctrl_r_starts_from_anywhere(
    workspace: Path, started: Started, stage: str
) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, stage)
            await pilot.press("up")
            lines = list(screen.query_one(FieldPanel).lines)
            await until(pilot, lambda: lines[-1].has_focus)
            screen.query_one("#beside VerticalScroll").focus()
            await pilot.pause()
            assert screen.check_action("start_here", ())
            await pilot.press("ctrl+r")
            await until(pilot, lambda: started)

    play(act)


@pytest.mark.slow
def test_a_folder_typed_as_source_is_told_and_moved_to_the_input_by_enter(
    workspace: Path, started: Started
) -> None:
    Path("letters").mkdir()
    Path("letters/a.txt").write_text("Dear friend. " * 60)

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "cleanup")
            await type_into(pilot, screen, "cleanup.source", "letters")
            await until(pilot, lambda: "moves it to Input" in shown(app))
            await until(pilot, lambda: "1 file" in shown(app))
            assert "the corpus letters, not there yet" in shown(app)
            await pilot.press("enter")
            await until(pilot, lambda: screen.focused is line(screen, "cleanup.input"))
            assert screen.form.line == "python main.py cleanup --input letters"
            await pilot.press("enter", "enter")
            await until(pilot, lambda: started)

    play(act)
    assert started[0][0] == ["cleanup", "--input", "letters"]


@pytest.mark.slow
def test_a_path_in_a_form_of_clean_documents_leads_to_the_form_of_clean(workspace: Path) -> None:
    Path("letters").mkdir()

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "prepare")
            await pilot.press("m")
            await type_into(pilot, screen, "prepare.source", "letters/")
            await until(pilot, lambda: "Enter opens Clean" in shown(app))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, StageScreen))
            await until(pilot, lambda: "cleanup --input letters" in shown(app))
            assert screen.form.draft.faults == {}

    play(act)


@pytest.mark.slow
def test_the_card_of_clean_reads_the_input_and_not_the_corpus_worked_on(workspace: Path) -> None:
    Path("letters").mkdir()
    for number in range(3):
        Path(f"letters/{number}.md").write_text("Dear friend. " * 60)

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "cleanup")
            assert "raw text: python" in shown(app)
            await type_into(pilot, screen, "cleanup.input", "letters")
            await until(pilot, lambda: "input: letters  3 files" in shown(app))
            assert "python  embedded" not in shown(app)
            await type_into(pilot, screen, "cleanup.input", "lettres")
            await until(pilot, lambda: "input lettres: not there" in shown(app))

    play(act)


_OWN = {
    "batch_size": 128,
    "gradient_accumulation_steps": 4,
    "learning_rate": 0.001,
    "optimizer": "adamw",
    "name": "shake",
    "max_steps": 80,
}


def _recorded_run() -> None:
    run = finished_run("run_2026_11_21_10_00_shake")
    model = {"hidden_size": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 4}
    write_record(run, RunRecord(_OWN, model, "data/x", {}, "2026-11-21T10:00:00+0000", "0.1.0"))
    for checkpoint in run.glob("checkpoint_*"):
        (checkpoint / "manifest.json").write_text("{}")


@pytest.mark.slow
@pytest.mark.parametrize("named", ["auto", "shake", "checkpoints/run_2026_11_21_10_00_shake"])
def test_a_run_that_goes_on_shows_its_own_settings(
    workspace: Path, started: Started, named: str
) -> None:
    _recorded_run()
    Path("config.json").write_text('{"train": {"batch_size": 16, "learning_rate": 0.003}}')

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "train", "--resume", named)
            shown_values = {path: line(screen, path).value for path in (
                "train.batch_size", "train.learning_rate", "train.max_steps", "train.optimizer",
            )}  # fmt: skip
            assert list(shown_values.values()) == ["128", "0.001", "80", "adamw"]
            assert screen.form.draft.config.model.hidden_size == 128
            assert screen.form.draft.origin("train.batch_size") == "shake"
            assert screen.form.line == f"python main.py train --resume {named}"
            await type_into(pilot, screen, "train.max_steps", "120")
            await pilot.press("enter", "enter")
            await until(pilot, lambda: started)

    play(act)
    assert started[0][0] == ["train", "--resume", named, "--max-steps", "120"]


@pytest.mark.slow
def test_without_a_run_to_go_on_the_settings_are_those_of_the_files_again(workspace: Path) -> None:
    _recorded_run()

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "train")
            assert line(screen, "train.batch_size").value == "16"
            await type_into(pilot, screen, "train.resume", "shake")
            await until(pilot, lambda: line(screen, "train.batch_size").value == "128")
            await type_into(pilot, screen, "train.resume", "shakes")
            await until(pilot, lambda: line(screen, "train.batch_size").value == "16")

    play(act)


@pytest.mark.slow
def test_a_first_training_is_proposed_in_the_size_that_the_text_feeds(
    prepared: Path, started: Started
) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "train")
            await until(pilot, lambda: "what this text feeds" in shown(app))
            await until(pilot, lambda: "Training" in shown(app))
            fit = screen.form.fit
            assert fit is not None
            assert (fit.preset, fit.window) == ("tiny", 32)
            assert screen.form.arguments == [
                *("--max-steps", str(fit.max_steps), "--batch-size", "4"),
                *("--model.preset", "tiny"),
            ]
            assert fit.max_steps * 4 * 32 <= 4 * 19_100
            assert "What would help" not in shown(app)  # the card would advise nothing else
            assert screen.form.arguments_for(find("train"))[:2] == [
                "--max-steps",
                f"{fit.max_steps}",
            ]
            await pilot.press("enter")
            await until(pilot, lambda: started)

    play(act)
    assert started[0][0][-2:] == ["--model.preset", "tiny"]


@pytest.mark.slow
def test_what_is_set_in_the_form_wins_over_what_is_proposed(prepared: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "train")
            await type_into(pilot, screen, "train.max_steps", "7")
            assert screen.form.arguments == (
                ["--max-steps", "7", "--batch-size", "4", "--model.preset", "tiny"]
            )
            await type_into(pilot, screen, "train.batch_size", "2")
            assert screen.form.arguments == (
                ["--max-steps", "7", "--batch-size", "2", "--model.preset", "tiny"]
            )
            screen.form.draft.apply({"model.preset": "mini"})
            screen._changed()
            assert screen.form.fit is None
            assert screen.form.arguments == (
                ["--max-steps", "7", "--batch-size", "2", "--model.preset", "mini"]
            )

    play(act)


@pytest.mark.slow
@pytest.mark.parametrize("model", [{"num_layers": 3}, {"preset": "small"}, {"depth": 2}])
def test_a_size_in_config_json_is_not_proposed_otherwise(
    prepared: Path, model: dict[str, Any]
) -> None:
    said = {"dataset": {"source": "files"}, "model": model}
    Path("config.json").write_text(json.dumps(said))

    async def act() -> None:
        async with opened() as (app, pilot):
            screen = await form(app, pilot, "train")
            assert screen.form.fit is None
            assert screen.form.arguments == []

    play(act)
