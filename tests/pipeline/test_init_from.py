"""Beginning with the weights of others: from folders, runs, files and a hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

from app.commands.parser import parse_stage
from model.checkpoint import load_weights
from model.config import PRESETS
from pipeline.dataloader import train_val_loaders
from pipeline.events import Event, Metric, Warned
from pipeline.options.config import NOTHING_TYPED
from pipeline.planning.inputs import read_inputs
from pipeline.runs import folders, inventory
from pipeline.runs.pretrained import hub_id, missing_model
from pipeline.runs.record import read_record
from pipeline.tokenizer.load import load_tokenizer
from pipeline.train.setup import open_inputs
from tests.support.servers.hub import COMMIT, Hub, serving
from tests.support.small_tokenizers import PROSE, train
from tests.support.stage_runner import finished, run_stage, settings, typed_settings
from tests.support.tiny_checkpoints import lively_model, save_step
from utils.artefacts import read_manifest
from utils.errors import NetworkError, RefusedError, UsageError

TRAIN: dict[str, Any] = {
    "max_steps": 2,
    "batch_size": 2,
    "log_every": 1,
    "eval_every": 100,
    "eval_batches": 1,
    "sample_every": 100,
    "warmup_steps": 0,
    "tensorboard": False,
    "device": "cpu",
    "precision": "fp32",
    "learning_rate": 1e-3,
}


def gpt2_folder(folder: Path, *, positions: int = 64, dropout: float = 0.0) -> Path:
    """A GPT-2 as its own library saves it, with random weights and a byte-level tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = train("bpe", PROSE, folder.parent / "prose")
    folder.mkdir(parents=True)
    for name, data in tokenizer.files().items():
        (folder / name).write_bytes(data)
    torch.manual_seed(5)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size + 5,
        n_positions=positions,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=1,
        eos_token_id=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        initializer_range=0.2,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def gpt2(prepared: Path) -> Path:
    """A GPT-2 folder, and the workspace's text prepared with its tokenizer."""
    folder = gpt2_folder(prepared / "small-gpt2")
    prepare(folder)
    return folder


def prepare(folder: Path) -> None:
    asked = {"source": "files", "tokenizer": str(folder), "window": 32, "workers": 1}
    run_stage("prepare", prepare=asked)


def begin(folder: object, model: dict[str, Any] | None = None, **changes: Any) -> list[Event]:
    asked = TRAIN | {"init_from": str(folder)} | changes
    return run_stage("train", train=asked, model=model or {})


def run_of(events: list[Event]) -> Path:
    path = finished(events).path
    assert path is not None
    return Path(path)


def losses(events: list[Event]) -> list[float | None]:
    return [e.values["loss"] for e in events if isinstance(e, Metric) and "loss" in e.values]


@pytest.mark.slow
def test_the_first_loss_is_that_of_transformers_and_the_end_opens_there_again(gpt2: Path) -> None:
    from transformers import AutoModelForCausalLM

    events = begin(gpt2, optimizer="adamw")
    run = run_of(events)
    config = settings(train=TRAIN | {"init_from": str(gpt2)})
    model, data, _ = open_inputs(config, config.train, NOTHING_TYPED)
    assert model.max_position_embeddings == 64
    batches, _, _ = train_val_loaders(data, 2, verbose=False, seed=42)
    ids, labels = batches.batch(0)
    theirs = AutoModelForCausalLM.from_pretrained(gpt2).eval()
    # Their loss shifts the labels by one itself; ours are shifted already.
    logits = theirs(ids).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).item()
    assert losses(events)[0] == pytest.approx(expected, abs=2e-4)
    ours = load_weights(folders.step_folder(run, 2))
    again = AutoModelForCausalLM.from_pretrained(folders.step_folder(run, 2)).eval()
    torch.testing.assert_close(again(ids).logits, ours(ids)["logits"], atol=1e-4, rtol=1e-4)
    assert (again(ids).logits - logits).abs().max() > 1e-3


