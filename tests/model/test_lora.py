"""Adapters: what learns, what is merged, and the files that PEFT reads."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from model.checkpoint import load_adapted, load_training_state, load_weights
from model.gpt import GPT
from model.huggingface.peft import load_adapters, read_settings
from model.lora import LoraSettings, adapters, add_adapters, merged_state
from model.optimizer import build_optimizer, load_optimizer_state, optimizer_state
from tests.model.test_checkpoint import save
from tests.model.test_model import KINDS, ids, small
from utils.errors import RefusedError

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "biases": {"bias": True},
    "qwen3": {"qk_norm": True},
    "arcee": {"mlp": "relu2"},
    "apertus": {"mlp": "relu2", "qk_norm": True},
    "gpt2": KINDS["gpt2"],
}
SETTINGS = LoraSettings(rank=3, alpha=12, base="checkpoints/run_x/checkpoint_best")


def adapted(settings: LoraSettings = SETTINGS, *, trained: bool = True, **changes: Any) -> GPT:
    """A small model with adapters; `trained` ones are not the identity."""
    torch.manual_seed(0)
    model = GPT(small(**changes)).eval()
    add_adapters(model, settings, seed=7)
    if trained:
        with torch.no_grad():
            for layer in adapters(model).values():
                layer.lora_b.normal_(std=0.2)
    return model


def save_base(tmp_path: Path, model: GPT) -> Path:
    """A checkpoint of the frozen weights of an adapted model."""
    base = GPT(model.config)
    state = model.state_dict()
    base.load_state_dict({name: tensor for name, tensor in state.items() if "lora" not in name})
    return save(tmp_path / "base", base)


def logits(model: Any, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found = model(inputs)["logits"]
    assert isinstance(found, Tensor)
    return found


def train_once(model: GPT, optimizer: Any, number: int) -> float:
    inputs = (ids(2, 12) + number) % 61
    loss = model.loss(inputs, inputs.roll(1, dims=1))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing_and_only_adapters_learn(kind: str) -> None:
    torch.manual_seed(0)
    plain = GPT(small(**KINDS[kind])).eval()
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    expected = logits(plain, ids(2, 9))
    add_adapters(plain, SETTINGS, seed=7)
    assert torch.equal(logits(plain, ids(2, 9)), expected)
    linear = [n for n, m in plain.blocks.named_modules() if isinstance(m, nn.Linear)]
    assert [name.removeprefix("blocks.") for name in adapters(plain)] == linear
    assert len(linear) == 4 * len(plain.blocks)
    learning = {name for name, p in plain.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.lora_{x}" for name in adapters(plain) for x in "ab"}
    optimizer = build_optimizer(plain, kind="adamw", learning_rate=0.05)
    losses = [train_once(plain, optimizer, 0) for _ in range(6)]
    assert losses[-1] < losses[0]
    after = plain.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_computes_the_same(kind: str) -> None:
    model = adapted(**KINDS[kind])
    merged = GPT(model.config).eval()
    merged.load_state_dict(merged_state(model))
    found = logits(merged, ids(2, 20))
    torch.testing.assert_close(found, logits(model, ids(2, 20)), atol=1e-5, rtol=0)
    plain = adapted(trained=False, **KINDS[kind])
    assert (found - logits(plain, ids(2, 20))).abs().max() > 0.1


def test_merging_a_plain_model_gives_its_own_tensors() -> None:
    model = GPT(small())
    assert all(
        p.data_ptr() == merged_state(model)[n].data_ptr() for n, p in model.named_parameters()
    )


def test_dropout_is_of_the_adapter_alone_and_of_training_alone() -> None:
    model = adapted(LoraSettings(rank=3, alpha=12, dropout=0.5))
    expected = logits(model, ids(2, 9))
    assert torch.equal(logits(model, ids(2, 9)), expected)
    model.train()
    assert not torch.equal(logits(model, ids(2, 9)), expected)
    fresh = adapted(LoraSettings(rank=3, alpha=12, dropout=0.5), trained=False)
    assert torch.equal(logits(fresh.train(), ids(2, 9)), logits(fresh.eval(), ids(2, 9)))


def test_the_seed_draws_the_adapters() -> None:
    def drawn(seed: int) -> list[Tensor]:
        model = GPT(small())
        add_adapters(model, SETTINGS, seed=seed)
        return [layer.lora_a for layer in adapters(model).values()]

    assert all(map(torch.equal, drawn(1), drawn(1)))
    assert not any(map(torch.equal, drawn(1), drawn(2)))
    limits = [a.abs().max().item() * a.shape[1] ** 0.5 for a in drawn(1)]
    assert all(0.8 < limit <= 1 for limit in limits)


@pytest.mark.parametrize("kind", FAMILIES)
def test_peft_files_hold_what_the_model_computes(kind: str, tmp_path: Path) -> None:
    """Checked by the arithmetic of PEFT on transformers' own base model."""
    model = adapted(**FAMILIES[kind])
    base = save_base(tmp_path, model)
    folder = save(tmp_path / "tuned", model)
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["task_type"], config["bias"]) == (
        "LORA",
        "CAUSAL_LM",
        "none",
    )
    assert config["base_model_name_or_path"] == SETTINGS.base
    theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    tensors = load_file(folder / "adapter" / "adapter_model.safetensors")
    targeted = {
        name
        for name, _ in theirs.named_modules()
        if name.rpartition(".")[2] in config["target_modules"]
    }
    endings = (".lora_A.weight", ".lora_B.weight")
    expected = {f"base_model.model.{name}{end}" for name in targeted for end in endings}
    assert tensors.keys() == expected
    for name in targeted:
        a, b = (tensors[f"base_model.model.{name}{end}"] for end in endings)
        assert a.shape[0] == b.shape[1] == config["r"] == 3
        product = config["lora_alpha"] / config["r"] * (b @ a)
        with torch.no_grad():
            theirs.get_submodule(name).weight += product.T if config["fan_in_fan_out"] else product
    found = logits(theirs, ids(2, 20))
    torch.testing.assert_close(found, logits(model, ids(2, 20)), atol=1e-5, rtol=0)
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(merged, ids(2, 20)), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_run_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    model = adapted(trained=False, **KINDS[kind])
    base = save_base(tmp_path, model)
    optimizer = build_optimizer(model, kind="adamw", learning_rate=0.01)
    for number in range(3):
        train_once(model, optimizer, number)
    folder = save(tmp_path / "step", model, optimizer_state=optimizer_state(optimizer, model))
    undisturbed = [train_once(model, optimizer, number) for number in range(3, 6)]
    again = load_weights(base)
    load_adapted(folder, again)
    optimizer = build_optimizer(again, kind="adamw", learning_rate=0.01)
    load_optimizer_state(optimizer, again, load_training_state(folder)[0])
    assert [train_once(again, optimizer, number) for number in range(3, 6)] == undisturbed
    loaded = load_weights(folder)
    assert not adapters(loaded)
    assert loaded.state_dict().keys() == GPT(model.config).state_dict().keys()


