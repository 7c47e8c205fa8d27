"""Our models are Hugging Face models: same weights, same logits, both ways."""

import json
import struct
from pathlib import Path

import pytest
import torch
from transformers import (
    ApertusConfig,
    ArceeConfig,
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    Qwen3Config,
)

from model.checkpoint import load_weights, save_checkpoint
from model.config import ModelConfig
from model.generation.sampling import SamplingSettings
from model.gpt import GPT
from model.huggingface import families
from model.huggingface.config import config_from_hf, config_to_hf
from model.huggingface.families import architecture
from model.huggingface.llama import Llama
from model.huggingface.weights import state_from_hf, state_to_hf
from model.language_model import generate
from utils.errors import RefusedError, UsageError

LLAMA = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
THEIRS = {
    "llama grouped untied": LlamaConfig(**LLAMA),
    "llama tied": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "llama biases": LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True),
    "llama wide heads": LlamaConfig(**LLAMA, head_dim=16),
    "llama gelu": LlamaConfig(**LLAMA, hidden_act="gelu_pytorch_tanh"),
    "llama linear rope": LlamaConfig(
        **LLAMA, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    ),
    "llama llama3 rope": LlamaConfig(**LLAMA, rope_parameters=LLAMA3_ROPE),
    "qwen3": Qwen3Config(**LLAMA, head_dim=16),
    "arcee": ArceeConfig(**LLAMA, head_dim=16),
    "arcee biases gelu": ArceeConfig(
        **LLAMA, attention_bias=True, mlp_bias=True, hidden_act="gelu_pytorch_tanh"
    ),
    "apertus": ApertusConfig(**LLAMA, head_dim=16, hidden_act="relu2"),
    "gpt2": GPT2Config(
        vocab_size=97,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    ),
}
OURS = {
    "llama": {"num_kv_heads": 1},
    "llama without gains": {"num_kv_heads": 1, "norm_gain": False, "tie_word_embeddings": False},
    "llama reglu": {"mlp": "reglu", "bias": True},
    "llama llama3 rope": {
        "rope_scaling": {
            "kind": "llama3",
            "factor": 8.0,
            "original_max_position_embeddings": 8,
        }
    },
    "llama linear rope": {"rope_scaling": {"kind": "linear", "factor": 3.0}},
    "qwen3": {"qk_norm": True, "head_dim": 12},
    "qwen3 without gains": {"qk_norm": True, "norm_gain": False},
    "arcee": {"mlp": "relu2", "bias": True, "num_kv_heads": 2},
    "arcee gelu": {"mlp": "gelu"},
    "apertus": {"mlp": "relu2", "qk_norm": True, "num_kv_heads": 2, "head_dim": 12},
    "apertus gelu": {"mlp": "gelu", "qk_norm": True, "norm_gain": False},
    "gpt2": {"position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True},
    "gpt2 squared relu": {"position": "learned", "norm": "layernorm", "mlp": "relu2"},
    "gpt2 without biases": {"position": "learned", "norm": "layernorm", "mlp": "gelu"},
    "gpt2 untied": {
        "position": "learned",
        "norm": "layernorm",
        "mlp": "gelu",
        "bias": True,
        "tie_word_embeddings": False,
    },
}
SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}


