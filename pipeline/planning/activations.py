"""What a training step holds between its forward and its backward pass, byte for byte.

Every tensor that autograd keeps, by the switches of the model and the kernels of the device; a
test compares these sums with what autograd really keeps. Never imports torch.

Letters: N tokens of a micro-batch, C channels of the residual stream, H query heads, K key and
value heads, D channels per head, F width of the MLP, S the square of scores: N * H * window.
"""

from typing import Literal, NamedTuple

from model.config import GATED, ModelConfig, matrix_parameters
from model.layers.limits import math_up_to

Kind = Literal["cpu", "cuda", "mps"]
SINGLE = 4  # bytes of a float32


class Shape(NamedTuple):
    """A model at work: `batch` windows of `window` tokens, matrix products in `half` precision
    (16 bits) or in float32, on a device of some kind."""

    model: ModelConfig
    batch: int
    window: int
    half: bool
    kind: Kind

    @property
    def tokens(self) -> int:
        return self.batch * self.window

    @property
    def size(self) -> int:
        """Bytes of an operand of a matrix product."""
        return 2 if self.half else SINGLE

    @property
    def keeps_scores(self) -> bool:
        """Whether attention is two matrix products, or one kernel that keeps no scores."""
        kernel = self.model.attention
        short = self.kind == "cpu" and self.window <= math_up_to(self.half)
        return kernel == "math" or (kernel == "auto" and short)

    @property
    def composed(self) -> bool:
        """Whether the one kernel is a chain of float32 operations: with dropout on a CPU."""
        dropped = self.model.attention_dropout > 0
        return dropped and self.kind == "cpu" and not self.keeps_scores

    @property
    def scores(self) -> int:
        """Elements of the attention weights of one block."""
        return self.tokens * self.model.num_heads * self.window


def block_bytes(shape: Shape) -> int:
    """Activations that one block keeps for its backward pass."""
    return _attention_bytes(shape) + mlp_bytes(shape)


def _norm_bytes(shape: Shape) -> int:
    """A norm's input, its statistics, and its output as the next product's operand."""
    statistics = 2 if shape.model.norm == "layernorm" else 1
    width = shape.model.hidden_size
    return shape.tokens * (SINGLE * (width + statistics) + shape.size * width)


def _attention_bytes(shape: Shape) -> int:
    """The norm, and what is kept of queries, keys and values on their way to the mixed values."""
    model, tokens = shape.model, shape.tokens
    queries, keys = model.num_heads * model.head_size, model.kv_heads * model.head_size
    rope, scores = model.position == "rope", shape.keeps_scores
    kept = queries  # the mixed values: what the output projection multiplies
    result = _norm_bytes(shape) + _dropped(shape, model.dropout, tokens * model.hidden_size)
    if model.qk_norm:
        kept += (queries + keys) * model.norm_gain
        widened = (queries + keys) * shape.half
        result += SINGLE * tokens * (widened + model.num_heads + model.kv_heads)
    if shape.composed:
        result += SINGLE * (3 * tokens * queries + 3 * shape.scores)
        return result + tokens * kept * shape.size
    if rope or scores or model.qk_norm:
        kept += queries + keys  # turned, copied or normalised
    if scores:
        kept += keys  # the values, copied
    elif shape.kind == "cpu" and (rope or shape.half):
        kept += queries  # the mixed values once more, head by head
    if not scores or (model.qk_norm and not shape.half):
        kept += queries + 2 * keys  # the projection that all three are parts of
    log_sums = SINGLE * tokens * model.num_heads
    result += shape.scores * _score_size(shape) if scores else log_sums
    return result + tokens * kept * shape.size


def _score_size(shape: Shape) -> int:
    """Bytes per attention weight: CUDA takes the softmax in float32 and keeps both forms."""
    both = shape.half and shape.kind == "cuda"
    size = shape.size + (SINGLE if both else 0)
    return size + (_mask_size(shape) + shape.size if shape.model.attention_dropout else 0)


def _mask_size(shape: Shape) -> int:
    return 1 if shape.kind == "cuda" else shape.size


def _dropped(shape: Shape, share: float, elements: int) -> int:
    return _mask_size(shape) * elements if share else 0


def mlp_bytes(shape: Shape) -> int:
    model, tokens = shape.model, shape.tokens
    inner = 4 if model.mlp in GATED else 2  # gate and up, activated gate, their product
    widened = tokens * model.mlp_size * 2 if _widens_square(shape) else 0
    result = _norm_bytes(shape) + tokens * inner * model.mlp_size * shape.size + widened
    return result + _dropped(shape, model.dropout, tokens * model.hidden_size)


def _widens_square(shape: Shape) -> bool:
    """CUDA's autocast squares in float32."""
    return shape.model.mlp == "relu2" and shape.half and shape.kind == "cuda"


def half_weight_bytes(shape: Shape) -> int:
    """Copies of the blocks' matrices in 16 bits, kept from their first use to the last."""
    return 2 * matrix_parameters(shape.model) if shape.half else 0


def stem_bytes(shape: Shape) -> int:
    """Ids, positions, the embedding's norm, and the input of the last norm."""
    model, tokens = shape.model, shape.tokens
    per_norm = SINGLE * (model.hidden_size + (2 if model.norm == "layernorm" else 1))
    result = 8 * tokens + per_norm * tokens
    if model.position == "learned":
        result += 8 * shape.window
    if model.embedding_norm:
        result += per_norm * tokens
    dropped = _dropped(shape, model.dropout, tokens * model.hidden_size)
    return result + (2 * dropped if shape.half else dropped)  # its mask is of float32


def head_bytes(shape: Shape) -> int:
    """What the loss keeps: the gradients of its input and of the output matrix."""
    model = shape.model
    return model.hidden_size * (shape.size * shape.tokens + SINGLE * model.vocab_size) + 8


def saved_bytes(shape: Shape, *, checkpointing: bool) -> int:
    """All that is kept from the forward pass to the backward one."""
    model = shape.model
    block = SINGLE * shape.tokens * model.hidden_size if checkpointing else block_bytes(shape)
    halves = 0 if checkpointing else half_weight_bytes(shape)
    mask = SINGLE * shape.window**2 if checkpointing and shape.keeps_scores else 0
    return model.num_layers * block + halves + mask + stem_bytes(shape) + head_bytes(shape)
