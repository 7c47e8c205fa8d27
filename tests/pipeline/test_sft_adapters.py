"""Tuning with adapters: what is saved, how it goes on, what it needs of its base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import load_adapted, load_weights
from model.lora import adapters
from pipeline.events import Metric, Saved
from pipeline.options.tuning import usual_rate
from pipeline.runs import folders
from tests.pipeline.test_sft import TUNE, losses, run_of, tune, validations
from tests.support.example_sets import BASE, SET, base_run, conversations, example_set
from tests.support.stage_runner import finished, run_stage
from utils.errors import RefusedError, UsageError

LORA: dict[str, Any] = {"lora": True, "lora_rank": 3, "learning_rate": 1e-2, "answers": 0}


@pytest.fixture
def talk(workspace: Path) -> Path:
    base_run("adamw")  # moments of the same kind, which adapters cannot take over
    return example_set(SET, conversations(30))


def test_adapters_take_a_higher_rate_and_preferences_a_lower_one() -> None:
    assert usual_rate(200_000_000) == 5e-5
    assert usual_rate(20_000_000, lora=True) == pytest.approx(10 * usual_rate(20_000_000))
    assert usual_rate(1_000_000, lora=True) == usual_rate(20_000_000, lora=True)
    assert usual_rate(1_000_000) > usual_rate(20_000_000)
    assert usual_rate(10_000_000, preferences=True) == pytest.approx(usual_rate(10_000_000) / 10)


@pytest.mark.slow
def test_a_tuning_with_adapters_learns_and_opens_everywhere(talk: Path) -> None:
    events = tune(**LORA, name="thin")
    measured = validations(events)
    assert measured[max(measured)] < measured[0] - 0.3
    [settings] = [e for e in events if isinstance(e, Saved) and e.kind == "settings"]
    assert settings.facts["adapters"] == "rank 3, alpha 32"
    assert settings.facts["optimizer"] == "adamw"
    checkpoint = folders.pointed(run_of(events), "latest")
    assert checkpoint is not None
    merged = load_weights(checkpoint)
    assert not adapters(merged)
    again = load_weights(BASE / "checkpoint_best")
    load_adapted(checkpoint, again)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        ours, theirs = (m(ids)["logits"] for m in (merged, again.eval()))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    config = json.loads((checkpoint / "adapter" / "adapter_config.json").read_text())
    base = folders.step_folder(BASE, 4)
    assert config["base_model_name_or_path"] == str(base.resolve())
    assert config["r"] == 3
    done = run_stage("export", export={"checkpoint": str(checkpoint), "to": "hf"})
    path = Path(finished(done).path or "")
    assert (
        load_file(path / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    )
    assert not (path / "adapter").exists()


@pytest.mark.slow
def test_a_stopped_tuning_with_adapters_goes_on_bit_for_bit(talk: Path) -> None:
    whole = tune(**LORA, name="whole", lora_dropout=0.2)
    cut = run_stage(
        "sft",
        stop_when=lambda e: isinstance(e, Metric) and e.kind == "train" and e.step == 7,
        sft=TUNE | LORA | {"name": "cut", "lora_dropout": 0.2},
    )
    assert finished(cut).stopped
    resumed = run_stage("sft", sft={"resume": "auto", "name": "cut"})
    assert losses(cut) + losses(resumed) == losses(whole)
    ends = [folders.step_folders(run_of(events))[-1] for events in (whole, resumed)]
    for name in ("model.safetensors", "optimizer.safetensors", "adapter/adapter_model.safetensors"):
        ours, theirs = (load_file(end / name) for end in ends)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "another"])
def test_adapters_do_not_go_on_without_the_weights_that_they_stand_beside(
    talk: Path, damage: str
) -> None:
    run = run_of(tune(**LORA, max_steps=2))
    base = folders.step_folder(BASE, 4)
    shutil.rmtree(base)
    if damage == "another":
        base_run("muon")
    with pytest.raises(RefusedError, match="that it began with are gone") as error:
        run_stage("sft", sft={"resume": str(run), "max_steps": 4})
    assert str(base) in error.value.found
    assert list(error.value.commands) == [("sft", "--checkpoint", str(run), "--lora")]
    words = {"checkpoint": str(run), **LORA, "max_steps": 1, "device": "cpu"}
    assert finished(run_stage("sft", sft=words)).summary["steps"] == 1


@pytest.mark.slow
def test_what_the_adapters_are_cannot_change(talk: Path) -> None:
    run = run_of(tune(**LORA, max_steps=1))
    for change in ({"lora_rank": 4}, {"lora": False}, {"method": "dpo"}):
        with pytest.raises(UsageError, match="cannot change"):
            run_stage("sft", sft={"resume": str(run), "max_steps": 2} | change)
