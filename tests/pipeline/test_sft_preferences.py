"""Tuning on preferences: where it begins, what it shows, how it goes on, what it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import load_weights
from pipeline.conversations.example_set import open_examples
from pipeline.events import Event, Metric, Sample
from pipeline.runs import folders
from pipeline.sft.preference import (
    REFERENCE,
    PreferenceBatches,
    read_reference,
    reference_log_probabilities,
    sum_log_probabilities,
    write_reference,
)
from tests.pipeline.test_sft import TUNE, losses, run_of, tune
from tests.support.example_sets import (
    BASE,
    SET,
    base_run,
    conversations,
    example_set,
    preference_set,
    preferences,
)
from tests.support.stage_runner import run_stage
from utils.errors import RefusedError

DPO: dict[str, Any] = {"method": "dpo", "learning_rate": 1e-3, "precision": "fp32", "answers": 1}
FIGURES = ("chosen_logprob", "rejected_logprob", "margin", "accuracy")


@pytest.fixture
def liked(workspace: Path) -> Path:
    base_run()
    return preference_set(SET, preferences(20))


def figures(events: list[Event], kind: str) -> dict[int, dict[str, float | None]]:
    return {e.step: e.values for e in events if isinstance(e, Metric) and e.kind == kind}


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_it_begins_at_the_logarithm_of_two_and_learns_to_prefer(liked: Path, lora: bool) -> None:
    events = tune(**DPO, lora=lora, beta=0.5)
    held_out, trained = figures(events, "validation"), figures(events, "train")
    assert held_out[0]["val_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert trained[1]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert held_out[0]["val_margin"] == pytest.approx(0, abs=1e-4)
    assert all({*FIGURES} <= values.keys() for values in trained.values())
    assert all({f"val_{name}" for name in FIGURES} <= values.keys() for values in held_out.values())
    last = trained[max(trained)]
    assert last["accuracy"] == 1
    assert last["margin"] is not None
    assert last["margin"] > 0.05
    assert any(isinstance(e, Sample) and e.prompt.endswith("Assistant:") for e in events)
    assert (folders.pointed(run_of(events), "latest") or Path()).is_dir()


@pytest.mark.slow
def test_a_stopped_tuning_on_preferences_goes_on_bit_for_bit(liked: Path) -> None:
    words = {**TUNE, **DPO, "lora": True, "nll_weight": 0.2, "answers": 0}
    whole = run_stage("sft", sft=words | {"name": "whole"})
    cut = run_stage(
        "sft",
        stop_when=lambda e: isinstance(e, Metric) and e.kind == "train" and e.step == 5,
        sft=words | {"name": "cut"},
    )
    reference = (run_of(cut) / REFERENCE).read_bytes()
    resumed = run_stage("sft", sft={"resume": "auto", "name": "cut"})
    assert losses(cut) + losses(resumed) == losses(whole)
    assert (run_of(resumed) / REFERENCE).read_bytes() == reference
    ends = [folders.step_folders(run_of(events))[-1] for events in (whole, resumed)]
    ours, theirs = (load_file(end / "model.safetensors") for end in ends)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
def test_a_reference_that_was_lost_is_computed_again_by_the_base(liked: Path) -> None:
    words = {**TUNE, **DPO, "answers": 0, "max_steps": 3}
    run = run_of(run_stage("sft", sft=words))
    kept = (run / REFERENCE).read_bytes()
    (run / REFERENCE).write_bytes(kept[:-9])
    run_stage("sft", sft={"resume": str(run), "max_steps": 4})
    assert (run / REFERENCE).read_bytes() == kept


@pytest.mark.slow
def test_the_extra_term_is_part_of_the_loss(liked: Path) -> None:
    def first(**changes: Any) -> float:
        events = tune(**(DPO | {"max_steps": 1, "answers": 0}), **changes)
        return figures(events, "train")[1]["loss"] or 0.0

    assert first(nll_weight=0.5) > first() + 0.5


@pytest.mark.slow
def test_each_method_names_the_one_that_a_set_is_for(liked: Path) -> None:
    with pytest.raises(RefusedError, match="Method sft does not learn") as error:
        tune(answers=0)
    assert error.value.commands[0][-2:] == ("--method", "dpo")
    talk = example_set(SET.with_name("other"), conversations(12))
    with pytest.raises(RefusedError, match="Method dpo does not learn") as error:
        tune(**DPO, data=talk)
    assert ("--method", "sft") in zip(
        error.value.commands[0], error.value.commands[0][1:], strict=False
    )


def test_batches_have_both_answers_of_a_pair_and_what_the_reference_says(liked: Path) -> None:
    data = open_examples(liked)
    model = load_weights(BASE / "checkpoint_best")
    settings: dict[str, Any] = {"window": 64, "batch_size": 3}
    reference = reference_log_probabilities(model, data, **settings, dtype=torch.float32)
    assert reference.shape == (len(data),)
    batches = PreferenceBatches(
        data, data.train, reference=reference, accumulation=1, seed=1,
        device=torch.device("cpu"), **settings,
    )  # fmt: skip
    seen = []
    for number in range(batches.steps_per_epoch):
        inputs, targets, said = batches.batch(number)
        pairs = [pair for row in batches.rows(number) for pair in row]
        seen += pairs
        assert len(inputs) == len(targets) == len(said) == 2 * len(pairs)
        with torch.no_grad():
            own = sum_log_probabilities(model, inputs, targets)
        torch.testing.assert_close(own, said, atol=1e-4, rtol=0)
        for place, pair in enumerate(pairs):
            for row, example in zip((2 * place, 2 * place + 1), data.pair(pair), strict=True):
                learned = data.ids(example)[data.learned(example)].tolist()
                assert targets[row][targets[row] >= 0].tolist() == learned
    assert sorted(seen) == data.train.tolist()


def test_a_reference_comes_back_for_its_own_set_only(liked: Path, tmp_path: Path) -> None:
    data, path = open_examples(liked), tmp_path / REFERENCE
    reference = torch.randn(len(data))
    write_reference(path, data, reference)
    found = read_reference(path, data)
    assert found is not None
    assert torch.equal(found, reference)
    other = open_examples(preference_set(SET.with_name("other"), preferences(19)))
    assert read_reference(path, other) is None
    assert read_reference(tmp_path / "nothing", data) is None