@pytest.mark.slow
def test_where_the_weights_came_from_is_recorded_and_the_run_resumes(gpt2: Path) -> None:
    whole = begin(gpt2, max_steps=4, name="whole")
    cut = run_stage(
        "train",
        stop_when=lambda e: isinstance(e, Metric) and e.step == 2 and "loss" in e.values,
        train=TRAIN | {"init_from": str(gpt2), "max_steps": 4, "name": "cut"},
    )
    (gpt2 / "model.safetensors").unlink()  # a run that goes on needs them no more
    rest = run_stage("train", train={"resume": "auto", "name": "cut"})
    assert losses(cut) + losses(rest) == losses(whole)
    record = read_record(run_of(rest))
    assert record.initial is not None
    assert record.initial.path == str(gpt2)
    assert record.options["init_from"] == str(gpt2)
    manifest = read_manifest(folders.step_folder(run_of(rest), 4))
    assert manifest is not None
    assert record.initial in manifest.inputs
    with pytest.raises(UsageError, match="cannot change --init-from"):
        run_stage("train", train={"resume": "auto", "name": "cut", "init_from": "gpt2"})


@pytest.mark.slow
def test_a_run_of_ours_and_a_pt_file_begin_a_training_too(prepared: Path) -> None:
    tokenizer = load_tokenizer("chars", Path("tokenizers"))
    model = lively_model(vocab_size=tokenizer.vocab_size, initializer_range=0.2)
    save_step(Path("checkpoints/run_2026_01_01_10_00_old"), 7, model, tokenizer)
    torch.save({"model": model.state_dict(), "config": model.config.model_dump()}, "old.pt")
    first = begin("old", window=16)
    assert losses(first) == losses(begin("old.pt", window=16))
    shape = read_record(run_of(first)).model
    assert (shape["hidden_size"], shape["max_position_embeddings"]) == (32, 64)


@pytest.mark.slow
def test_half_precision_weights_are_trained_in_float32(prepared: Path) -> None:
    tokenizer = load_tokenizer("chars", Path("tokenizers"))
    model = lively_model(vocab_size=tokenizer.vocab_size).to(torch.bfloat16)
    folder = save_step(Path("checkpoints/run_2026_01_01_10_00_half"), 7, model, tokenizer)
    run = run_of(begin(folder))
    assert load_weights(folders.step_folder(run, 2)).dtype == torch.float32


@pytest.mark.slow
def test_dropout_is_ours_to_choose_and_shapes_are_not(prepared: Path) -> None:
    folder = gpt2_folder(prepared / "dropping", dropout=0.1)
    prepare(folder)
    assert read_record(run_of(begin(folder))).model["dropout"] == 0.1
    assert read_record(run_of(begin(folder, {"dropout": 0.0}))).model["dropout"] == 0.0
    begin(folder, {"hidden_size": 32, "bias": True, "num_kv_heads": 2})
    for typed, said in (
        ({"hidden_size": 64}, "hidden_size 64, where the weights have 32"),
        ({"preset": "gpt2"}, "where the weights have"),
        ({"norm": "rmsnorm"}, "norm rmsnorm, where the weights have layernorm"),
    ):
        with pytest.raises(UsageError, match="contradicts the weights") as error:
            begin(folder, typed)
        assert said in error.value.found


@pytest.mark.slow
def test_settings_of_a_file_give_way_to_the_weights(gpt2: Path) -> None:
    file = {"dataset": {"source": "files"}, "model": {"preset": "mini"}}
    Path("config.json").write_text(json.dumps(file))
    assert read_record(run_of(begin(gpt2))).model["hidden_size"] == 32


@pytest.mark.slow
def test_tokens_of_another_tokenizer_are_refused_with_the_command_that_mends_it(
    prepared: Path,
) -> None:
    folder = gpt2_folder(prepared / "small-gpt2")
    with pytest.raises(RefusedError, match="another tokenizer") as error:
        begin(folder)
    assert not list(Path("checkpoints").glob("run_*"))
    words = error.value.remedy.split()
    assert words[:3] == ["python", "main.py", "prepare"]
    asked = dict(zip(words[3::2], words[4::2], strict=True))
    assert asked == {"--source": "files", "--tokenizer": str(folder)}
    prepare(Path(asked["--tokenizer"]))
    assert losses(begin(folder))


@pytest.mark.slow
def test_windows_longer_than_the_context_are_refused_with_the_one_that_fits(prepared: Path) -> None:
    folder = gpt2_folder(prepared / "short", positions=16)
    prepare(folder)
    with pytest.raises(UsageError, match="Windows of 32 tokens do not fit") as error:
        begin(folder, window=32)
    assert "--window 16" in error.value.remedy
    [command] = error.value.commands
    assert parse_stage(command).config.train.window == 16
    assert losses(begin(folder, window=16))


