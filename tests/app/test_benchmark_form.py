"""The form of a benchmark: what it proposes, which tasks there are, what it says it will ask."""

from pathlib import Path

import pytest
from textual.widgets import Static

from app.tui.forms.field_spec import fields_of
from app.tui.forms.suggestions import namer
from app.tui.forms.task_picker import TaskPicker
from app.tui.stage import stage_flow
from app.tui.stage.stage_form import StageForm
from pipeline.evaluation.tasks import TASKS
from pipeline.options.config import Config
from pipeline.stages import Product, find
from tests.pipeline.test_deletion import HOME, checkpoint
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.run_folders import finished_run

RUN = "run_2026_11_21_11_20_first"
FIELDS = {field.path: field for field in fields_of("benchmark")}


def form(run: Path | None = None, *preset: str) -> StageForm:
    there = {"train": Product("fresh", "first", "step 200", run, 100.0)} if run else {}
    made = StageForm(find("benchmark"), preset, products=there)
    made.propose()
    return made


def test_a_run_with_a_few_checkpoints_is_judged_whole_unless_others_are_named(
    workspace: Path,
) -> None:
    run = finished_run(RUN)
    assert form(run).line == f"python main.py benchmark --every-checkpoint {RUN}"
    assert "--every-checkpoint" not in form(run, "--checkpoint", "other").line
    one = finished_run("run_2026_11_22_11_20_one", steps=5)
    assert form(one).line == "python main.py benchmark"


@pytest.mark.parametrize("typed", ["12", "all", ""])
def test_samples_take_a_number_or_all(workspace: Path, typed: str) -> None:
    made = form()
    made.draft.enter(FIELDS["benchmark.samples"], typed)
    assert not made.draft.faults
    assert str(made.draft.config.benchmark.samples or "") == typed


@pytest.mark.parametrize("typed", ["0", "-3", "many"])
def test_samples_that_are_none_are_told_below_the_field(workspace: Path, typed: str) -> None:
    made = form()
    made.draft.enter(FIELDS["benchmark.samples"], typed)
    assert "benchmark.samples" in made.draft.faults


def test_a_task_that_there_is_not_is_told_with_the_one_that_may_be_meant(workspace: Path) -> None:
    made = form()
    made.draft.enter(FIELDS["benchmark.tasks"], "piqa arc_esy")
    assert made.draft.faults["benchmark.tasks"] == "there is no task arc_esy: arc_easy?"
    made.draft.enter(FIELDS["benchmark.tasks"], "piqa,arc_easy copa")
    assert not made.draft.faults


def test_names_of_checkpoints_and_tasks_are_offered(workspace: Path) -> None:
    for step in (100, 200):
        checkpoint(HOME / RUN, step, 3.0)

    def offered(name: str) -> list[str]:
        found = namer(FIELDS[f"benchmark.{name}"])
        assert found is not None
        return found(Config())

    steps = [f"checkpoints/{RUN}/checkpoint_step_{step:06}" for step in (100, 200)]
    assert offered("checkpoint") == [RUN, *steps]
    assert offered("every_checkpoint") == [RUN]
    assert set(offered("tasks")) == set(TASKS)
    assert TASKS[offered("tasks")[0]].embedded is not None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({}, "sets of ours, which need no network: Python texts"),
        ({"tasks": ["copa", "embedded_grammar"]}, "COPA, Grammar pairs"),
        ({"tasks": ["copa"]}, "fetched from the hub"),
        ({"data": [Path("sets")]}, "every task that Data holds"),
        ({"samples": "all"}, "all items of each"),
        ({"preset": "quick"}, "a quick sample of each"),
    ],
)
def test_what_will_be_asked_is_said(typed: dict[str, object], said: str) -> None:
    config = Config.model_validate({"benchmark": typed})
    assert said in "; ".join(stage_flow.asked(config))


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_tasks_are_marked_in_a_list_and_come_into_the_field(
    workspace: Path, size: tuple[int, int]
) -> None:
    async def scene() -> None:
        async with opened(size) as (app, pilot):
            app.open_stage("benchmark", ["--tasks", "copa"])
            await until(pilot, lambda: "Start" in shown(app))
            app.screen.query_one("FieldPanel").focus_path("benchmark.tasks")  # type: ignore[attr-defined]
            await pilot.pause()
            await pilot.press("ctrl+o")
            await until(pilot, lambda: isinstance(app.screen, TaskPicker))
            await until(pilot, lambda: "1 marked of" in shown(app))
            assert "needs a network" in shown(app)
            assert "offline" in shown(app)
            await pilot.press(*"grammar", "enter")
            await until(pilot, lambda: "2 marked of" in shown(app))
            about = app.screen.query_one(".about", Static)
            assert "grammatical" in str(about.content)
            await pilot.press("escape")
            await until(pilot, lambda: "copa embedded_grammar" in shown(app))

    play(scene)
