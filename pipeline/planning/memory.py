"""How much memory a training takes at its highest moment, part by part. Never imports torch.

The highest moment is the end of the forward pass, when everything is kept for the backward one;
or the first block of the backward pass; or the optimizer's update. The parts are those of that
moment, so that they add up to the peak.
"""

from typing import Literal, NamedTuple, TypeAlias

from model.config import GATED, ModelConfig, matrix_parameters, parameter_count
from model.layers.limits import slice_length
from pipeline.planning.activations import (
    SINGLE,
    Shape,
    block_bytes,
    half_weight_bytes,
    mlp_bytes,
    saved_bytes,
)
from utils.gpu import torch_built_for

Moment: TypeAlias = Literal["forward pass", "backward pass", "update"]

_MIB = 1 << 20
# A process that has loaded torch, the tokenizer and the rest of the train stage, and made a step.
_PROCESS = {"cpu": 345 * _MIB, "mps": 345 * _MIB, "cuda": 600 * _MIB}
_CUDA_LIBRARIES = 350 * _MIB  # more on a CPU where torch is built for CUDA (2.13 with CUDA 13)
# What glibc's heap holds between tensors, fitted to 18 shapes on a CPU (benchmarks/NOTES.md): a
# share of the activations (float32, 16 bits), of a block that is recomputed, of the weights, of
# the largest set of matrices that Muon turns at once.
_GAPS = (0.37, 0.45, 2.8, 0.3, 1.5)
_GPU_GAPS = 0.05  # of all tensors: torch's own allocator keeps blocks of like size together


class Memory(NamedTuple):
    """Bytes at the highest moment; `process` is the program itself, `gaps` what the allocator
    holds between tensors, `working` what the optimizer's update takes for itself."""

    process: int
    tokens: int
    weights: int
    optimizer: int
    gradients: int
    activations: int
    working: int
    gaps: int
    moment: Moment

    @property
    def total(self) -> int:
        return sum(part for part in self if isinstance(part, int))


def optimizer_bytes(model: ModelConfig, kind: Literal["adamw", "muon"]) -> int:
    """State of the optimizer: two numbers per parameter, one where Muon is at work."""
    parameters = parameter_count(model)
    hidden = matrix_parameters(model) if kind == "muon" else 0
    return SINGLE * (2 * (parameters - hidden) + hidden)


def peak_memory(
    shape: Shape,
    *,
    optimizer: Literal["adamw", "muon"],
    checkpointing: bool,
    accumulates: bool,
    token_bytes: int,
) -> Memory:
    """Memory of a training of this shape; `accumulates` says that a step has several
    micro-batches, so that gradients outlive the backward pass; `token_bytes` lie in memory."""
    model = shape.model
    weights = SINGLE * parameter_count(model)
    table = SINGLE * model.vocab_size * model.hidden_size  # the loss makes its gradient first
    forward = _forward_end(shape, checkpointing) - table
    backward = _backward_begin(shape, checkpointing) - table
    turned = _largest_group(model) if optimizer == "muon" else 0
    working = max(round(turned * (2.5 if shape.half else 3)), table)
    early = weights if accumulates else table
    moments: list[tuple[int, Moment, int, int, int]] = [
        (early + forward, "forward pass", early, forward, 0),
        (early + backward, "backward pass", early, backward, 0),
        (weights + working, "update", weights, 0, working),
    ]
    _, moment, gradients, activations, working = max(moments)
    state = optimizer_bytes(model, optimizer)
    tensors = weights + state + gradients + activations + working
    if shape.kind != "cpu":
        gaps = _GPU_GAPS * tensors
    else:
        single, half, recomputed, of_weights, of_turned = _GAPS
        gaps = (half if shape.half else single) * (max(forward, backward) + table)
        gaps += recomputed * block_bytes(shape) * checkpointing
        gaps += of_weights * weights * (1 + accumulates) + of_turned * turned
    process = _PROCESS[shape.kind]
    if shape.kind == "cpu" and torch_built_for() == "cuda":
        process += _CUDA_LIBRARIES
    return Memory(
        process, token_bytes, weights, state, gradients, activations, working,
        round(gaps), moment,
    )  # fmt: skip


def _forward_end(shape: Shape, checkpointing: bool) -> int:
    """Held above weights and optimizer while the last slice of the loss is computed."""
    model, tokens = shape.model, shape.tokens
    cast = shape.size if shape.half else 0
    slice_tokens = min(tokens, slice_length(model.vocab_size))
    per_logit = 2 * SINGLE  # a slice's logits and their logarithms
    if slice_tokens < tokens:
        per_logit += SINGLE + cast  # what is left of the slice before
    hidden = tokens * model.hidden_size * (SINGLE + cast)
    copies = cast * model.vocab_size * model.hidden_size
    if checkpointing:
        copies += half_weight_bytes(shape)
    logits = per_logit * slice_tokens * model.vocab_size
    return saved_bytes(shape, checkpointing=checkpointing) + hidden + copies + logits


def _backward_begin(shape: Shape, checkpointing: bool) -> int:
    """Held above weights and optimizer in the last block, the first to be gone back through."""
    model, tokens = shape.model, shape.tokens
    arriving = SINGLE * tokens * model.hidden_size
    in_mlp = (2 if model.mlp in GATED else 1) * tokens * model.mlp_size * shape.size
    in_attention = 0
    if shape.keeps_scores:  # the gradients before and after the softmax; the MLP's part is gone
        in_attention = 2 * shape.scores * shape.size - mlp_bytes(shape)
    recomputed = 0
    if checkpointing:
        recomputed = block_bytes(shape) + half_weight_bytes(shape) // model.num_layers
    saved = saved_bytes(shape, checkpointing=checkpointing)
    return saved + recomputed + arriving + max(in_mlp, in_attention)


def _largest_group(model: ModelConfig) -> int:
    """Bytes of the matrices of one shape, which Muon turns together."""
    widths = (
        (model.num_heads + 2 * model.kv_heads) * model.head_size,
        model.num_heads * model.head_size,
        model.mlp_size * (2 if model.mlp in GATED else 1),
    )
    return SINGLE * model.num_layers * model.hidden_size * max(widths)