def test_settings_come_back(tmp_path: Path) -> None:
    settings = LoraSettings(rank=5, alpha=10.0, dropout=0.25, base="checkpoints/x")
    folder = save(tmp_path / "step", adapted(settings))
    assert read_settings(folder / "adapter") == settings


def test_a_plain_checkpoint_has_no_adapter_to_go_on_with(tmp_path: Path) -> None:
    folder = save(tmp_path / "step", GPT(small()))
    assert not (folder / "adapter").exists()
    with pytest.raises(RefusedError, match="not a whole checkpoint"):
        load_adapted(folder, GPT(small()))


def test_a_damaged_adapter_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "step", adapted())
    file = folder / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RefusedError, match=r"adapter_model\.safetensors"):
        load_adapted(folder, GPT(small()))


@pytest.mark.parametrize("key", ["a", "b"])
def test_an_adapter_of_another_model_is_refused_by_name(key: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "step", adapted())
    others = {"a": small(num_layers=3), "b": small(intermediate_size=64)}
    with pytest.raises(RefusedError, match=r"missing: |mlp\.\w+_proj\.lora_B"):
        load_adapted(folder, GPT(others[key]))


def test_parts_with_matrices_of_their_own_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "step", adapted()) / "adapter"
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight"] += 1
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(RefusedError, match="k_proj"):
        load_adapters(folder, adapted())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"use_rslora": True}, "use_rslora"),
        ({"r": None}, "describe adapters"),
        ({"r": 0}, "describe adapters"),
        ({"lora_alpha": "x"}, "describe adapters"),
    ],
)
def test_adapters_that_compute_something_else_are_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = save(tmp_path / "step", adapted()) / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RefusedError, match=said):
        read_settings(file.parent)


def test_recomputed_activations_change_no_gradient_of_an_adapter() -> None:
    model, found = adapted(), []
    for recompute in (False, True):
        model.train().gradient_checkpointing = recompute
        model.zero_grad()
        model.loss(ids(2, 9), ids(2, 9)).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == 2 * len(adapters(model))
    assert all(map(torch.equal, *found))
