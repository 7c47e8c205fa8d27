"""Llama: rotary positions, RMSNorm, a gated MLP, no norm of queries and keys.

Qwen3, Arcee and Apertus are Llama with another MLP, with normalised queries and keys or both: their
adapters change the class attributes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from model.config import GATED, ModelConfig
from model.huggingface.family import Family, TensorMap, require, unsupported

GATED_ACTIVATIONS = {
    "silu": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "gelu_new": "geglu",
    "relu": "reglu",
}
PLAIN_ACTIVATIONS = {"gelu_pytorch_tanh": "gelu", "gelu_new": "gelu", "relu2": "relu2"}


class Llama(Family):
    """`activations` are their names of the kinds of MLP, `defaults` what transformers means where a
    key of config.json is absent, `norms` their names of a block's two norms."""

    architecture = "LlamaForCausalLM"
    model_type = "llama"
    embedding = "model.embed_tokens.weight"
    computed = (".rotary_emb.inv_freq",)
    qk_norm: ClassVar[bool] = False
    norms: ClassVar[tuple[str, str]] = ("input", "post_attention")
    activations: ClassVar[dict[str, str]] = GATED_ACTIVATIONS
    defaults: ClassVar[dict[str, Any]] = {
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

    def claims(self, config: ModelConfig) -> bool:
        kinds = self.activations.values()
        return config.position == "rope" and config.mlp in kinds and config.qk_norm == self.qk_norm

    def obstacles(self, config: ModelConfig) -> dict[str, bool]:
        width, heads = config.hidden_size, config.num_heads
        shifted = " and bias (the last norm's shift has no place)" if config.bias else ""
        found = {
            "embedding_norm": config.embedding_norm,
            f"norm {config.norm} with position rope{shifted}": config.norm != "rmsnorm",
        }
        if self.qk_norm:
            found["bias with qk_norm (Qwen3 and Apertus have none in the MLP)"] = config.bias
        else:
            # LlamaConfig and ArceeConfig insist on it even when head_dim is given.
            divided = f"num_heads {heads} with hidden_size {width}"
            found[f"{divided} (Llama's divide it, unless qk_norm)"] = width % heads != 0
        return found

    def foldable(self, config: ModelConfig) -> dict[str, object]:
        changes: dict[str, object] = {}
        if config.embedding_norm:
            changes["embedding_norm"] = False
        if config.norm == "layernorm" and not config.bias:
            changes["norm"] = "rmsnorm"
        return changes

    def read(self, found: Mapping[str, Any], where: str) -> dict[str, Any]:
        found = self.defaults | dict(found)
        require(found, where, use_sliding_window=False)
        bias, in_mlp = found.get("attention_bias", False), found.get("mlp_bias", False)
        if self.qk_norm:
            require(found, where, attention_bias=False)
        elif bias != in_mlp:
            both = f"attention_bias {bias} with mlp_bias {in_mlp}"
            raise unsupported(where, "a bias in one part of a block", both, "in both, or in none")
        if found["hidden_act"] not in self.activations:
            raise unsupported(where, "hidden_act", found["hidden_act"], ", ".join(self.activations))
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
            "mlp": self.activations[found["hidden_act"]],
            "bias": bias,
            "qk_norm": self.qk_norm,
        }
        return keys | _read_rope(found, where)

    def write(self, config: ModelConfig) -> dict[str, Any]:
        kinds = {ours: theirs for theirs, ours in reversed(self.activations.items())}
        keys: dict[str, Any] = {
            "hidden_size": config.hidden_size,
            "intermediate_size": config.mlp_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_size,
            "hidden_act": kinds[config.mlp],
            "max_position_embeddings": config.max_position_embeddings,
            "rms_norm_eps": config.layer_norm_eps,
            "attention_bias": config.bias,
            "attention_dropout": config.attention_dropout,
        } | _written_rope(config)
        return keys if self.qk_norm else keys | {"mlp_bias": config.bias}

    def layout(self, config: ModelConfig) -> Iterator[TensorMap]:
        width, head = config.hidden_size, config.head_size
        rows = (config.num_heads * head, config.kv_heads * head, config.kv_heads * head)
        kinds = ("weight", "bias") if config.bias else ("weight",)
        up_names = ("gate_proj", "up_proj") if config.mlp in GATED else ("up_proj",)

        def gain(ours: str, theirs: str, size: int) -> TensorMap:
            return TensorMap(ours, (theirs,), neutral=None if config.norm_gain else (1.0, (size,)))

        yield TensorMap("embedding.weight", (self.embedding,))
        for layer in range(config.num_layers):
            ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
            attention = f"{theirs}.self_attn"
            for kind in kinds:
                qkv = tuple(f"{attention}.{letter}_proj.{kind}" for letter in "qkv")
                yield TensorMap(f"{ours}.attention.qkv.{kind}", qkv, rows)
                yield TensorMap(f"{ours}.attention.out.{kind}", (f"{attention}.o_proj.{kind}",))
                up = tuple(f"{theirs}.mlp.{name}.{kind}" for name in up_names)
                yield TensorMap(f"{ours}.mlp.up.{kind}", up, (config.mlp_size,) * len(up))
                yield TensorMap(f"{ours}.mlp.down.{kind}", (f"{theirs}.mlp.down_proj.{kind}",))
            for letter in "qk" if config.qk_norm else "":
                name = f"{letter}_norm.weight"
                yield gain(f"{ours}.attention.{name}", f"{attention}.{name}", head)
            for norm, name in zip(("attention_norm", "mlp_norm"), self.norms, strict=True):
                yield gain(f"{ours}.{norm}.weight", f"{theirs}.{name}_layernorm.weight", width)
        yield gain("norm.weight", "model.norm.weight", width)


def _read_rope(found: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Positions in transformers 5's rope_parameters or 4's rope_theta and rope_scaling."""
    rope = dict(found.get("rope_parameters") or found.get("rope_scaling") or {})
    theta = rope.pop("rope_theta", found.get("rope_theta", 10000.0))
    kind = rope.pop("rope_type", rope.pop("type", "default"))
    rope.pop("type", None)
    require(rope, where, partial_rotary_factor=1.0)
    rope.pop("partial_rotary_factor", None)
    if kind == "default":
        return {"rope_theta": theta}
    if kind not in ("linear", "llama3"):
        raise unsupported(where, "rope_parameters.rope_type", kind, "default, linear, llama3")
    if kind == "linear":
        rope.pop("original_max_position_embeddings", None)
    return {"rope_theta": theta, "rope_scaling": {"kind": kind, **rope}}


def _written_rope(config: ModelConfig) -> dict[str, Any]:
    """The same for both versions of transformers."""
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling.model_dump(exclude={"kind"})
        if config.rope_scaling.kind == "linear":
            scaling = {"factor": scaling["factor"]}
        rope = {"rope_type": config.rope_scaling.kind, **scaling}
    return {
        "rope_theta": config.rope_theta,
        # Written even where there is none: Apertus stretches its positions by default.
        "rope_scaling": None if config.rope_scaling is None else rope,
        "rope_parameters": {**rope, "rope_theta": config.rope_theta},
    }