@pytest.mark.slow
def test_windows_prepared_longer_than_the_context_become_that(prepared: Path) -> None:
    folder = gpt2_folder(prepared / "short", positions=16)
    prepare(folder)
    events = begin(folder)
    assert losses(events)
    said = [event.message for event in events if isinstance(event, Warned)]
    assert any("context is 16 tokens: the window is that" in message for message in said)


@pytest.mark.slow
def test_a_plan_sees_the_weights_own_size(gpt2: Path) -> None:
    assert read_inputs(*typed_settings(train={"init_from": str(gpt2)})).model.hidden_size == 32
    run = run_of(begin(gpt2))
    assert (
        read_inputs(*typed_settings(train={"resume": str(run), "max_steps": 9})).model.num_layers
        == 2
    )


# A hub on this machine.


@pytest.fixture
def hub(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Knows someone/mine, gpt2 and someone/pickled."""
    files = {path.name: path.read_bytes() for path in gpt2.iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "modeling_evil.py": b"raise SystemExit"}
    pickled = {"config.json": files["config.json"], "pytorch_model.bin": b"pickle"}
    repositories = {
        "someone/mine": files,
        "openai-community/gpt2": files,
        "someone/pickled": pickled,
    }
    with serving(repositories) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(gpt2.parent / "cache"))
        yield server


@pytest.mark.slow
def test_a_model_of_the_hub_is_fetched_once_without_pickles_or_code(hub: Hub) -> None:
    assert missing_model("someone/mine") == "someone/mine"
    found = inventory.resolve("someone/mine", Path("checkpoints"))
    assert found.name == "someone/mine"
    assert found.path.name == COMMIT
    assert missing_model("someone/mine") is None
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    hub.asked.clear()
    events = begin("someone/mine")
    assert hub.asked == []
    record = read_record(run_of(events))
    assert record.initial is not None
    assert record.initial.path == "https://huggingface.co/someone/mine"
    assert record.initial.fingerprint == COMMIT


def test_a_name_and_a_pinned_revision_work_wherever_a_checkpoint_does(hub: Hub, gpt2: Path) -> None:
    asked = {"prompt": "It's", "max_length": 8, "temperature": 0.0, "device": "cpu"}
    end = finished(run_stage("inference", inference=asked | {"checkpoint": ["gpt2"]}))
    own = finished(run_stage("inference", inference=asked | {"checkpoint": [str(gpt2)]}))
    assert end.summary["texts"][0]["token_ids"] == own.summary["texts"][0]["token_ids"]
    pinned = f"someone/mine@{COMMIT}"
    inventory.resolve(pinned, Path("checkpoints"))
    assert any(path.endswith(f"/revision/{COMMIT}") for path in hub.asked)
    hub.asked.clear()
    assert inventory.resolve(pinned, Path("checkpoints")).path.name == COMMIT
    assert hub.asked == []


def test_a_plan_downloads_nothing(hub: Hub) -> None:
    planned = read_inputs(*typed_settings(train={"init_from": "gpt2"}, model={})).model
    assert planned.hidden_size == PRESETS["gpt2"]["hidden_size"]
    with pytest.raises(UsageError, match="not on this machine yet"):
        read_inputs(*typed_settings(train={"init_from": "someone/mine"}))
    assert not [path for path in hub.asked if "/resolve/" in path]


def test_a_hub_without_safe_weights_or_answer_is_one_paragraph(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="opened safely") as pickled:
        inventory.resolve("someone/pickled", Path("checkpoints"))
    assert "pytorch_model.bin" in pickled.value.found
    with pytest.raises(NetworkError, match="could not be fetched"):
        inventory.resolve("nobody/nothing", Path("checkpoints"))
    inventory.resolve("someone/mine", Path("checkpoints"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="give a folder"):
        inventory.resolve("gpt2", Path("checkpoints"))
    assert inventory.resolve("someone/mine", Path("checkpoints")).path.name == COMMIT


def test_paths_and_runs_are_no_names_of_a_hub(workspace: Path) -> None:
    Path("checkpoints").mkdir()
    assert hub_id("checkpoints/run_1") is None
    assert hub_id("./someone/mine") is None
    assert hub_id("/a/b") is None
    assert hub_id("first") is None
    assert hub_id("someone/mine@v1.0") == "someone/mine@v1.0"
    assert hub_id("gpt2-xl@main") == "openai-community/gpt2-xl@main"
    with pytest.raises(UsageError, match="no checkpoint or run"):
        inventory.resolve("checkpoints/run_1", Path("checkpoints"))
