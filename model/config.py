"""What a model is made of: every switch, its unit and its limits. Never imports torch.

The command line's help, the validation of config.json and the app's form are generated from
`ModelConfig`; sizes and costs are computed here, never quoted.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PresetName = Literal[
    "tiny", "mini", "sprint", "small", "125M", "350M", "760M", "1B",
    "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl",
]  # fmt: skip


def _llama(width: int, layers: int, heads: int, kv_heads: int, context: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_layers": layers,
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "max_position_embeddings": context,
    }


def _gpt2(width: int, layers: int, heads: int) -> dict[str, Any]:
    return _llama(width, layers, heads, heads, 1024) | {
        "vocab_size": 50257,
        "position": "learned",
        "norm": "layernorm",
        "mlp": "gelu",
        "bias": True,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _llama(128, 4, 4, 4, 256),
    "mini": _llama(256, 6, 4, 4, 512),
    # The recipe that learns most per second on a CPU: no gains, squared ReLU, zero-initialised
    # output projections.
    "sprint": _llama(256, 6, 4, 4, 512)
    | {
        "mlp": "relu2",
        "norm_gain": False,
        "qk_norm": True,
        "embedding_norm": True,
        "zero_init": True,
        "initializer_range": 0.04,
        "embedding_range": 0.5,
        "logit_scale": 0.25,
    },
    "small": _llama(512, 8, 8, 8, 1024),
    "125M": _llama(768, 16, 12, 4, 1024),
    "350M": _llama(1024, 28, 16, 4, 1024),
    "760M": _llama(1536, 28, 16, 4, 2048),
    "1B": _llama(2048, 22, 16, 4, 2048),
    "gpt2": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
}
GATED = ("swiglu", "geglu", "reglu")
CHINCHILLA_RATIO = 20
"""Training tokens per parameter that spend arithmetic best (Hoffmann et al. 2022, Chinchilla)."""


class RopeScaling(BaseModel):
    """How rotary positions are stretched beyond the context a model was first trained with."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["linear", "llama3"] = Field(
        description="linear divides every position, llama3 only the slow frequencies."
    )
    factor: float = Field(gt=0, description="How many times longer the context becomes.")
    low_freq_factor: float = Field(
        1.0, gt=0, description="llama3: wavelengths above original context / this are stretched."
    )
    high_freq_factor: float = Field(
        4.0, gt=0, description="llama3: wavelengths below original context / this stay as they are."
    )
    original_max_position_embeddings: int | None = Field(
        None, ge=1, description="llama3: context in tokens before stretching."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "llama3":
            if self.original_max_position_embeddings is None:
                raise ValueError("kind llama3 needs original_max_position_embeddings")
            if self.high_freq_factor <= self.low_freq_factor:
                raise ValueError("high_freq_factor must be larger than low_freq_factor")
        return self


class ModelConfig(BaseModel):
    """Shape and switches of a decoder-only transformer; a form shows the `common_fields` first."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    common_fields: ClassVar[tuple[str, ...]] = ("preset", "depth")

    preset: PresetName | None = Field(
        None, description="Named size that fills every setting not given explicitly."
    )
    depth: int | None = Field(
        None, ge=1, le=96, description="One dial: layers, with 64 channels and one head per layer."
    )
    vocab_size: int = Field(
        32016, ge=2, description="Number of token ids; null: those of the tokenizer."
    )
    hidden_size: int = Field(1024, ge=1, description="Width of the residual stream in channels.")
    num_layers: int = Field(12, ge=1, description="Number of transformer blocks.")
    num_heads: int = Field(16, ge=1, description="Query heads per block.")
    num_kv_heads: int | None = Field(
        None, ge=1, description="Key and value heads per block; empty means as many as num_heads."
    )
    head_dim: int | None = Field(
        None, ge=1, description="Channels per head; empty means hidden_size / num_heads."
    )
    intermediate_size: int | None = Field(
        None, ge=1, description="MLP width in channels; empty means 8/3 hidden (gated) or 4 hidden."
    )
    max_position_embeddings: int = Field(1024, ge=2, description="Longest context in tokens.")
    position: Literal["rope", "learned"] = Field(
        "rope", description="Positions as rotations of queries and keys, or as a learned table."
    )
    rope_theta: float = Field(10000.0, gt=1, description="Base of the rotary wavelengths.")
    rope_scaling: RopeScaling | None = Field(
        None, description="Stretching of rotary positions; empty means none."
    )
    norm: Literal["rmsnorm", "layernorm"] = Field("rmsnorm", description="Kind of normalisation.")
    norm_gain: bool = Field(True, description="Whether norms have learned gains.")
    layer_norm_eps: float = Field(1e-5, gt=0, description="Added to the variance in every norm.")
    mlp: Literal["swiglu", "geglu", "reglu", "gelu", "relu2"] = Field(
        "swiglu", description="Activation: three gated kinds, GPT-2's tanh GELU, or squared ReLU."
    )
    qk_norm: bool = Field(False, description="Whether queries and keys are normalised per head.")
    bias: bool = Field(False, description="Whether linear layers and layer norms have biases.")
    tie_word_embeddings: bool = Field(
        True, description="Whether the output head shares the embedding table."
    )
    attention: Literal["auto", "sdpa", "flash", "math"] = Field(
        "auto", description="Attention kernel; auto requires flash on CUDA, the fastest elsewhere."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of residual and embedding channels dropped in training."
    )
    attention_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of attention weights dropped in training."
    )
    initializer_range: float = Field(
        0.02, gt=0, description="Standard deviation of freshly initialised matrices."
    )
    embedding_range: float | None = Field(
        None, gt=0, description="Standard deviation of fresh embeddings; empty: initializer_range."
    )
    embedding_norm: bool = Field(False, description="Whether embeddings are normalised first.")
    zero_init: bool = Field(
        False, description="Whether output projections and an untied head start at zero."
    )
    logit_scale: float = Field(1.0, gt=0, description="Factor on the logits.")
    use_cache: bool = Field(True, description="Whether generation keeps keys and values.")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Fill from `preset` or `depth` what is not given; 16 heads by default share 4 KV heads."""
        if not isinstance(given, dict):
            return given
        if given.get("vocab_size", 0) is None:
            given = {name: value for name, value in given.items() if name != "vocab_size"}
        preset, depth = given.get("preset"), given.get("depth")
        if preset is not None and depth is not None:
            raise ValueError("preset and depth both set the size: give one of them")
        if isinstance(preset, str) and preset in PRESETS:
            sizes = PRESETS[preset]
            if "num_heads" in given and sizes["num_kv_heads"] == sizes["num_heads"]:
                sizes = sizes | {"num_kv_heads": None}  # as many as there are now
            return sizes | given
        if isinstance(depth, int) and depth > 0:
            sizes = {"hidden_size": 64 * depth, "num_layers": depth, "num_heads": depth}
            return sizes | given
        return given if "num_heads" in given else {"num_kv_heads": 4} | given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) is not divisible by num_heads "
                f"({self.num_heads}); change one of them or give head_dim"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.kv_heads})"
            )
        if self.position == "rope" and self.head_size % 2:
            raise ValueError(f"position rope needs an even head_dim, not {self.head_size}")
        if self.position == "learned" and self.rope_scaling is not None:
            raise ValueError("position learned has no rotations: rope_scaling does not apply")
        return self

    @property
    def kv_heads(self) -> int:
        """Key and value heads per block."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_size(self) -> int:
        """Channels per head."""
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        """Width of the MLP: the gated 8/3 is rounded up to a multiple of 64."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        if self.mlp in GATED:
            return -(-8 * self.hidden_size // (3 * 64)) * 64
        return 4 * self.hidden_size


def matrix_parameters(config: ModelConfig) -> int:
    """Weights of the matrices inside the blocks."""
    heads = 2 * config.num_heads + 2 * config.kv_heads
    mlp = (3 if config.mlp in GATED else 2) * config.mlp_size
    return config.num_layers * config.hidden_size * (heads * config.head_size + mlp)


def parameter_count(config: ModelConfig, *, embeddings: bool = True) -> int:
    """Number of parameters; without `embeddings`, token and position tables and head are left out.

    A tied head counts once.
    """
    width, layers, head = config.hidden_size, config.num_layers, config.head_size
    per_norm = (config.norm_gain + (config.norm == "layernorm" and config.bias)) * width
    norms = (2 * layers + 1 + config.embedding_norm) * per_norm
    norms += 2 * head * layers * (config.qk_norm and config.norm_gain)
    biases = 0
    if config.bias:
        up = (2 if config.mlp in GATED else 1) * config.mlp_size
        biases = layers * ((config.num_heads + 2 * config.kv_heads) * head + 2 * width + up)
    total = matrix_parameters(config) + norms + biases
    if embeddings:
        tables = config.vocab_size * (1 if config.tie_word_embeddings else 2)
        if config.position == "learned":
            tables += config.max_position_embeddings
        total += tables * width
    return total


def flops_per_token(config: ModelConfig, context: int) -> int:
    """Floating-point operations to train on one token at `context` tokens, forward and backward.

    6 per weight that is multiplied, the head included, and 12 * layers * heads * head_dim *
    context for attention, not halved for causality (Chowdhery et al. 2022, PaLM, appendix B).
    """
    weights = matrix_parameters(config) + config.vocab_size * config.hidden_size
    attention = 12 * config.num_layers * config.num_heads * config.head_size * context
    return 6 * weights + attention


def suggested_horizon(config: ModelConfig) -> int:
    """Tokens worth training on: `CHINCHILLA_RATIO` per parameter."""
    return CHINCHILLA_RATIO * parameter_count(config)


def suggested_batch_tokens(flops: float) -> int:
    """Tokens per optimizer step for a budget of `flops` (Bi et al. 2024, DeepSeek LLM, eq. 1)."""
    return int(0.2920 * flops**0.3271)


def suggested_learning_rate(flops: float) -> float:
    """AdamW's peak learning rate for a budget of `flops` (Bi et al. 2024, DeepSeek LLM, eq. 1)."""
    return float(0.3118 * flops**-0.1250)
