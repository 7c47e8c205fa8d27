"""Tuning on conversations: what it learns, what it leaves, how it goes on, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.conversations.conversation import Conversation, Turn
from pipeline.events import Event, Metric, Sample, Saved, Warned
from pipeline.options.config import NOTHING_TYPED, Config, SftOptions
from pipeline.options.tuning import usual_epochs
from pipeline.runs import folders, inventory
from pipeline.runs.record import read_record
from pipeline.sft.setup import begin_run, find_base
from pipeline.tokenizer.chat_template import is_chat_model
from pipeline.tokenizer.formats import read
from tests.support.example_sets import BASE, SET, base_run, conversations, example_set
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from tests.support.token_sets import save_tokenizer
from utils.errors import HatcheryError, RefusedError, UsageError

TUNE: dict[str, Any] = {
    "device": "cpu", "tensorboard": False, "epochs": 4, "batch_size": 2, "learning_rate": 3e-3,
    "warmup_steps": 2,
}  # fmt: skip


def tune(**changes: Any) -> list[Event]:
    return run_stage("sft", sft=TUNE | changes)


def run_of(events: list[Event]) -> Path:
    path = finished(events).path
    assert path is not None
    return Path(path)


def losses(events: list[Event]) -> list[tuple[int, float | None, float | None]]:
    return [
        (e.step, e.values["loss"], e.values["grad_norm"])
        for e in events
        if isinstance(e, Metric) and e.kind == "train"
    ]


def validations(events: list[Event]) -> dict[int, float]:
    return {
        e.step: e.values["val_loss"] or 0.0
        for e in events
        if isinstance(e, Metric) and e.kind == "validation"
    }


@pytest.fixture
def talk(workspace: Path) -> Path:
    base_run()
    return example_set(SET, conversations(30))


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs"), [(1, 10), (3, 10), (7, 9), (19, 4), (20, 3), (500, 3)]
)
def test_a_small_set_is_read_more_often(steps_per_epoch: float, epochs: float) -> None:
    assert usual_epochs(steps_per_epoch) == epochs


def test_the_length_that_somebody_has_said_is_kept(talk: Path) -> None:
    def length(**said: Any) -> tuple[float, int]:
        setup = begin_run(Config(), SftOptions(device="cpu", batch_size=2, **said), NOTHING_TYPED)
        return setup.options.epochs, setup.total_steps

    epochs, steps = length()
    assert 3 < epochs <= 10
    assert length(epochs=2) == (2, 2 * steps / epochs)
    assert length(max_steps=5)[1] == 5


@pytest.mark.slow
def test_a_tuning_learns_to_answer_and_leaves_a_complete_run(talk: Path) -> None:
    events = tune(name="mine")
    run = run_of(events)
    assert run.name.startswith("sft_talk_")
    assert folders.short_name(run.name) == "mine"
    measured = validations(events)
    assert measured[max(measured)] < measured[0] - 0.5
    per_epoch = max(measured) // 4
    epochs = [folders.pointed(run, f"epoch_{n}") for n in (1, 2, 3, 4)]
    assert epochs == [folders.step_folder(run, per_epoch * n) for n in (1, 2, 3, 4)]
    assert folders.pointed(run, "latest") == epochs[-1]
    assert folders.pointed(run, "best") is not None
    kept = json.loads((run / "sft_config.json").read_text())
    assert Path(kept["base"]["checkpoint"]) == folders.step_folder(BASE, 4)
    assert kept["options"]["learning_rate"] == 3e-3
    assert read_record(run).command == "sft"
    assert is_chat_model(epochs[-1] or run)
    asked = [e for e in events if isinstance(e, Sample)]
    assert all(e.prompt.endswith("Assistant:") for e in asked)
    assert len({e.prompt for e in asked}) == 2
    [settings] = [e for e in events if isinstance(e, Saved) and e.kind == "settings"]
    assert settings.facts["learned"].endswith("tokens")
    assert settings.facts["packing"].endswith("full")


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["on", "off"])
def test_a_stopped_tuning_goes_on_bit_for_bit(talk: Path, packing: str) -> None:
    whole = tune(name="whole", packing=packing, answers=0)
    cut = run_stage(
        "sft",
        stop_when=lambda e: isinstance(e, Metric) and e.kind == "train" and e.step == 7,
        sft=TUNE | {"name": "cut", "packing": packing, "answers": 0},
    )
    assert finished(cut).stopped
    resumed = run_stage("sft", sft={"resume": "auto", "name": "cut"})
    assert losses(cut) + losses(resumed) == losses(whole)
    ends = [folders.step_folders(run_of(events))[-1] for events in (whole, resumed)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (load_file(end / name) for end in ends)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not any(isinstance(e, Metric) and e.step == 0 for e in resumed)


@pytest.mark.slow
def test_a_kill_between_a_checkpoint_and_its_names_loses_none(talk: Path) -> None:
    run = run_of(tune(epochs=1, answers=0, keep_checkpoints=1))
    last = folders.step_folders(run)[-1]
    named = {link.name for link in folders.links(run) if folders.followed(link) == last}
    assert named == {"checkpoint_best", "checkpoint_latest", "checkpoint_epoch_1"}
    for name in named:
        (run / name).unlink()
    run_stage("sft", sft={"resume": str(run), "epochs": 2})
    assert folders.pointed(run, "epoch_1") == last
    assert folders.pointed(run, "epoch_2") == folders.pointed(run, "latest") != last


@pytest.mark.slow
def test_each_stage_goes_on_with_its_own_runs_only(talk: Path) -> None:
    run = run_of(tune(max_steps=2, answers=0))
    with pytest.raises(UsageError, match="by sft") as error:
        run_stage("train", train={"resume": str(run)})
    assert list(error.value.commands) == [("sft", "--resume", str(run))]
    with pytest.raises(UsageError, match="no run"):
        run_stage("train", train={"resume": "auto", "name": "talk"})
    again = run_stage("sft", sft={"resume": "auto"})
    assert finished(again).skipped
    with pytest.raises(UsageError, match="cannot change --packing"):
        run_stage("sft", sft={"resume": "auto", "packing": "off", "max_steps": 9})


@pytest.mark.slow
def test_the_optimizer_takes_over_the_moments_of_its_own_kind(talk: Path) -> None:
    def optimizer(**changes: Any) -> str:
        events = tune(max_steps=1, answers=0, **changes)
        return next(e.facts["optimizer"] for e in events if isinstance(e, Saved))

    assert optimizer() == "adamw"  # the base was trained with Muon
    assert optimizer(optimizer="muon", learning_rate=1e-4) == "muon, warm"


@pytest.mark.slow
def test_weights_without_an_optimizer_are_tuned_too(workspace: Path) -> None:
    save_step(BASE, 4, lively_model(max_position_embeddings=128), byte_tokenizer())
    example_set(SET, conversations(12))
    assert finished(tune(max_steps=1, answers=0)).summary["steps"] == 1


@pytest.mark.slow
def test_a_gpt2_shaped_model_is_tuned_too(workspace: Path) -> None:
    shape = {"position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True}
    base_run("adamw", tie_word_embeddings=True, **shape)
    example_set(SET, conversations(12))
    measured = validations(tune(epochs=2, answers=0))
    assert measured[max(measured)] < measured[0]


@pytest.mark.slow
def test_conversations_with_nothing_to_learn_are_counted_and_left_out(workspace: Path) -> None:
    base_run()
    example_set(SET.with_name("part"), conversations(12), unlearned=[0, 1, 2, 3], held_out=[0, 9])
    events = tune(data="part", max_steps=1, answers=0)
    told = [e.message for e in events if isinstance(e, Warned)]
    assert any("4 conversations hold nothing to learn" in message for message in told)


def refused(kind: type[HatcheryError] = RefusedError, **changes: Any) -> HatcheryError:
    before = set(Path("checkpoints").iterdir())
    with pytest.raises(kind) as error:
        tune(**changes)
    assert set(Path("checkpoints").iterdir()) == before  # nothing was made
    return error.value


def test_conversations_of_another_tokenizer_are_refused(workspace: Path) -> None:
    base_run()
    other = save_tokenizer("other", [("a", "b")])
    example_set(SET, conversations(12), read(other, "other"))
    error = refused()
    assert "another tokenizer" in error.problem
    [command] = error.commands
    assert command[command.index("--tokenizer") + 1].endswith("checkpoint_step_000004")


def test_a_conversation_longer_than_the_context_is_refused(workspace: Path) -> None:
    base_run()
    long = Conversation((Turn("user", "q" * 90), Turn("assistant", "a" * 60)), "file:1")
    example_set(SET, [*conversations(12), long])
    error = refused()
    assert "longer than" in error.problem
    assert error.commands[0][-3:] == ("--max-length", "128", "--force")


def test_a_window_must_hold_the_longest_conversation_and_fit_the_context(talk: Path) -> None:
    assert "does not fit into a row" in refused(window=64).problem
    assert "do not fit into" in refused(UsageError, window=200).problem


def test_too_few_conversations_are_refused(workspace: Path) -> None:
    base_run()
    example_set(SET, conversations(1))
    assert "too few" in refused().problem


def test_without_conversations_or_weights_the_way_to_them_is_named(workspace: Path) -> None:
    base_run()
    assert list(refused(UsageError).commands) == [("lima", "--input", "FILE")]
    assert "no such folder" in refused(UsageError, data="nowhere").found
    example_set(SET, conversations(12))
    assert "nothing" in refused(UsageError, checkpoint="nothing").problem


def test_a_model_of_a_family_that_is_not_computed_here_is_refused(workspace: Path) -> None:
    base_run()
    example_set(SET, conversations(12))
    Path("alien").mkdir()
    Path("alien/config.json").write_text(json.dumps({"model_type": "mamba"}))
    Path("alien/model.safetensors").write_bytes(b"")
    assert "mamba" in str(refused(UsageError, checkpoint="alien"))


def test_the_newest_pretrained_run_is_tuned_where_none_is_named(talk: Path) -> None:
    tuned = Path("checkpoints/sft_talk_2026_01_02_10_00")
    save_step(tuned, 9, lively_model(), byte_tokenizer(), command="sft")
    (tuned / "run.json").write_text('{"command": "sft"}')
    assert inventory.newest(Config()).run == tuned.name
    found = find_base(Config(), SftOptions())
    assert found.path == folders.step_folder(BASE, 4)
