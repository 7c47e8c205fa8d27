"""Checkpoints: exact, whole or absent, and never silently wrong."""

import json
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoint import load_config, load_training_state, load_weights, save_checkpoint
from model.config import ModelConfig
from model.gpt import GPT
from model.huggingface.config import config_to_hf
from model.huggingface.weights import state_to_hf
from utils.artefacts import Source, read_manifest
from utils.errors import RefusedError
from utils.files import DiskFullError
from utils.verification import verify

STATE = {"step": 3, "loss": 0.1 + 0.2, "best": None, "position": 2**60 + 1}


def small(**changes: Any) -> GPT:
    torch.manual_seed(1)
    sizes: dict[str, Any] = {
        "vocab_size": 31,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "num_kv_heads": 1,
        "max_position_embeddings": 16,
    }
    return GPT(ModelConfig(**(sizes | changes))).eval()


def save(folder: Path, model: GPT, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "tokenizer_files": {"tokenizer.json": b'{"x": 1}'},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "optimizer_state": {"exp_avg:a": torch.randn(3), "step:a": torch.tensor(3.0)},
        "state": STATE,
        "command": "train",
        "options": {"max_steps": 3},
    }
    save_checkpoint(folder, model, **(settings | changes))
    return folder


def same_weights(a: GPT, b: GPT) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    "changes",
    [{}, {"tie_word_embeddings": False}, {"mlp": "relu2", "zero_init": True, "norm_gain": False}],
)
def test_what_was_saved_comes_back_exactly(changes: dict[str, Any], tmp_path: Path) -> None:
    model = small(**changes)
    optimizer = {"exp_avg:a": torch.randn(4, 2), "step:a": torch.tensor(3.0)}
    folder = save(tmp_path / "checkpoint", model, optimizer_state=optimizer)
    assert same_weights(load_weights(folder), model)
    assert load_config(folder) == model.config
    tensors, state = load_training_state(folder)
    assert state == STATE
    assert all(torch.equal(tensors[name], value) for name, value in optimizer.items())
    assert (folder / "tokenizer.json").read_bytes() == b'{"x": 1}'
    expected = {"config.json", "state.json", "tokenizer.json", "model.safetensors"}
    expected |= {"optimizer.safetensors", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == expected


def test_the_lineage_is_in_the_manifest(tmp_path: Path) -> None:
    inputs = [Source("data/tokens", "abc")]
    manifest = read_manifest(save(tmp_path / "checkpoint", small(), inputs=inputs))
    assert manifest is not None
    assert manifest.inputs == inputs
    assert (manifest.made_by.command, manifest.made_by.options) == ("train", {"max_steps": 3})


def test_a_tied_tensor_is_stored_once_and_really_shared(tmp_path: Path) -> None:
    model = load_weights(save(tmp_path / "checkpoint", small()))
    assert model.head_weight is model.embedding.weight
    assert "lm_head.weight" not in state_to_hf(model)


@pytest.mark.parametrize(
    "name",
    ["config.json", "state.json", "tokenizer.json", "model.safetensors", "optimizer.safetensors"],
)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_single_flipped_bit_is_caught(name: str, place: float, tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoint", small())
    data = bytearray((folder / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(RefusedError, match=name):
        verify(folder)
    if name in ("config.json", "model.safetensors"):
        with pytest.raises(RefusedError, match=f"{name} is damaged"):
            load_weights(folder)
    if name in ("state.json", "optimizer.safetensors"):
        with pytest.raises(RefusedError, match=f"{name} is damaged"):
            load_training_state(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_or_cut_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoint", small())
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    with pytest.raises(RefusedError, match=name):
        load_weights(folder)
    (folder / name).unlink()
    with pytest.raises(RefusedError, match=name):
        load_weights(folder)


def test_a_full_disk_is_found_before_writing_and_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small()
    folder = save(tmp_path / "checkpoint", model)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match="are needed"):
        save(folder, small(initializer_range=0.5))
    monkeypatch.undo()
    assert same_weights(load_weights(folder), model)


def test_a_save_that_dies_halfway_leaves_the_old_checkpoint_and_the_next_one_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = small(), small(initializer_range=0.5)
    folder = save(tmp_path / "checkpoint", old)
    with pytest.raises(AttributeError):
        save(folder, new, optimizer_state={"not a tensor": None})
    assert same_weights(load_weights(folder), old)
    save(folder, new, optimizer_state=None)
    assert same_weights(load_weights(folder), new)
    assert not (folder / "optimizer.safetensors").exists()
    verify(folder)


def test_a_score_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path / "checkpoint", small(), state={"best": math.nan})
    assert not (tmp_path / "checkpoint").exists()


def test_weights_alone_cannot_be_resumed(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoint", small(), optimizer_state=None)
    with pytest.raises(RefusedError, match=r"no optimizer\.safetensors"):
        load_training_state(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(RefusedError, match="no training state"):
        load_training_state(folder)
    load_weights(folder)


def test_sharded_weights_are_read(tmp_path: Path) -> None:
    model = small()
    tensors = state_to_hf(model)
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        save_file({name: tensors[name] for name in members}, tmp_path / shard)
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(model.config)))
    assert same_weights(load_weights(tmp_path), model)
    index.write_text(json.dumps({"weight_map": {"x": "../b.safetensors"}}))
    with pytest.raises(RefusedError, match="outside"):
        load_weights(tmp_path)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("key", ["model", "model_state_dict", None])
def test_old_pt_files_are_read(prefix: str, key: str | None, tmp_path: Path) -> None:
    model = small()
    tensors = {prefix + name: value for name, value in model.state_dict().items()}
    described = model.config.model_dump(mode="json")
    path = tmp_path / "checkpoint_step_500.pt"
    if key is None:
        torch.save(tensors, path)
        (tmp_path / "config.json").write_text(json.dumps({"model": described}))
    else:
        torch.save({key: tensors, "config": {"model": described}, "step": 500}, path)
    assert same_weights(load_weights(path), model)


def test_a_pt_file_without_a_description_says_what_is_missing(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "a.pt")
    with pytest.raises(RefusedError, match="does not say what model"):
        load_weights(tmp_path / "a.pt")


class Bomb:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(workspace: Path) -> None:
    torch.save({"model": Bomb()}, workspace / "a.pt")
    with pytest.raises(RefusedError, match="plain tensors") as refused:
        load_weights(workspace / "a.pt")
    assert not (workspace / "exploded").exists()
    assert "it wants to call" in refused.value.found
    assert "weights_only" not in str(refused.value) + refused.value.found


def test_a_plain_pickle_is_refused_in_one_line(workspace: Path, recwarn: Any) -> None:
    (workspace / "a.pt").write_bytes(pickle.dumps({"model": Bomb()}))
    with pytest.raises(RefusedError, match="plain tensors") as refused:
        load_weights(workspace / "a.pt")
    assert refused.value.found == "a pickle of something else than tensors"
    assert not recwarn.list
    assert not (workspace / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("model.norm.weight"), r"missing: model\.norm\.weight"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda t: t.update({"model.norm.weight": torch.ones(8)}), r"norm\.weight has another"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: Any, named: str, tmp_path: Path
) -> None:
    model = small()
    tensors = state_to_hf(model)
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(model.config)))
    with pytest.raises(RefusedError, match=named):
        load_weights(tmp_path)


def test_an_empty_folder_and_a_missing_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"config\.json"):
        load_weights(tmp_path)
    with pytest.raises(RefusedError, match="does not exist"):
        load_weights(tmp_path / "nothing")


def test_weights_can_be_read_in_another_precision(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoint", small())
    model = load_weights(folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.rotary is not None
    assert model.rotary.cos.dtype == torch.float32
    assert load_weights(folder).dtype == torch.float32
