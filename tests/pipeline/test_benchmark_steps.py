"""Every checkpoint of a run judged: which they are, what is compared, and how scores went."""

import gc
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.gpt import GPT
from pipeline.benchmark.report import format_benchmark_results
from pipeline.benchmark.results import comparisons, trends
from pipeline.evaluation.tasks import TASKS
from pipeline.events import Event, Failed, Warned
from pipeline.runs import folders
from tests.support.benchmarks import report
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from utils.errors import ExitCode, HatcheryError, UsageError

RUN = Path("checkpoints/run_2026_01_02_10_00_mine")
GRAMMAR = "embedded_grammar"


@pytest.fixture
def run(workspace: Path) -> Path:
    """A run with the steps 5, 10 and 20, the best of which is the second."""
    for step in (5, 10, 20):
        save_step(RUN, step, lively_model(step), byte_tokenizer())
    folders.point(RUN, "best", folders.step_folder(RUN, 10))
    return RUN


def judge(run: str | Path, **options: Any) -> list[Event]:
    few = {"tasks": [GRAMMAR], "samples": 6, "device": "cpu", "every_checkpoint": str(run)}
    return run_stage("benchmark", benchmark=few | options)


def steps(events: list[Event]) -> list[int]:
    summary = finished(events).summary
    return [summary["checkpoints"][name]["step"] for name in summary["results"]]


@pytest.mark.slow
def test_a_run_is_named_by_its_name_its_folder_or_a_checkpoint_in_it(run: Path) -> None:
    for where in ("mine", run.name, run, run / "checkpoint_best", folders.step_folder(run, 5)):
        assert steps(judge(where)) == [5, 10, 20]


def test_what_was_set_aside_and_what_is_no_step_is_left_out(run: Path) -> None:
    set_aside = folders.step_folder(run, 10)
    set_aside.rename(set_aside.with_name(f"{set_aside.name}.corrupt"))
    shutil.copytree(folders.step_folder(run, 20), run / "exported")
    (run / "exported" / "state.json").unlink()
    (run / "exported" / "manifest.json").unlink()
    assert steps(judge("mine")) == [5, 20]


def test_a_run_of_one_checkpoint_is_a_curve_of_one_point(workspace: Path) -> None:
    save_step(RUN, 7, lively_model(), byte_tokenizer())
    events = judge("mine")
    assert steps(events) == [7]
    assert finished(events).summary["trends"] == []


@pytest.mark.parametrize("where", ["foreign", "foreign/model.safetensors", "checkpoints", "gpt2"])
def test_what_is_no_run_is_refused_by_name(run: Path, where: str) -> None:
    folder = shutil.copytree(folders.step_folder(run, 20), "foreign")
    for name in ("manifest.json", "state.json"):
        (Path(folder) / name).unlink()
    with pytest.raises(UsageError, match=f"{where} is no run with checkpoints of several steps"):
        judge(where)


def test_a_run_that_is_not_there_is_refused_with_those_that_are(run: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint or run yours") as refused:
        judge("yours")
    assert run.name in refused.value.found


def test_of_the_checkpoints_of_a_run_a_damaged_one_is_told_and_the_others_are_judged(
    run: Path,
) -> None:
    weights = folders.step_folder(run, 10) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"bits")
    events = judge("mine")
    last = events[-1]
    assert isinstance(last, Failed)
    assert last.exit_code == ExitCode.REFUSED
    results = last.summary["results"]
    assert ["error" in by_task[GRAMMAR] for by_task in results.values()] == [False, True, False]
    assert any("is damaged" in e.message for e in events if isinstance(e, Warned))
    with pytest.raises(HatcheryError, match="is damaged"):
        run_stage("benchmark", benchmark={"checkpoint": [str(weights.parent)], "tasks": [GRAMMAR]})


def test_one_that_a_training_deletes_meanwhile_is_told_and_the_others_are_judged(run: Path) -> None:
    def delete(event: Event) -> bool:
        shutil.rmtree(folders.step_folder(run, 20), ignore_errors=True)
        return False

    few = {"tasks": [GRAMMAR], "samples": 6, "device": "cpu", "every_checkpoint": "mine"}
    events = run_stage("benchmark", benchmark=few, stop_when=delete)
    results = finished(events).summary["results"]
    assert ["error" in by_task[GRAMMAR] for by_task in results.values()] == [False, False, True]


def test_no_two_models_are_held_at_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.benchmark import stage

    load, held = stage.load_model, []

    def counted(*asked: Any) -> Any:
        gc.collect()
        held.append(sum(isinstance(thing, GPT) for thing in gc.get_objects()))
        return load(*asked)

    monkeypatch.setattr(stage, "load_model", counted)
    model = lively_model()
    with torch.no_grad():
        model.embedding.weight.fill_(float("nan"))
    save_step(RUN, 7, model, byte_tokenizer())
    del model
    judge("mine")
    assert held == [held[0]] * 4


def trend(values: dict[str, Sequence[float]], task: str = GRAMMAR) -> dict[str, Any]:
    """The trend over the steps that the names of `values` end in."""
    made = report({name: {task: some} for name, some in values.items()})
    at = {name: made["checkpoints"][name]["step"] for name in made["results"]}
    main = {name: one.metrics[0] for name, one in TASKS.items()}
    compared = comparisons(made["results"], main, max(at, key=lambda name: at[name]))
    assert len(compared) == len(values) - 1
    [found] = trends(made["results"], at, compared)
    return found


MOST, SOME, FEW = ([1.0] * n + [0.0] * (100 - n) for n in (90, 86, 40))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"step 5": FEW, "step 10": SOME, "step 20": MOST},
            "embedded_grammar over 3 steps: the last one is best, step 20 (90.0 %).",
        ),
        ({"step 5": FEW, "step 10": FEW}, "embedded_grammar over 2 steps: all alike, 40.0 %."),
        (
            {"step 5": FEW, "step 10": MOST, "step 20": SOME},
            "embedded_grammar over 3 steps: best at step 10 (90.0 %); the last, step 20 (86.0 %), "
            "is not significantly worse.",
        ),
        (
            {"step 5": SOME, "step 10": MOST, "step 1,000": FEW},
            "embedded_grammar over 3 steps: best at step 10 (90.0 %); the last, step 1,000 "
            "(40.0 %), is significantly worse (p < 0.001).",
        ),
    ],
)
def test_the_best_step_and_the_last_are_said(values: dict[str, Sequence[float]], said: str) -> None:
    assert trend(values)["said"] == said


def test_of_bits_the_least_is_best() -> None:
    low, high = [-100.0, -101.0] * 20, [-200.0, -203.0] * 20
    found = trend({"step 5": high, "step 10": low, "step 20": high}, "embedded_python_text")
    assert found["best"]["step"] == 10
    assert found["worse"]


def test_of_equal_steps_the_last_is_best() -> None:
    assert trend({"step 5": SOME, "step 10": SOME})["best"]["step"] == 10


def test_the_report_holds_steps_and_the_trend(run: Path) -> None:
    events = judge("mine")
    made = json.loads(Path(finished(events).path or "").read_text())
    assert [origin["step"] for origin in made["checkpoints"].values()] == [5, 10, 20]
    [found] = made["trends"]
    assert found["steps"] == 3
    assert "over 3 steps: " in format_benchmark_results(made).replace("\n", " ")
    compared = {(row["first"], row["second"]) for row in made["comparisons"]}
    assert len(compared) == 3  # of few each with each
