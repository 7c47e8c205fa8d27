"""The description of our models as a Hugging Face config.json and back. Never imports torch.

A combination of switches that no architecture of theirs holds is called `HatcheryForCausalLM`:
only we can open it.
"""

from collections.abc import Mapping
from typing import Any

from model.config import ModelConfig, architecture
from model.parsing import parse_model_config
from utils.errors import UsageError

OURS_ALONE = "HatcheryForCausalLM"
_MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
    "GPT2LMHeadModel": "gpt2",
    OURS_ALONE: "hatchery",
}
_GATED_NAMES = {"swiglu": "silu", "geglu": "gelu_pytorch_tanh", "reglu": "relu"}
_GATED_KINDS = {
    "silu": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "gelu_new": "geglu",
    "relu": "reglu",
}


def config_to_hf(
    config: ModelConfig,
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | None = None,
    pad_token_id: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The content of config.json, for transformers 5 and 4; our own description rides along."""
    kind = architecture(config) or OURS_ALONE
    shared = {
        "architectures": [kind],
        "model_type": _MODEL_TYPES[kind],
        "vocab_size": config.vocab_size,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "tie_word_embeddings": config.tie_word_embeddings,
        "initializer_range": config.initializer_range,
        "use_cache": config.use_cache,
        "dtype": dtype,
        "torch_dtype": dtype,
        "hatchery": config.model_dump(mode="json"),
    }
    if kind == "GPT2LMHeadModel":
        return shared | _gpt2_keys(config)
    return shared if kind == OURS_ALONE else shared | _llama_keys(config)


def _gpt2_keys(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_positions": config.max_position_embeddings,
        "n_ctx": config.max_position_embeddings,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.mlp_size,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.layer_norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
    }


def _llama_keys(config: ModelConfig) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "hidden_act": _GATED_NAMES[config.mlp],
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.layer_norm_eps,
        "attention_bias": config.bias,
        "attention_dropout": config.attention_dropout,
        "rope_theta": config.rope_theta,
    }
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling.model_dump(exclude={"kind"})
        if config.rope_scaling.kind == "linear":
            scaling = {"factor": scaling["factor"]}
        rope = {"rope_type": config.rope_scaling.kind, **scaling}
        keys["rope_scaling"] = rope
    keys["rope_parameters"] = {**rope, "rope_theta": config.rope_theta}
    if not config.qk_norm:
        keys["mlp_bias"] = config.bias
    return keys


def config_from_hf(found: Mapping[str, Any], *, where: str = "config.json") -> ModelConfig:
    """The model that a Hugging Face config.json describes.

    Raises:
        UsageError: an architecture or a setting that this program does not compute; names the key.
    """
    if isinstance(found.get("hatchery"), dict):
        return parse_model_config(found["hatchery"], where=where, prefix="hatchery.")
    read = {"llama": _from_llama, "qwen3": _from_llama, "gpt2": _from_gpt2}
    kind = found.get("model_type")
    if kind not in read:
        raise _unsupported(where, "model_type", kind, "llama, qwen3 or gpt2")
    if found.get("quantization_config") is not None:
        raise _unsupported(where, "quantization_config", "quantized weights", "plain weights")
    return parse_model_config(read[kind](found, where), where=where)


def _unsupported(where: str, key: str, value: object, wanted: str) -> UsageError:
    return UsageError(
        f"{where}: {key} is not supported.", found=repr(value), remedy=f"supported: {wanted}"
    )


def _require(found: Mapping[str, Any], where: str, **allowed: Any) -> None:
    """Refuse a key whose value changes the arithmetic; an absent one has the allowed value."""
    for key, value in allowed.items():
        if found.get(key, value) != value:
            raise _unsupported(where, key, found[key], repr(value))


def _from_llama(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    qwen3 = found["model_type"] == "qwen3"
    _require(found, where, use_sliding_window=False)
    bias = found.get("attention_bias", False)
    _require(found, where, **({"attention_bias": False} if qwen3 else {"mlp_bias": bias}))
    act = found.get("hidden_act", "silu")
    if act not in _GATED_KINDS:
        raise _unsupported(where, "hidden_act", act, ", ".join(_GATED_KINDS))
    keys = {
        "vocab_size": found.get("vocab_size", 151936 if qwen3 else 32000),
        "hidden_size": found.get("hidden_size", 4096),
        "intermediate_size": found.get("intermediate_size", 22016 if qwen3 else 11008),
        "num_layers": found.get("num_hidden_layers", 32),
        "num_heads": found.get("num_attention_heads", 32),
        "num_kv_heads": found.get("num_key_value_heads", 32 if qwen3 else None),
        "head_dim": found.get("head_dim", 128 if qwen3 else None),
        "max_position_embeddings": found.get("max_position_embeddings", 32768 if qwen3 else 2048),
        "layer_norm_eps": found.get("rms_norm_eps", 1e-6),
        "initializer_range": found.get("initializer_range", 0.02),
        "tie_word_embeddings": found.get("tie_word_embeddings", False),
        "attention_dropout": found.get("attention_dropout", 0.0),
        "use_cache": found.get("use_cache", True),
        "mlp": _GATED_KINDS[act],
        "bias": bias,
        "qk_norm": qwen3,
    }
    return keys | _from_rope(found, where)


def _from_rope(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Positions in transformers 5's rope_parameters or 4's rope_theta and rope_scaling."""
    rope = dict(found.get("rope_parameters") or found.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", found.get("rope_theta", 10000.0))
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    rope.pop("type", None)
    _require(rope, where, partial_rotary_factor=1.0)
    rope.pop("partial_rotary_factor", None)
    if kind == "default":
        return {"rope_theta": theta}
    if kind not in ("linear", "llama3"):
        raise _unsupported(where, "rope_parameters.rope_type", kind, "default, linear, llama3")
    if kind == "linear":
        rope.pop("original_max_position_embeddings", None)
    return {"rope_theta": theta, "rope_scaling": {"kind": kind, **rope}}


def _from_gpt2(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    _require(
        found,
        where,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    act = found.get("activation_function", "gelu_new")
    if act not in ("gelu_new", "gelu_pytorch_tanh"):
        raise _unsupported(where, "activation_function", act, "gelu_new")
    heads = found.get("n_head", 12)
    return {
        "vocab_size": found.get("vocab_size", 50257),
        "hidden_size": found.get("n_embd", 768),
        "intermediate_size": found.get("n_inner"),
        "num_layers": found.get("n_layer", 12),
        "num_heads": heads,
        "num_kv_heads": heads,
        "max_position_embeddings": found.get("n_positions", 1024),
        "position": "learned",
        "norm": "layernorm",
        "layer_norm_eps": found.get("layer_norm_epsilon", 1e-5),
        "mlp": "gelu",
        "bias": True,
        "tie_word_embeddings": found.get("tie_word_embeddings", True),
        "initializer_range": found.get("initializer_range", 0.02),
        "dropout": found.get("resid_pdrop", 0.1),
        "attention_dropout": found.get("attn_pdrop", 0.1),
        "use_cache": found.get("use_cache", True),
    }
