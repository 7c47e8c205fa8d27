"""Going on with a run: two at once, how long, what may change and what is said."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.events import Event, Metric, Warned
from pipeline.options.config import Config
from pipeline.runs import folders
from pipeline.runs.record import read_record
from tests.conftest import ROOT
from tests.pipeline.test_train import MODEL, TRAIN, curve, run_folder, train
from tests.support.stage_runner import finished, run_stage
from utils.config import Layer, resolve
from utils.errors import RefusedError, UsageError


def resume(run: Path, **changes: Any) -> list[Event]:
    return run_stage("train", train={"resume": str(run)} | changes)


def warnings(events: list[Event]) -> str:
    return "\n".join(f"{e.message} {e.remedy}" for e in events if isinstance(e, Warned))


def validated(events: list[Event]) -> list[float | None]:
    metrics = [event.values for event in events if isinstance(event, Metric)]
    return [values["val_loss"] for values in metrics if "val_loss" in values]


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return dict(load_file(folders.step_folder(run, step) / "model.safetensors"))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock, which names whoever held it last."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# Two at once.


@pytest.mark.slow
def test_resuming_beside_a_training_that_saves_every_step_is_always_locked(prepared: Path) -> None:
    run = run_folder(train(max_steps=2, eval_every=2, checkpoint_every=1, name="live"))
    command = [sys.executable, str(ROOT / "main.py"), "train", "--resume", "auto"]
    more = ["--max-steps", "100000", "--eval-every", "1000", "--keep-checkpoints", "1"]
    with Path("live.log").open("wb") as log:
        living = subprocess.Popen([*command, *more], stdout=log, stderr=log)
    try:
        while len(folders.step_folders(run)) and folders.step_of(folders.step_folders(run)[-1]) < 4:
            assert living.poll() is None, Path("live.log").read_text()
        ways = ["auto", str(run), "live", str(run / "checkpoint_latest"), run.name]
        for attempt in range(25):
            with pytest.raises(RefusedError, match="Another process is writing") as error:
                run_stage("train", train={"resume": ways[attempt % 5], "max_steps": 200_000})
            assert str(living.pid) in error.value.found
        assert living.poll() is None
        assert [path.name for path in Path("checkpoints").iterdir()] == [run.name]
        assert not list(run.glob("*.corrupt"))
    finally:
        living.kill()
        living.wait()


@pytest.mark.slow
def test_nothing_is_set_aside_while_another_process_trains(prepared: Path) -> None:
    from utils.files import FolderLock

    run = run_folder(train(max_steps=4))
    (folders.step_folder(run, 4) / "model.safetensors").write_bytes(b"damaged")
    with FolderLock(run), pytest.raises(RefusedError, match="Another process"):
        run_stage("train", train={"resume": "auto", "max_steps": 6})
    assert not list(run.glob("*.corrupt"))


# How long.


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (({"max_steps": 5}, {"epochs": 2.0}), (None, 2.0)),
        (({"epochs": 2.0}, {"max_steps": 5}), (5, 2.0)),
        (({"max_steps": 5}, {"seed": 1}, {"epochs": 2.0}), (None, 2.0)),
        (({"max_steps": 5}, {"epochs": 2.0}, {"max_steps": 7}), (7, 2.0)),
        (({"epochs": 3.0, "max_steps": 5},), (5, 3.0)),
        (({"max_steps": 5}, {"epochs": 3.0, "max_steps": 9}), (9, 3.0)),
    ],
)
def test_the_stronger_of_epochs_and_steps_decides(
    layers: tuple[dict[str, Any], ...], expected: tuple[int | None, float]
) -> None:
    given = [Layer(str(n), {"train": values}) for n, values in enumerate(layers)]
    options = resolve(Config, given).train
    assert (options.max_steps, options.epochs) == expected


@pytest.mark.slow
def test_typed_epochs_let_a_run_with_max_steps_go_on(prepared: Path) -> None:
    run = run_folder(train(max_steps=4))
    events = resume(run, epochs=0.5)
    steps = finished(events).summary["steps"]
    assert steps > 4
    assert read_record(run).options["max_steps"] is None
    assert finished(resume(run)).skipped
    assert finished(resume(run, max_steps=steps + 2)).summary["steps"] == steps + 2


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"max_steps": 4}, {"max_steps": 8}, {"epochs": 0.001}])
def test_a_resume_that_does_nothing_changes_nothing(
    prepared: Path, changes: dict[str, Any]
) -> None:
    run = run_folder(train(max_steps=8))
    before = content(run)
    events = resume(run, **changes)
    assert finished(events).skipped
    assert content(run) == before
    assert "has done 8 steps already" in warnings(events)
    if changes.get("max_steps") == 4:
        assert "more than the 4 asked for" in warnings(events)
        assert f"--resume {run} --max-steps 12" in warnings(events)


@pytest.mark.slow
def test_an_interrupted_run_is_not_ended_by_fewer_steps(prepared: Path) -> None:
    cut = run_stage(
        "train",
        stop_when=lambda e: isinstance(e, Metric) and e.step == 6,
        train=TRAIN | {"name": "cut"},
        model=MODEL,
    )
    run = run_folder(cut)
    assert finished(resume(run, max_steps=3)).skipped
    assert finished(resume(run)).summary["steps"] == 12


@pytest.mark.slow
def test_a_branch_that_would_do_nothing_makes_no_run(prepared: Path) -> None:
    run = run_folder(train(max_steps=8))
    assert finished(resume(folders.step_folder(run, 4), max_steps=3)).skipped
    assert [path.name for path in Path("checkpoints").iterdir()] == [run.name]


# What may change.


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "parts"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_the_same_windows_per_step_may_be_split_otherwise(
    prepared: Path, batch: int, parts: int
) -> None:
    model = MODEL | {"dropout": 0.0}
    begin = TRAIN | {"batch_size": 8, "precision": "fp32", "max_steps": 8, "eval_every": 2}
    whole = run_stage("train", train=begin | {"name": "whole"}, model=model)
    cut = run_stage(
        "train",
        train=begin | {"name": "cut"},
        model=model,
        stop_when=lambda e: isinstance(e, Metric) and e.step == 4 and "loss" in e.values,
    )
    run = run_folder(cut)
    split = {"batch_size": batch, "gradient_accumulation_steps": parts}
    events = resume(run, **split)
    assert ("now learns from its rows as" in warnings(events)) is (batch != 8)
    expected = [row for row in curve(whole) if row[0] > 4]
    for (step, loss, norm), (at, wanted, wanted_norm) in zip(curve(events), expected, strict=True):
        assert (step, loss) == (at, pytest.approx(wanted, rel=1e-3))
        assert norm == pytest.approx(wanted_norm, rel=1e-2)
    scored, theirs = validated(events), validated(whole)
    assert scored == pytest.approx(theirs[-len(scored) :], rel=1e-3)
    assert finished(resume(run, max_steps=10)).summary["steps"] == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 8},
        {"batch_size": 2},
        {"gradient_accumulation_steps": 2},
        {"batch_size": 2, "gradient_accumulation_steps": 4},
        {"batch_size": 3, "gradient_accumulation_steps": 1},
    ],
)
def test_other_windows_per_step_are_refused(prepared: Path, changes: dict[str, Any]) -> None:
    run = run_folder(train(max_steps=4))
    with pytest.raises(UsageError, match="rows per step") as error:
        resume(run, max_steps=6, **changes)
    assert "the run has 4 × 1" in error.value.found


@pytest.mark.parametrize(
    ("batch", "parts", "smaller"),
    [(16, 1, (8, 2)), (5, 1, (1, 5)), (9, 2, (3, 6)), (1, 4, None), (6, 3, (3, 6))],
)
def test_smaller_batches_keep_the_windows_per_step(
    batch: int, parts: int, smaller: tuple[int, int] | None
) -> None:
    values = {"batch_size": batch, "gradient_accumulation_steps": parts}
    assert resolve(Config, [Layer("", {"train": values})]).train.smaller_batches() == smaller


# What is said.


@pytest.mark.slow
def test_a_finished_run_that_goes_on_says_what_the_learning_rate_does(prepared: Path) -> None:
    for schedule in ("wsd", "cosine"):
        run = run_folder(train(max_steps=8, schedule=schedule))
        said = warnings(resume(run, max_steps=20))
        assert "With 20 steps in place of 8 the learning rate goes at once from" in said
        assert "its peak is 0.003" in said
    run = run_folder(train(max_steps=8, schedule="constant"))
    assert "learning rate" not in warnings(resume(run, max_steps=20))


@pytest.mark.slow
def test_a_change_of_precision_is_said(prepared: Path) -> None:
    run = run_folder(train(max_steps=4, precision="fp32"))
    said = warnings(resume(run, max_steps=6, precision="bf16"))
    assert "computed in float32 and now does in bfloat16" in said
    assert "computed in" not in warnings(resume(run, max_steps=8))


@pytest.mark.slow
def test_a_branch_has_a_best_checkpoint_of_its_own(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.train.trainer import Evaluation, Trainer

    losses = iter([2.0, 1.5, 1.9, 3.0, 3.1, 3.2])
    monkeypatch.setattr(Trainer, "evaluate", lambda *_: Evaluation(next(losses), 1))
    trunk = run_folder(train(max_steps=12))
    events = resume(folders.step_folder(trunk, 8), max_steps=20)
    branch = run_folder(events)
    assert finished(events).summary["best_step"] == 12
    assert folders.pointed(branch, "best") == folders.step_folder(branch, 12)


@pytest.mark.slow
def test_a_loss_that_breaks_down_advises_only_what_can_be_done(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.gpt import GPT
    from pipeline.train.trainer import NonFiniteError

    honest, broken_from = GPT.loss, [1]
    calls: list[int] = []

    def sabotaged(self: GPT, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        loss = honest(self, inputs, targets)
        return loss * torch.nan if len(calls) >= broken_from[0] else loss

    monkeypatch.setattr(GPT, "loss", sabotaged)
    with pytest.raises(NonFiniteError, match="step 0") as error:
        train(name="first", precision="fp32")
    [anew] = error.value.commands
    assert "--resume" not in anew
    assert anew[-2:] == ("--matrix-learning-rate", "0.01")
    assert "there is no checkpoint yet" in error.value.remedy
    assert error.value.remedy.count("--precision fp32") == 1  # as it was typed
    calls.clear()
    broken_from[0] = 6
    with pytest.raises(NonFiniteError) as error:
        train(name="later", precision="bf16", optimizer="adamw")
    [run] = [path for path in Path("checkpoints").iterdir() if path.name.endswith("_later")]
    go_on = ("train", "--resume", str(run))
    lower = (*go_on, "--learning-rate", "0.0015")
    assert error.value.commands == (lower, (*go_on, "--precision", "fp32"))
