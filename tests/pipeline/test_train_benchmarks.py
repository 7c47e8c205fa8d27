"""Scores of tasks while training: the same each time, beside the loss, no trace of them in it."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from app.tui.watch.event_summary import EventSummary
from app.tui.watch.wording import figures
from pipeline.events import Event, Metric, from_json, to_json
from pipeline.runs import folders
from pipeline.train.benchmarks import StepBenchmark
from tests.pipeline.test_train import MODEL, TRAIN, run_folder, train
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model
from utils.errors import UsageError

GRAMMAR = "embedded_grammar/acc"
SCORED: dict[str, Any] = {
    "max_steps": 6,
    "eval_every": 3,
    "benchmark_every": 2,
    "benchmark_tasks": ["embedded_grammar"],
}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.benchmarks._ITEMS", 20)


def scored(events: list[Event]) -> dict[int, float | None]:
    metrics = [e for e in events if isinstance(e, Metric) and e.kind == "benchmark"]
    return {metric.step: metric.values[GRAMMAR] for metric in metrics}


def losses(events: list[Event]) -> dict[int, Any]:
    return {
        (e.step, e.kind): (
            e.values.get("loss"),
            e.values.get("grad_norm"),
            e.values.get("val_loss"),
        )
        for e in events
        if isinstance(e, Metric) and e.kind != "benchmark"
    }


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(load_file(folders.step_folder(run, step) / "model.safetensors"))


@pytest.mark.slow
def test_a_training_is_the_same_to_the_bit_with_and_without(prepared: Path) -> None:
    changes: dict[str, Any] = {"max_steps": 6, "eval_every": 3}
    model = MODEL | {"dropout": 0.1}
    plain = run_stage("train", train=TRAIN | changes | {"name": "plain"}, model=model)
    asked = run_stage("train", train=TRAIN | SCORED | {"name": "asked"}, model=model)
    assert scored(plain) == {}
    assert list(scored(asked)) == [2, 4, 6]
    assert losses(asked) == losses(plain)
    ours, theirs = weights(run_folder(asked), 6), weights(run_folder(plain), 6)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_resumed_training_scores_what_an_undisturbed_one_does(prepared: Path) -> None:
    whole = train(**SCORED, name="whole")
    cut = run_stage(
        "train",
        stop_when=lambda event: isinstance(event, Metric) and event.step == 3,
        train=TRAIN | SCORED | {"name": "cut"},
        model=MODEL,
    )
    events = run_stage("train", train={"resume": str(run_folder(cut))})
    assert scored(cut) | scored(events) == scored(whole)
    lines = (run_folder(cut) / "events.jsonl").read_bytes().splitlines()
    kept = scored([from_json(line) for line in lines])
    assert kept == scored(whole)
    raw = Path("logs/raw_metrics", f"{run_folder(whole).name}.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in raw if GRAMMAR in line] == [2, 4, 6]


@pytest.mark.slow
def test_what_is_measured_is_what_a_benchmark_of_the_checkpoint_says(prepared: Path) -> None:
    run = run_folder(train(**SCORED))
    asked = {"checkpoint": [str(run)], "tasks": ["embedded_grammar"], "samples": 20}
    events = run_stage("benchmark", benchmark=asked | {"device": "cpu"})
    [by_task] = finished(events).summary["results"].values()
    lines = (run / "events.jsonl").read_bytes().splitlines()
    assert (
        scored([from_json(line) for line in lines])[6]
        == by_task["embedded_grammar"]["metrics"]["acc"]
    )


@pytest.mark.slow
def test_the_usual_tasks_are_grammar_and_bits_per_byte_of_text(workspace: Path) -> None:
    benchmark = StepBenchmark("small", byte_tokenizer(), None, Path("data"))
    model = lively_model()
    model.train()
    found = benchmark.measure(model)
    assert list(found) == [GRAMMAR, "embedded_python_text/bits_per_byte"]
    assert all(math.isfinite(value) for value in found.values())
    assert model.training
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    assert all(math.isnan(value) for value in benchmark.measure(model).values())


@pytest.mark.parametrize(
    ("tasks", "said"),
    [(["grammar"], "asks no task grammar"), (["arc_easy"], "is not here"), ([","], "No task")],
)
def test_tasks_that_cannot_be_asked_are_refused_before_a_run_begins(
    prepared: Path, tasks: list[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        train(benchmark_every=1, benchmark_tasks=tasks)
    assert not Path("checkpoints").exists()


def test_scores_are_curves_beside_the_loss() -> None:
    summary = EventSummary()
    for step in (2, 4):
        summary.take(Metric(step, {"loss": 3.0 - step / 10}))
        summary.take(Metric(step, {GRAMMAR: step / 10}, "benchmark"))
    view = summary.view()
    assert [tuple(point)[:2] for point in view.curves[GRAMMAR]] == [(2, 0.2), (4, 0.4)]
    assert len(view.curves["loss"]) == 2


def test_a_reader_that_knows_no_such_kind_passes_the_line_over() -> None:
    line = to_json(Metric(2, {GRAMMAR: 0.5}, "benchmark")).replace(b'"benchmark"', b'"newer"')
    with pytest.raises(msgspec.DecodeError):
        from_json(line)
    summary = EventSummary()
    summary.take_lines([line, to_json(Metric(3, {"loss": 1.0}))])
    assert summary.view().step == 3


def test_the_newest_scores_stand_among_the_figures() -> None:
    summary = EventSummary()
    summary.take(Metric(2, {"loss": 3.0, "memory": 1.0}))
    scores = {GRAMMAR: 0.625, "embedded_python_text/bits_per_byte": 2.5}
    summary.take(Metric(2, scores, "benchmark"))
    shown = figures(summary.view(), 100).plain
    assert "grammar" in shown
    assert "62.5 %" in shown
    assert "2.5" in shown
