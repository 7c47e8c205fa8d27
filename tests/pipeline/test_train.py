"""Training: exact resume, saves, refusals; run as the command line runs it."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import save_checkpoint
from pipeline.events import Event, Finished, Metric, Sample, Warned, from_json
from pipeline.runs import folders as runs
from pipeline.tokens.batches import Batch, HostBatches
from pipeline.tokens.order import Indices
from pipeline.train.trainer import Evaluation, Trainer
from tests.conftest import WORDS
from tests.support.stage_runner import finished, run_stage, settings
from utils.errors import RefusedError, UsageError
from utils.files import DiskFullError

MODEL = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "dropout": 0.1}
TRAIN: dict[str, Any] = {
    "max_steps": 12,
    "batch_size": 4,
    "log_every": 1,
    "eval_every": 4,
    "eval_batches": 2,
    "sample_every": 1000,
    "warmup_steps": 2,
    "tensorboard": False,
    "device": "cpu",
}


def train(**changes: Any) -> list[Event]:
    return run_stage("train", train=TRAIN | changes, model=MODEL)


def curve(events: list[Event]) -> list[tuple[int, float | None, float | None]]:
    """Step, loss and gradient norm as logged."""
    return [
        (e.step, e.values["loss"], e.values["grad_norm"])
        for e in events
        if isinstance(e, Metric) and "loss" in e.values
    ]


def run_folder(events: list[Event]) -> Path:
    path = finished(events).path
    assert path is not None
    return Path(path)


@pytest.mark.slow
def test_training_learns_and_leaves_a_complete_run(prepared: Path) -> None:
    events = train(max_steps=60, eval_every=20, name="exp")
    losses = [loss for _, loss, _ in curve(events)]
    assert losses[-1] < losses[0] - 0.5
    run = run_folder(events)
    assert run.name.endswith("_exp")
    assert runs.pointed(run, "latest") == runs.step_folder(run, 60)
    assert runs.pointed(run, "best") is not None
    written = [from_json(line) for line in (run / "events.jsonl").read_bytes().splitlines()]
    assert curve(written) == curve(events)
    assert isinstance(written[-1], Finished)
    assert any(isinstance(e, Sample) and e.token_ids for e in written)
    raw = (prepared / "logs" / "raw_metrics" / f"{run.name}.jsonl").read_text().splitlines()
    assert json.loads(raw[0])["loss"] == losses[0]


@pytest.mark.slow
def test_a_stopped_run_resumes_bit_for_bit(prepared: Path) -> None:
    whole = train(name="whole")
    stopped = run_stage(
        "train",
        stop_when=lambda e: isinstance(e, Metric) and e.step == 7 and "loss" in e.values,
        train=TRAIN | {"name": "cut"},
        model=MODEL,
    )
    assert finished(stopped).stopped
    assert runs.step_folders(run_folder(stopped))[-1].name == "checkpoint_step_000007"
    resumed = run_stage("train", train={"resume": "auto", "name": "cut"})
    assert curve(stopped) + curve(resumed) == curve(whole)
    ends = [runs.step_folder(run_folder(e), 12) for e in (whole, resumed)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (load_file(end / name) for end in ends)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_refused_by_path_and_set_aside_by_auto(
    prepared: Path,
) -> None:
    run = run_folder(train(name="hurt"))
    weights = runs.step_folder(run, 12) / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-3] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(RefusedError, match="cannot be trusted"):
        run_stage("train", train={"resume": str(run)})
    events = run_stage("train", train={"resume": "auto", "name": "hurt"})
    assert any(isinstance(e, Warned) and "set aside" in e.message for e in events)
    assert (run / "checkpoint_step_000012.corrupt").is_dir()
    assert [step for step, _, _ in curve(events)] == [9, 10, 11, 12]


@pytest.mark.slow
def test_a_finished_run_says_so_and_goes_on_when_given_more_steps(prepared: Path) -> None:
    train(name="more")
    again = run_stage("train", train={"resume": "auto", "name": "more"})
    assert finished(again).skipped
    further = run_stage("train", train={"resume": "auto", "name": "more", "max_steps": 15})
    assert [step for step, _, _ in curve(further)] == [13, 14, 15]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("run_2026_11_21_07_08", "run"),
        ("run_2026_11_21_07_08_my_first_1_2_3_4_5", "run"),
        ("sft_lima_2026_11_21_07_08_first", "sft_lima"),
        ("sft_my-set_2_2026_11_21_07_08_3", "sft_my-set_2"),
        ("renamed", "run"),
    ],
)
def test_a_branch_is_called_like_the_run_it_begins_in(folder: str, kind: str) -> None:
    assert runs.kind_of(folder) == kind


@pytest.mark.slow
def test_more_steps_are_remembered_by_the_next_resume(prepared: Path) -> None:
    train(name="far")
    run_stage(
        "train",
        train={"resume": "auto", "name": "far", "max_steps": 20},
        stop_when=lambda e: isinstance(e, Metric) and e.step == 14,
    )
    rest = run_stage("train", train={"resume": "auto", "name": "far"})
    assert [step for step, _, _ in curve(rest)] == [15, 16, 17, 18, 19, 20]


@pytest.mark.slow
def test_retyping_the_whole_command_resumes_and_only_differences_are_refused(
    prepared: Path,
) -> None:
    train(name="typed")
    again = TRAIN | {"resume": "auto", "name": "typed", "max_steps": 13}
    events = run_stage("train", train=again, model=MODEL)
    assert [step for step, _, _ in curve(events)] == [13]


def test_trainings_that_start_together_get_folders_of_their_own(workspace: Path) -> None:
    folders = [runs.new_run(Path("checkpoints"), "same", 0.0) for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("folder", "called"),
    [
        ("run_2026_11_21_07_08_first", True),
        ("run_2026_11_21_07_08_first_2", True),
        ("run_2026_11_21_07_08_my_first", False),
        ("run_2026_11_21_07_08_first_try", False),
        ("run_2026_11_21_07_08", False),
        ("sft_lima_2026_11_21_07_08_first", True),
        ("sft_my_set_2_2026_11_21_07_08_first_2", True),
        ("sft_first_2026_11_21_07_08", False),
        ("first", True),
    ],
)
def test_a_run_is_called_what_it_was_started_as(folder: str, called: bool) -> None:
    assert runs.is_called(folder, "first") is called


@pytest.mark.slow
def test_an_older_checkpoint_branches_into_a_new_run(prepared: Path) -> None:
    run = run_folder(train(name="trunk"))
    events = run_stage("train", train={"resume": str(runs.step_folder(run, 8)), "name": "twig"})
    branch = run_folder(events)
    assert branch != run
    assert json.loads((branch / "run.json").read_text())["parent"].endswith("step_000008")
    assert [step for step, _, _ in curve(events)] == [9, 10, 11, 12]
    assert runs.step_folders(run)[-1].name == "checkpoint_step_000012"


@pytest.mark.slow
def test_what_would_bend_the_past_is_refused_on_resume(prepared: Path) -> None:
    train(name="fixed")
    with pytest.raises(UsageError, match="cannot change --batch-size"):
        run_stage("train", train={"resume": "auto", "batch_size": 8})
    with pytest.raises(UsageError, match="keeps its model"):
        run_stage("train", train={"resume": "auto"}, model={"hidden_size": 32})


@pytest.mark.slow
def test_other_tokens_are_refused_with_both_fingerprints(prepared: Path) -> None:
    train(name="mine")
    tokens = prepared / "data" / "tokenized_datasets" / "files_full_dataset"
    shutil.rmtree(tokens)
    (prepared / "notes" / "00.txt").unlink()
    run_stage("cleanup", cleanup={"source": "files", "input": ["notes"]})
    run_stage("prepare", prepare={"source": "files", "tokenizer": "chars", "window": 32})
    with pytest.raises(RefusedError, match="on other data"):
        run_stage("train", train={"resume": "auto"})


@pytest.mark.slow
def test_a_nan_never_reaches_the_weights_and_names_its_batch(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.gpt import GPT

    honest, calls = GPT.loss, []

    def sabotaged(self: GPT, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(None)
        loss = honest(self, inputs, targets)
        return loss * math.nan if len(calls) == 6 else loss

    monkeypatch.setattr(GPT, "loss", sabotaged)
    with pytest.raises(Exception, match="broke down at step 5"):
        train(name="nan")
    run = next((prepared / "checkpoints").glob("run_*_nan"))
    dumped = json.loads((run / "bad_batch_step_000005.json").read_text())
    assert len(dumped["windows"]) == 4
    assert all(any(word in w["text"] for word in WORDS) for w in dumped["windows"])
    newest = runs.step_folders(run)[-1]
    assert all(bool(t.isfinite().all()) for t in load_file(newest / "model.safetensors").values())


@pytest.mark.slow
def test_a_full_disk_is_survived_until_it_happens_three_times(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise DiskFullError("The disk is full.")

    monkeypatch.setattr("pipeline.train.session.save_checkpoint", full_disk)
    seen: list[Event] = []
    with pytest.raises(DiskFullError):
        run_stage("train", into=seen, train=TRAIN | {"name": "full"}, model=MODEL)
    assert sum(isinstance(e, Warned) and "Not saved" in e.message for e in seen) == 2


@pytest.mark.slow
@pytest.mark.parametrize("stopped_at", [7, 12])
def test_a_last_checkpoint_that_finds_no_room_fails_the_training(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    def full_at_the_end(folder: Path, *rest: Any, **more: Any) -> None:
        if folder.name == f"checkpoint_step_{stopped_at:06}":
            raise DiskFullError("The disk is full.", found="1 B free on that disk")
        save_checkpoint(folder, *rest, **more)

    monkeypatch.setattr("pipeline.train.session.save_checkpoint", full_at_the_end)
    seen: list[Event] = []
    with pytest.raises(DiskFullError, match=f"step {stopped_at} could not be saved") as error:
        run_stage(
            "train",
            into=seen,
            stop_when=lambda e: isinstance(e, Metric) and e.step == stopped_at,
            train=TRAIN | {"name": "late"},
            model=MODEL,
        )
    run = next(Path("checkpoints").glob("run_*_late"))
    assert not any(isinstance(event, Finished) for event in seen)
    assert "A checkpoint takes 115.9 KiB" in error.value.found
    assert error.value.remedy.endswith(f"python main.py train --resume {run}")
    monkeypatch.setattr("pipeline.train.session.save_checkpoint", save_checkpoint)
    again = run_stage("train", train={"resume": str(run)})
    assert finished(again).summary["steps"] == 12


@pytest.mark.slow
def test_a_full_disk_before_the_first_checkpoint_does_not_advise_to_resume(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DiskFullError("The disk is full.")

    monkeypatch.setattr("pipeline.train.session.save_checkpoint", full)
    with pytest.raises(DiskFullError) as error:
        train(max_steps=1, name="none")
    assert error.value.remedy == "free some room, then run the same command again"


@pytest.mark.slow
def test_an_error_that_is_not_about_memory_is_passed_on_without_a_cause(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("model.gpt.GPT.loss", broken)
    with pytest.raises(RuntimeError, match="multiplied") as error:
        train(name="broken")
    assert error.value.__cause__ is None


@pytest.mark.slow
def test_old_checkpoints_go_but_best_and_latest_stay(prepared: Path) -> None:
    run = run_folder(train(eval_every=1, keep_checkpoints=2, name="keep"))
    kept = {path.name for path in runs.step_folders(run)}
    assert {"checkpoint_step_000011", "checkpoint_step_000012"} <= kept
    assert len(kept) <= 3
    assert not list(run.glob(".deleted*"))


@pytest.mark.slow
def test_a_validation_fetches_no_batch_that_it_does_not_score(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, fetched = HostBatches.__call__, []

    def counted(self: HostBatches, indices: Indices) -> Batch:
        fetched.append(indices)
        return gather(self, indices)

    monkeypatch.setattr(HostBatches, "__call__", counted)
    train(max_steps=1, eval_batches=2, name="counted")
    assert len(fetched) == 1 + 2  # one to learn from, two to score


@pytest.mark.slow
def test_early_stopping_ends_the_run_as_done(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "evaluate", lambda *_: Evaluation(loss=2.0, tokens=1))
    events = train(early_stopping=2, eval_every=1, name="bored")
    assert finished(events).summary["steps"] == 3
    assert not finished(events).stopped


@pytest.mark.slow
def test_early_stopping_without_one_finite_validation_ends_the_run_as_done(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "evaluate", lambda *_: Evaluation(loss=math.nan, tokens=1))
    events = train(early_stopping=2, eval_every=1, name="lost")
    assert finished(events).summary["steps"] == 2
    [warning] = [e.message for e in events if isinstance(e, Warned) and "early" in e.message]
    assert warning == "Stopping early: 2 validations in a row had a loss that is not finite."


@pytest.mark.slow
def test_two_writers_never_share_a_run(prepared: Path) -> None:
    from utils.files import FolderLock

    run = run_folder(train(name="held"))
    with FolderLock(run), pytest.raises(RefusedError, match="Another process"):
        run_stage("train", train={"resume": "auto", "max_steps": 20})


@pytest.mark.slow
def test_accumulated_batches_learn_what_one_large_batch_does(prepared: Path) -> None:
    large = train(max_steps=4, batch_size=8, name="large")
    small = train(max_steps=4, batch_size=4, gradient_accumulation_steps=2, name="small")
    for (_, a, _), (_, b, _) in zip(curve(large), curve(small), strict=True):
        assert a == pytest.approx(b, abs=2e-2)  # dropout differs
    assert [e.values["tokens"] for e in large if isinstance(e, Metric) and "loss" in e.values] == [
        e.values["tokens"] for e in small if isinstance(e, Metric) and "loss" in e.values
    ]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_every_optimizer_and_schedule_trains(prepared: Path, optimizer: str, schedule: str) -> None:
    events = train(max_steps=3, optimizer=optimizer, schedule=schedule, eval_every=3)
    assert all(loss is not None for _, loss, _ in curve(events))


@pytest.mark.slow
def test_cuda_is_refused_where_there_is_none_and_auto_says_cpu(prepared: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="cuda"):
        train(device="cuda")
    assert any(
        isinstance(e, Warned) and "CPU" in e.message for e in train(device="auto", max_steps=1)
    )


@pytest.mark.parametrize("section", ["train", "inference", "serve", "bench"])
@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps", "cuda:0", "cuda:13"])
def test_every_stage_with_a_device_takes_the_same_names(
    workspace: Path, section: str, device: str
) -> None:
    config = settings(**{section: {"device": device}})
    assert getattr(config, section).device == device
    for wrong in ("gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", ""):
        with pytest.raises(UsageError, match="auto, cpu, cuda, cuda:N, mps"):
            settings(**{section: {"device": wrong}})


def test_a_gpu_that_is_not_there_is_refused_by_its_name(prepared: Path) -> None:
    if torch.cuda.device_count() > 13:
        pytest.skip("this machine has it")
    with pytest.raises(UsageError, match="The device cuda:13 is not there") as error:
        train(device="cuda:13")
    assert error.value.found.startswith("cpu")
    assert not Path("checkpoints").exists()


@pytest.mark.slow
def test_a_model_that_only_we_compute_is_told_before_it_is_trained(prepared: Path) -> None:
    learned = {"position": "learned", "norm": "layernorm", "mlp": "gelu"}
    said: list[str] = []
    for model in (learned | {"qk_norm": True}, learned):
        events = run_stage("train", train=TRAIN | {"max_steps": 1}, model=MODEL | model)
        said += [e.message for e in events if isinstance(e, Warned) and "export" in e.message]
    assert len(said) == 1
    assert "qk_norm with position learned" in said[0]


def test_missing_tokens_name_the_next_command(workspace: Path) -> None:
    with pytest.raises(UsageError) as error:
        run_stage("train")
    assert "main.py prepare" in str(error.value)
    assert not (workspace / "checkpoints").exists()


@pytest.mark.slow
def test_a_vocabulary_too_small_and_a_window_too_long_are_refused(prepared: Path) -> None:
    with pytest.raises(RefusedError, match="vocab_size 20"):
        run_stage("train", train=TRAIN, model=MODEL | {"vocab_size": 20})
    short = MODEL | {"max_position_embeddings": 8}
    with pytest.raises(UsageError, match="does not fit"):
        run_stage("train", train=TRAIN | {"window": 16}, model=short)
    events = run_stage("train", train=TRAIN | {"max_steps": 1}, model=short)
    said = [event.message for event in events if isinstance(event, Warned)]
    assert any("context is 8 tokens: the window is that" in message for message in said)


@pytest.mark.slow
def test_checkpoints_open_in_transformers(prepared: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from model.checkpoint import load_weights

    checkpoint = runs.pointed(run_folder(train(name="hf")), "latest")
    assert checkpoint is not None
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint)
    ids = torch.tensor([AutoTokenizer.from_pretrained(checkpoint)("the old fox").input_ids])
    ours = load_weights(checkpoint)(ids)["logits"]
    torch.testing.assert_close(ours, theirs(ids).logits, atol=1e-4, rtol=0)


def test_a_run_that_ended_before_its_first_checkpoint_is_named(prepared: Path) -> None:
    runs.new_run(Path("checkpoints"), "early", 0.0)
    with pytest.raises(UsageError, match="has no checkpoint to go on from"):
        run_stage("train", train={"resume": "auto", "name": "early"})


@pytest.mark.slow
def test_a_run_without_its_settings_names_what_still_works(prepared: Path) -> None:
    run = run_folder(train(name="bare"))
    (run / "run.json").write_bytes(b"{\xff")
    with pytest.raises(RefusedError, match="cannot be read") as error:
        run_stage("train", train={"resume": "auto", "name": "bare"})
    assert f"inference --checkpoint {run}" in error.value.remedy
