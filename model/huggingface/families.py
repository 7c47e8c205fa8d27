"""Which Hugging Face architecture computes a model of ours. Never imports torch.

Llama and Qwen3 have a gated MLP; Arcee and Apertus are the same without the gate; Qwen3 and Apertus
normalise queries and keys. All four have rotary positions and RMSNorm, GPT-2 has a table of
positions and LayerNorm.
"""

from typing import Literal

from model.config import GATED, ModelConfig

Architecture = Literal[
    "LlamaForCausalLM",
    "Qwen3ForCausalLM",
    "ArceeForCausalLM",
    "ApertusForCausalLM",
    "GPT2LMHeadModel",
]


def architecture(config: ModelConfig) -> Architecture | None:
    """The architecture that computes exactly this model, None where there is none.

    Missing gains and GPT-2's missing biases are no obstacle: they are saved as ones and zeros.
    """
    if obstacles(config):
        return None
    if config.position == "learned":
        return "GPT2LMHeadModel"
    if config.mlp in GATED:
        return "Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"
    return "ApertusForCausalLM" if config.qk_norm else "ArceeForCausalLM"


def obstacles(config: ModelConfig) -> list[str]:
    """The switches that no architecture holds, or not together, and where it is not plain, why."""
    width, heads, head = config.hidden_size, config.num_heads, config.head_size
    if config.position == "rope":
        shifted = " and bias (the last norm's shift has no place)" if config.bias else ""
        found = {
            "embedding_norm": config.embedding_norm,
            f"norm {config.norm} with position rope{shifted}": config.norm != "rmsnorm",
            "bias with qk_norm (Qwen3 and Apertus have none in the MLP)":
                config.qk_norm and config.bias,
            # LlamaConfig and ArceeConfig insist on it even when head_dim is given.
            f"num_heads {heads} with hidden_size {width} (Llama's divide it, unless qk_norm)":
                not config.qk_norm and width % heads != 0,
        }  # fmt: skip
    else:
        found = {
            "embedding_norm with position learned (it is the sum that is normalised)":
                config.embedding_norm,
            f"norm {config.norm} with position learned (GPT-2's is layernorm)":
                config.norm != "layernorm",
            f"mlp {config.mlp} with position learned (GPT-2's has no gate)": config.mlp in GATED,
            "qk_norm with position learned (GPT-2 has none)": config.qk_norm,
            f"num_kv_heads {config.kv_heads} with position learned": config.kv_heads != heads,
            f"head_dim {head} with position learned (GPT-2's is hidden_size / num_heads)":
                head * heads != width,
        }  # fmt: skip
    found[f"logit_scale {config.logit_scale:g}"] = config.logit_scale != 1
    return [switch for switch, is_there in found.items() if is_there]
