"""A Hugging Face config.json as a description of ours. Never imports torch.

A setting that changes the arithmetic and that we do not compute is refused by its key.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from model.config import ModelConfig
from utils.errors import UsageError

_GATED_KINDS = {
    "silu": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "gelu_new": "geglu",
    "relu": "reglu",
}
_PLAIN_KINDS = {"gelu_pytorch_tanh": "gelu", "gelu_new": "gelu", "relu2": "relu2"}
# What transformers means where a key of an architecture's config.json is absent.
_LLAMA_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
    }
}
_LLAMA_DEFAULTS["qwen3"] = _LLAMA_DEFAULTS["llama"] | {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": 32768,
}
_LLAMA_DEFAULTS["arcee"] = _LLAMA_DEFAULTS["llama"] | {
    "hidden_size": 2560,
    "intermediate_size": 18432,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "hidden_act": "relu2",
}
_LLAMA_DEFAULTS["apertus"] = _LLAMA_DEFAULTS["llama"] | {
    "vocab_size": 131072,
    "intermediate_size": 14336,
    "max_position_embeddings": 65536,
    "rms_norm_eps": 1e-5,
    "hidden_act": "xielu",
    "rope_theta": 12e6,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}


def config_from_hf(found: Mapping[str, Any], *, where: str = "config.json") -> ModelConfig:
    """The model that a Hugging Face config.json describes.

    Raises:
        UsageError: an architecture or a setting that this program does not compute; names the key.
    """
    if isinstance(found.get("hatchery"), dict):
        return parse_model_config(found["hatchery"], where=where, prefix="hatchery.")
    kind = found.get("model_type")
    if kind not in (*_LLAMA_DEFAULTS, "gpt2"):
        raise _unsupported(where, "model_type", kind, f"{', '.join(_LLAMA_DEFAULTS)}, gpt2")
    if found.get("quantization_config") is not None:
        raise _unsupported(where, "quantization_config", "quantized weights", "plain weights")
    read = _from_gpt2 if kind == "gpt2" else _from_llama
    return parse_model_config(read(found, where), where=where)


def _unsupported(where: str, key: str, value: object, wanted: str) -> UsageError:
    return UsageError(
        f"{where}: {key} is not supported.", found=repr(value), remedy=f"supported: {wanted}"
    )


def _require(found: Mapping[str, Any], where: str, **allowed: Any) -> None:
    """Refuse a key whose value changes the arithmetic; an absent one has the allowed value."""
    for key, value in allowed.items():
        if found.get(key, value) != value:
            raise _unsupported(where, key, found[key], repr(value))


def _from_llama(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = given["model_type"]
    found = {**_LLAMA_DEFAULTS[kind], **given}
    normed = kind in ("qwen3", "apertus")
    kinds = _GATED_KINDS if kind in ("llama", "qwen3") else _PLAIN_KINDS
    _require(found, where, use_sliding_window=False)
    bias = found.get("attention_bias", False)
    _require(found, where, **({"attention_bias": False} if normed else {"mlp_bias": bias}))
    if found["hidden_act"] not in kinds:
        raise _unsupported(where, "hidden_act", found["hidden_act"], ", ".join(kinds))
    keys = {
        "vocab_size": found["vocab_size"],
        "hidden_size": found["hidden_size"],
        "intermediate_size": found["intermediate_size"],
        "num_layers": found["num_hidden_layers"],
        "num_heads": found["num_attention_heads"],
        "num_kv_heads": found["num_key_value_heads"],
        "head_dim": found["head_dim"],
        "max_position_embeddings": found["max_position_embeddings"],
        "layer_norm_eps": found["rms_norm_eps"],
        "initializer_range": found.get("initializer_range", 0.02),
        "tie_word_embeddings": found.get("tie_word_embeddings", False),
        "attention_dropout": found.get("attention_dropout", 0.0),
        "use_cache": found.get("use_cache", True),
        "mlp": kinds[found["hidden_act"]],
        "bias": bias,
        "qk_norm": normed,
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
    if act not in _PLAIN_KINDS:
        raise _unsupported(where, "activation_function", act, ", ".join(_PLAIN_KINDS))
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
        "mlp": _PLAIN_KINDS[act],
        "bias": True,
        "tie_word_embeddings": found.get("tie_word_embeddings", True),
        "initializer_range": found.get("initializer_range", 0.02),
        "dropout": found.get("resid_pdrop", 0.1),
        "attention_dropout": found.get("attn_pdrop", 0.1),
        "use_cache": found.get("use_cache", True),
    }


def parse_model_config(values: Mapping[str, Any], *, where: str, prefix: str = "") -> ModelConfig:
    """Validate `values`; `where` and `prefix` tell the reader of an error where they stand.

    Raises:
        UsageError: names the dotted path, what was found, and the valid names.
    """
    try:
        return ModelConfig.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            valid = list(ModelConfig.model_fields)
            close = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1)
            meant = f" Did you mean {prefix}{close[0]}?" if close else ""
            raise UsageError(
                f"{where}: {key} is not a setting of the model.{meant}",
                remedy=f"valid names: {', '.join(valid)}",
            ) from error
        if not first["loc"]:
            raise UsageError(f"{where}: {message}.") from error
        raise UsageError(f"{where}: {key}: {message}.", found=repr(first["input"])) from error
