"""The description of our models as a Hugging Face config.json. Never imports torch.

A combination of switches that no architecture of theirs holds is called `HatcheryForCausalLM`:
only we can open it.
"""

from typing import Any

from model.config import ModelConfig
from model.huggingface.architecture import architecture

OURS_ALONE = "HatcheryForCausalLM"
_MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
    "ArceeForCausalLM": "arcee",
    "ApertusForCausalLM": "apertus",
    "GPT2LMHeadModel": "gpt2",
    OURS_ALONE: "hatchery",
}
_ACTIVATIONS = {
    "swiglu": "silu",
    "geglu": "gelu_pytorch_tanh",
    "reglu": "relu",
    "gelu": "gelu_pytorch_tanh",
    "relu2": "relu2",
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
        "activation_function": "gelu_new" if config.mlp == "gelu" else config.mlp,
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
        "hidden_act": _ACTIVATIONS[config.mlp],
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
    # Said even where there is none: Apertus stretches its positions by default.
    keys["rope_scaling"] = None if config.rope_scaling is None else rope
    keys["rope_parameters"] = {**rope, "rope_theta": config.rope_theta}
    if not config.qk_norm:
        keys["mlp_bias"] = config.bias
    return keys
