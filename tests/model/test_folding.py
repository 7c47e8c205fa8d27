"""Folding: every model of ours becomes one that transformers computes alike, or it is refused."""

from itertools import product
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from model.config import PRESETS, ModelConfig
from model.gpt import GPT
from model.huggingface.config import config_to_hf
from model.huggingface.families import architecture, obstacles
from model.huggingface.folding import fold_into_weights, folded_config
from model.huggingface.weights import state_to_hf
from utils.errors import RefusedError

SIZES: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
SWITCHES: dict[str, tuple[Any, ...]] = {
    "qk_norm": (False, True),
    "bias": (False, True),
    "embedding_norm": (False, True),
    "logit_scale": (1.0, 0.25),
}
# How a model is folded depends on these, whether it can be does not. They take turns, five of them,
# so that each meets every switch.
DETAILS: tuple[dict[str, Any], ...] = (
    {},
    {"num_kv_heads": 2, "norm_gain": False},
    {"tie_word_embeddings": False},
    {"num_kv_heads": 1},
    {"num_kv_heads": 1, "tie_word_embeddings": False, "norm_gain": False},
)
KINDS = product(
    ("rope", "learned"), ("rmsnorm", "layernorm"), ("swiglu", "geglu", "reglu", "gelu", "relu2")
)
IDS = torch.randint(53, (2, 24), generator=torch.Generator().manual_seed(1))


def random_model(**changes: Any) -> GPT:
    """A model whose every parameter, gains and biases too, has a value that matters."""
    torch.manual_seed(5)
    model = GPT(ModelConfig(**(SIZES | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@torch.inference_mode()
def logits(model: GPT) -> torch.Tensor:
    return model(IDS)["logits"]


@torch.inference_mode()
def logits_there(model: GPT) -> torch.Tensor:
    described = config_to_hf(model.config, pad_token_id=0)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**described)).eval()
    assert type(theirs).__name__ == architecture(model.config)
    missing, unexpected = theirs.load_state_dict(state_to_hf(model), strict=False)
    assert not unexpected
    assert set(missing) <= ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
    return theirs(IDS).logits


def refused_switches(config: ModelConfig) -> set[str]:
    """What no architecture holds, however it is folded: the rule, written down once more."""
    if config.position == "rope":
        refused = {
            "norm": config.norm == "layernorm" and config.bias,
            "bias": config.qk_norm and config.bias,
        }
    else:
        refused = {
            "norm": config.norm == "rmsnorm",
            "mlp": config.mlp in ("swiglu", "geglu", "reglu"),
            "qk_norm": config.qk_norm,
            "embedding_norm": config.embedding_norm,
        }
    return {name for name, is_refused in refused.items() if is_refused}


@pytest.mark.slow
@pytest.mark.parametrize(("position", "norm", "mlp"), KINDS)
def test_every_combination_of_switches_agrees_with_transformers_or_is_refused_by_name(
    position: str, norm: str, mlp: str
) -> None:
    for number, values in enumerate(product(*SWITCHES.values())):
        switches = dict(zip(SWITCHES, values, strict=True)) | DETAILS[number % len(DETAILS)]
        model = random_model(position=position, norm=norm, mlp=mlp, **switches)
        refused = refused_switches(model.config)
        if refused:
            with pytest.raises(RefusedError) as error:
                fold_into_weights(model)
            named = error.value.found.removesuffix(", in its model section").split("; ")
            assert {name.split()[0] for name in named} == refused
            continue
        twin = fold_into_weights(model)
        assert (twin is model) == (not obstacles(model.config))
        expected = logits(model)
        assert expected.std() > 0.1
        torch.testing.assert_close(logits(twin), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(logits_there(twin), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_agrees_with_transformers(preset: str) -> None:
    assert architecture(folded_config(ModelConfig.model_validate({"preset": preset})))
    small = random_model(preset=preset)
    expected = logits(small)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits_there(fold_into_weights(small)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_heads": 5, "head_dim": 8}, "num_heads 5 with hidden_size 24"),
        (
            {"position": "learned", "norm": "layernorm", "mlp": "gelu", "head_dim": 8},
            "head_dim 8 with position learned",
        ),
    ],
)
def test_sizes_that_no_architecture_has_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedError) as error:
        folded_config(ModelConfig(**(SIZES | changes)))
    assert named in error.value.found


def test_odd_sizes_and_stretched_positions_agree_where_queries_are_normalised() -> None:
    stretched = {"kind": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}
    for mlp in ("swiglu", "relu2"):
        model = random_model(
            mlp=mlp, qk_norm=True, num_heads=5, num_kv_heads=1, head_dim=8, rope_scaling=stretched,
            rope_theta=500.0, embedding_norm=True,
        )  # fmt: skip
        torch.testing.assert_close(
            logits_there(fold_into_weights(model)), logits(model), atol=1e-4, rtol=0
        )


def test_narrow_weights_are_folded_in_float32() -> None:
    model = random_model(preset="sprint", logit_scale=0.3).to(torch.bfloat16)
    twin = fold_into_weights(model)
    assert {parameter.dtype for parameter in twin.parameters()} == {torch.float32}
    wide = random_model(preset="sprint", logit_scale=0.3).to(torch.bfloat16).float()
    torch.testing.assert_close(logits(twin), logits(wide), atol=1e-4, rtol=0)


def test_the_model_that_is_folded_stays_as_it_was() -> None:
    model = random_model(norm="layernorm", embedding_norm=True, logit_scale=0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin = fold_into_weights(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    kept = "blocks.1.attention.qkv.weight"
    assert twin.state_dict()[kept].data_ptr() == model.state_dict()[kept].data_ptr()
