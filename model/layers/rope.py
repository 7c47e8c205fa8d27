"""Rotary positions: pairs of channels rotated by an angle that grows with the position.

Su et al. 2021, "RoFormer". Channel i is paired with channel i + head_dim/2, the layout of Hugging
Face's Llama; a checkpoint that pairs neighbours (2i, 2i+1) must be permuted first.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.config import ModelConfig, RopeScaling


def inverse_wavelengths(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """Radians per position of each channel pair: (head_dim / 2,) float32."""
    size = config.head_size
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    frequencies = 1.0 / (config.rope_theta**exponents)
    if config.rope_scaling is None:
        return frequencies
    if config.rope_scaling.kind == "linear":
        return frequencies / config.rope_scaling.factor
    return _llama3(frequencies, config.rope_scaling)


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1's rule: long waves are stretched, short ones kept, those between blended."""
    context = scaling.original_max_position_embeddings or 0
    turns = context * frequencies / (2 * math.pi)  # full turns within the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (keep + (1 - keep) / scaling.factor)


class RotaryEmbedding(nn.Module):
    """Tables of cosines and sines, (max_position_embeddings, head_dim), always float32.

    Both halves of a head rotate by the same angles; the sines of the first half are negative, so
    that x rotated is x * cos + swapped(x) * sin.

    They are not saved, and `.to(torch.bfloat16)` leaves them alone: at position 1000 a bfloat16
    angle would be wrong by whole turns.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._config = config
        self._fill(None)

    def _fill(self, device: torch.device | None) -> None:
        positions = torch.arange(
            self._config.max_position_embeddings, dtype=torch.float32, device=device
        )
        angles = torch.outer(positions, inverse_wavelengths(self._config, device))
        cos, sin = angles.cos(), angles.sin()
        self.register_buffer("cos", torch.cat((cos, cos), dim=-1), persistent=False)
        self.register_buffer("sin", torch.cat((-sin, sin), dim=-1), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fill(self.cos.device)
        return self

    def forward(self, start: int, length: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cosines and sines of `positions` (B, T), or of start ... start + length - 1.

        Returns two tensors (B or 1, 1, T, head_dim).
        """
        if positions is None:
            rows = slice(start, start + length)
            return self.cos[None, None, rows], self.sin[None, None, rows]
        return self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs of x (B, T, H, D): heads first, (B, H, T, D), in the dtype of x.

    cos and sin are (B or 1, 1, T, D), as `RotaryEmbedding` gives them.
    """
    rotated: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return rotated


class _Rotate(torch.autograd.Function):
    """Three passes over memory forward and three backward, where autograd would take eighteen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x.transpose(1, 2), cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(upstream, cos, -sin).transpose(1, 2), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, H, T, D) rotated, contiguous; sin has the minus of its first half built in."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((b, a), dim=-1).mul(sin).addcmul(x, cos).to(x.dtype)
