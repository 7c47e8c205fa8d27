"""GPT-2: a learned table of positions, LayerNorm, an MLP without a gate, matrices transposed."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from model.config import GATED, ModelConfig
from model.huggingface.family import Family, TensorMap, require, unsupported

_T = TypeVar("_T")
_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu", "gelu_new": "gelu", "relu2": "relu2"}


class Gpt2(Family):
    """See `Family`."""

    architecture = "GPT2LMHeadModel"
    model_type = "gpt2"
    embedding = "transformer.wte.weight"
    computed = (".attn.bias", ".attn.masked_bias")

    def claims(self, config: ModelConfig) -> bool:
        return config.position == "learned"

    def obstacles(self, config: ModelConfig) -> dict[str, bool]:
        width, heads, head = config.hidden_size, config.num_heads, config.head_size
        return {
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

    def foldable(self, config: ModelConfig) -> dict[str, object]:
        return {"num_kv_heads": config.num_heads}

    def read(self, found: Mapping[str, Any], where: str) -> dict[str, Any]:
        require(
            found,
            where,
            scale_attn_weights=True,
            scale_attn_by_inverse_layer_idx=False,
            add_cross_attention=False,
        )
        act = found.get("activation_function", "gelu_new")
        if act not in _ACTIVATIONS:
            raise unsupported(where, "activation_function", act, ", ".join(_ACTIVATIONS))
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
            "mlp": _ACTIVATIONS[act],
            "bias": True,
            "tie_word_embeddings": found.get("tie_word_embeddings", True),
            "initializer_range": found.get("initializer_range", 0.02),
            "dropout": found.get("resid_pdrop", 0.1),
            "attention_dropout": found.get("attn_pdrop", 0.1),
            "use_cache": found.get("use_cache", True),
        }

    def write(self, config: ModelConfig) -> dict[str, Any]:
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

    def layout(self, config: ModelConfig) -> Iterator[TensorMap]:
        width, wide = config.hidden_size, config.mlp_size

        def linear(ours: str, theirs: str, size: int) -> Iterator[TensorMap]:
            yield TensorMap(f"{ours}.weight", (f"{theirs}.weight",), transposed=True)
            none = None if config.bias else (0.0, (size,))
            yield TensorMap(f"{ours}.bias", (f"{theirs}.bias",), neutral=none)

        def norm(ours: str, theirs: str) -> Iterator[TensorMap]:
            gain = None if config.norm_gain else (1.0, (width,))
            shift = None if config.bias else (0.0, (width,))
            yield TensorMap(f"{ours}.weight", (f"{theirs}.weight",), neutral=gain)
            yield TensorMap(f"{ours}.bias", (f"{theirs}.bias",), neutral=shift)

        yield TensorMap("embedding.weight", (self.embedding,))
        yield TensorMap("positions.weight", ("transformer.wpe.weight",))
        for layer in range(config.num_layers):
            ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
            yield from norm(f"{ours}.attention_norm", f"{theirs}.ln_1")
            yield from linear(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", 3 * width)
            yield from linear(f"{ours}.attention.out", f"{theirs}.attn.c_proj", width)
            yield from norm(f"{ours}.mlp_norm", f"{theirs}.ln_2")
            yield from linear(f"{ours}.mlp.up", f"{theirs}.mlp.c_fc", wide)
            yield from linear(f"{ours}.mlp.down", f"{theirs}.mlp.c_proj", width)
        yield from norm("norm", "transformer.ln_f")

    def canonical(self, tensors: dict[str, _T]) -> dict[str, _T]:
        if "wte.weight" not in tensors:
            return tensors
        return {  # OpenAI's own files have no prefix
            name if name.startswith("lm_head.") else f"transformer.{name}": tensor
            for name, tensor in tensors.items()
        }