def scramble(model: torch.nn.Module) -> None:
    """Give every parameter, gains and biases too, a value that matters."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def assert_same_logits(theirs: PreTrainedModel, ours: GPT) -> None:
    ids = torch.randint(97, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = theirs.eval()(ids).logits, ours.eval()(ids)["logits"]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", THEIRS)
def test_their_model_opens_here_with_their_logits(name: str, tmp_path: Path) -> None:
    theirs = AutoModelForCausalLM.from_config(THEIRS[name])
    scramble(theirs)
    theirs.save_pretrained(tmp_path)
    ours = load_weights(tmp_path)
    assert_same_logits(theirs, ours)
    back = state_to_hf(ours)
    expected = theirs.state_dict()
    if theirs.config.tie_word_embeddings:
        del expected["lm_head.weight"]
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], expected[key]) for key in back)


@pytest.mark.parametrize("name", OURS)
def test_our_checkpoint_opens_there_with_our_logits(name: str, tmp_path: Path) -> None:
    ours = GPT(ModelConfig.model_validate_json(json.dumps(SMALL | OURS[name])))
    scramble(ours)
    folder = tmp_path / "checkpoint"
    save_checkpoint(
        folder,
        ours,
        tokenizer_files={},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        optimizer_state=None,
        state={},
        command="test",
        options={},
    )
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    assert type(theirs).__name__ == architecture(ours.config)
    assert (theirs.config.bos_token_id, theirs.config.eos_token_id) == (1, 2)
    assert_same_logits(theirs, ours)
    reloaded = load_weights(folder)
    assert reloaded.config == ours.config
    assert all(torch.equal(a, reloaded.state_dict()[k]) for k, a in ours.state_dict().items())


@pytest.mark.parametrize("name", OURS)
def test_a_config_survives_their_form_without_our_block(name: str) -> None:
    config = ModelConfig.model_validate_json(json.dumps(SMALL | OURS[name]))
    theirs = config_to_hf(config, bos_token_id=1, eos_token_id=2)
    del theirs["hatchery"]
    again = config_to_hf(config_from_hf(theirs), bos_token_id=1, eos_token_id=2)
    del again["hatchery"]
    assert again == theirs


def test_switches_that_no_architecture_holds_say_so_and_come_back_here(tmp_path: Path) -> None:
    config = ModelConfig(**SMALL, mlp="relu2", zero_init=True, qk_norm=True, logit_scale=0.5)
    assert architecture(config) is None
    ours = GPT(config)
    scramble(ours)
    described = config_to_hf(config)
    assert described["architectures"] == ["HatcheryForCausalLM"]
    assert config_from_hf(described) == config
    state = state_from_hf(state_to_hf(ours), config)
    assert all(torch.equal(state[key], value) for key, value in ours.state_dict().items())


def test_weights_under_our_names_open_although_an_architecture_holds_them() -> None:
    ours = GPT(ModelConfig(**SMALL, mlp="relu2", qk_norm=True))
    assert architecture(ours.config) == "ApertusForCausalLM"
    assert state_from_hf(ours.state_dict(), ours.config).keys() == ours.state_dict().keys()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "arcee", "apertus"])
def test_absent_keys_mean_what_they_mean_in_transformers(kind: str) -> None:
    said = {"model_type": kind} | ({"hidden_act": "relu2"} if kind == "apertus" else {})
    short, long = (
        found.model_copy(update={"num_kv_heads": found.kv_heads, "head_dim": found.head_size})
        for found in map(config_from_hf, (said, AutoConfig.for_model(**said).to_dict()))
    )
    assert short == long


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mamba"}, "model_type"),
        ({"model_type": "apertus"}, "hidden_act"),
        ({"model_type": "arcee", "hidden_act": "silu"}, "hidden_act"),
        ({"hidden_act": "mish"}, "hidden_act"),
        ({"mlp_bias": True}, "attention_bias False with mlp_bias True"),
        ({"attention_bias": True}, "attention_bias True with mlp_bias False"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope_type"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_attention_heads": 5}, "num_heads"),
    ],
)
def test_a_setting_that_we_do_not_compute_is_refused_by_name(change: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        config_from_hf({"model_type": "llama"} | LLAMA | change)


def test_a_family_is_an_adapter_and_a_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    class Another(Llama):
        architecture = "AnotherForCausalLM"
        model_type = "another"
        norms = ("first", "second")

    table = (Another(), *families.FAMILIES)
    monkeypatch.setattr(families, "FAMILIES", table)
    monkeypatch.setattr("model.huggingface.config.FAMILIES", table)
    model = GPT(ModelConfig(**SMALL))
    described = config_to_hf(model.config)
    assert described["architectures"] == ["AnotherForCausalLM"]
    theirs = state_to_hf(model)
    assert "model.layers.0.first_layernorm.weight" in theirs
    assert state_from_hf(theirs, model.config).keys() == model.state_dict().keys()
    del described["hatchery"]
    again = config_from_hf(described)
    assert config_to_hf(again)["architectures"] == ["AnotherForCausalLM"]


def test_the_rope_keys_of_transformers_4_are_understood() -> None:
    old = {"model_type": "llama", **LLAMA, "rope_theta": 5e5}
    assert config_from_hf(old).rope_theta == 5e5
    scaled = config_from_hf({**old, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert scaled.rope_scaling is not None
    assert scaled.rope_scaling.factor == 2.0


def test_a_gain_that_the_config_does_without_is_not_thrown_away() -> None:
    config = ModelConfig(**SMALL)
    tensors = state_to_hf(GPT(config))
    tensors["model.norm.weight"] = torch.full((32,), 1.5)
    bare = ModelConfig(**SMALL, norm_gain=False)
    with pytest.raises(RefusedError, match=r"model\.norm\.weight"):
        state_from_hf(tensors, bare)


def test_a_second_head_in_a_tied_model_is_not_thrown_away() -> None:
    config = ModelConfig(**SMALL)
    tensors = state_to_hf(GPT(config))
    same = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    assert state_from_hf(same, config).keys() == GPT(config).state_dict().keys()
    with pytest.raises(RefusedError, match="tied"):
        state_from_hf(tensors | {"lm_head.weight": torch.zeros(97, 32)}, config)


def test_a_model_trained_elsewhere_writes_here_what_it_wrote_there(shared_data: Path) -> None:
    folder = shared_data / "tiny-llama-checkpoint"
    model = read_llama2c(folder / "aidreams260K.bin")
    expected = json.loads((folder / "expected_greedy.json").read_text())["greedy_token_ids"]
    settings = SamplingSettings(temperature=0, max_new_tokens=127)
    written = generate(model, [[1]], settings)[0]
    assert written[1:] == expected[:127]
    last = model(torch.tensor([written]))["logits"]
    assert last[0, -1].argmax().item() == expected[127]


def read_llama2c(path: Path) -> GPT:
    """A llama2.c version-0 export; its rope pairs neighbours, ours pair the two halves."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", data[:28])
    config = ModelConfig(
        vocab_size=vocab,
        hidden_size=dim,
        intermediate_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        max_position_embeddings=context,
    )
    stream = torch.frombuffer(bytearray(data[28:]), dtype=torch.float32)
    at = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal at
        size = torch.Size(shape).numel()
        at += size
        return stream[at - size : at].view(shape)

    def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
        pairs = weight.view(layers, heads, -1, 2, dim)  # (layer, head, pair, of two, channel)
        return pairs.transpose(2, 3).reshape(weight.shape)

    embedding, attention_norm = take(vocab, dim), take(layers, dim)
    q, k = take(layers, dim, dim), take(layers, kv_heads * dim // heads, dim)
    v, out = take(*k.shape), take(layers, dim, dim)
    mlp_norm, gate = take(layers, dim), take(layers, hidden, dim)
    down, up, norm = take(layers, dim, hidden), take(layers, hidden, dim), take(dim)
    q, k = halves(q, heads), halves(k, kv_heads)
    state = {"embedding.weight": embedding, "norm.weight": norm}
    for layer in range(layers):
        block = f"blocks.{layer}"
        state |= {
            f"{block}.attention_norm.weight": attention_norm[layer],
            f"{block}.attention.qkv.weight": torch.cat((q[layer], k[layer], v[layer])),
            f"{block}.attention.out.weight": out[layer],
            f"{block}.mlp_norm.weight": mlp_norm[layer],
            f"{block}.mlp.up.weight": torch.cat((gate[layer], up[layer])),
            f"{block}.mlp.down.weight": down[layer],
        }
    model = GPT(config)
    model.load_state_dict(state)
    return model.eval()
