"""An epoch is once over the text, however its windows overlap, wherever epochs are spoken of."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from app.tui.data.session import DataSession
from pipeline.events import Event, Progress, Warned
from pipeline.inspection.windows import RunWindows
from pipeline.planning.inputs import read_inputs
from pipeline.planning.wording import lines
from pipeline.runs import folders
from pipeline.runs.record import read_record, record_of, write_record
from pipeline.tokens.token_set import open_tokens
from tests.support.stage_runner import finished, run_stage, typed_settings

TOKENS = Path("data/tokenized_datasets/files_full_dataset")
MODEL = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2}
SMALL: dict[str, Any] = {"batch_size": 16, "tensorboard": False, "device": "cpu", "eval_batches": 1}


def _prepare(window: int, stride: int | None) -> None:
    sizes = {"window": window, "workers": 1, "source": "files", "tokenizer": "chars"}
    run_stage("prepare", prepare=sizes | {"stride": stride})


def _train(**options: Any) -> list[Event]:
    return run_stage("train", train=SMALL | options, model=MODEL)


def _tokens() -> int:
    return open_tokens(TOKENS, val_split=0.05, check="sizes").train.tokens


@pytest.mark.parametrize(
    ("window", "stride", "overlap"),
    [(32, 32, 0), (32, None, 50), (32, 8, 75), (32, 1, 97), (64, 48, 25), (16, 15, 6)],
)
def test_one_epoch_is_as_many_steps_whatever_the_stride(
    window: int, stride: int | None, overlap: int, prepared: Path
) -> None:
    _prepare(window, stride)
    inputs = read_inputs(*typed_settings(train=SMALL | {"epochs": 1.0}, model=MODEL))
    plan = inputs.estimated()
    assert plan.steps == math.ceil(_tokens() / (16 * window))
    assert plan.epochs == pytest.approx(plan.steps * 16 * window / _tokens())
    [data] = [line for line in lines(plan) if line.name == "Data"]
    said = f"windows overlap by {overlap}%" if overlap else "per parameter"
    assert data.remark.endswith(said)
    [training] = [line for line in lines(plan) if line.name == "Training"]
    assert f"= {plan.epochs:.2g} epoch" in training.figure


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "epochs"), [(32, 1.0), (None, 2.0), (8, 0.5), (5, 1.5)])
def test_card_progress_and_result_say_the_same(
    stride: int | None, epochs: float, prepared: Path
) -> None:
    _prepare(32, stride)
    plan = read_inputs(*typed_settings(train=SMALL | {"epochs": epochs}, model=MODEL)).estimated()
    events = _train(epochs=epochs)
    summary = finished(events).summary
    assert summary["steps"] == plan.steps
    assert summary["epochs"] == pytest.approx(plan.epochs, abs=0.006)
    assert summary["epochs"] == pytest.approx(epochs, abs=16 * 32 / _tokens() + 0.006)
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert float(last.figures["epoch"]) == pytest.approx(summary["epochs"])
    [run] = Path("checkpoints").glob("run_*")
    windows = RunWindows(run, Path("tokenizers"))
    assert plan.steps / windows.steps_per_epoch == pytest.approx(plan.epochs)
    session = DataSession(typed_settings().config, Random(0))
    about = session.batch(run, plan.steps, validation=False).about
    assert about.endswith(f"into epoch {int((plan.steps - 1) / windows.steps_per_epoch) + 1}")


def _of_an_earlier_version(run: Path) -> None:
    """The run and its checkpoints as a version left them that counted windows."""
    write_record(run, msgspec.structs.replace(read_record(run), epoch="windows"))
    text = json.loads((run / "run.json").read_bytes())
    del text["epoch"]
    (run / "run.json").write_text(json.dumps(text | {"checksum": ""}))


@pytest.mark.slow
@pytest.mark.parametrize(("stride", "epochs"), [(None, 0.5), (8, 0.3), (20, 1.0), (32, 1.0)])
def test_a_run_of_an_earlier_version_goes_on_to_its_own_number_of_steps(
    stride: int | None, epochs: float, prepared: Path
) -> None:
    _prepare(32, stride)
    windows = len(open_tokens(TOKENS, val_split=0.05, check="sizes").train)
    run_stage(
        "train",
        stop_when=lambda event: isinstance(event, Progress),
        train=SMALL | {"epochs": epochs},
        model=MODEL,
    )
    [run] = Path("checkpoints").glob("run_*")
    assert read_record(run).epoch == record_of(folders.step_folders(run)[-1]).epoch == "text"
    _of_an_earlier_version(run)
    assert read_record(run).epoch == "windows"
    plan = read_inputs(*typed_settings(train={"resume": "auto"})).estimated()
    events = run_stage("train", train={"resume": "auto"})
    steps = max(1, math.ceil(epochs * windows / 16))
    assert finished(events).summary["steps"] == plan.steps == steps
    assert read_record(run).epoch == record_of(folders.step_folders(run)[-1]).epoch == "windows"
    assert finished(run_stage("train", train={"resume": "auto"})).skipped


@pytest.mark.slow
def test_epochs_that_are_typed_now_count_the_text_also_there(prepared: Path) -> None:
    _prepare(32, 8)
    _train(max_steps=2)
    [run] = Path("checkpoints").glob("run_*")
    _of_an_earlier_version(run)
    expected = math.ceil(0.5 * _tokens() / (16 * 32))
    resume = {"resume": "auto", "epochs": 0.5}
    assert read_inputs(*typed_settings(train=resume)).estimated().steps == expected
    assert finished(run_stage("train", train=resume)).summary["steps"] == expected
    assert read_record(run).epoch == "text"
    assert finished(run_stage("train", train={"resume": "auto"})).skipped


def test_the_usual_training_is_as_long_as_ever(prepared: Path) -> None:
    """Once over windows that overlap by half."""
    windows = len(open_tokens(TOKENS, val_split=0.05, check="sizes").train)
    plan = read_inputs(*typed_settings(train=SMALL, model=MODEL)).estimated()
    assert plan.steps == pytest.approx(windows / 16, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "file", "said"),
    [
        ({"max_steps": 2, "epochs": 3.0}, {}, True),
        ({}, {"max_steps": 2, "epochs": 3.0}, True),
        ({"max_steps": 2}, {"epochs": 3.0}, False),
        ({"epochs": 0.1}, {"max_steps": 2}, False),
        ({"max_steps": 2}, {}, False),
    ],
)
def test_two_lengths_in_one_place_are_remarked(
    typed: dict[str, Any], file: dict[str, Any], said: bool, prepared: Path
) -> None:
    config = {"dataset": {"source": "files"}, "train": SMALL | file, "model": MODEL}
    Path("config.json").write_text(json.dumps(config))
    events = run_stage("train", train=typed)
    notes = [
        e.message for e in events if isinstance(e, Warned) and "epochs is not used" in e.message
    ]
    assert len(notes) == said
