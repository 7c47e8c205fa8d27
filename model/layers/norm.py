"""The norms of a model: RMSNorm (Zhang & Sennrich 2019) or LayerNorm of the residual stream, and
RMSNorm of queries and keys.

torch's RMSNorm is one kernel on a GPU and a chain of six operations on a CPU, thirteen with
gradients, where each costs a pass over memory; here it takes as few passes as a CPU allows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.config import ModelConfig


class Norm(nn.Module):
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm over the last dimension."""

    def __init__(self, size: int, config: ModelConfig) -> None:
        super().__init__()
        self.size, self.eps, self.kind = (size,), config.layer_norm_eps, config.norm
        self.weight = nn.Parameter(torch.ones(size)) if config.norm_gain else None
        shifted = config.norm == "layernorm" and config.bias
        self.bias = nn.Parameter(torch.zeros(size)) if shifted else None

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "rmsnorm":
            return rms_norm(x, self.weight, self.eps)
        return F.layer_norm(x, self.size, self.weight, self.bias, self.eps)


class HeadNorm(nn.Module):
    """RMSNorm of each head's query or key; the gains are shared by the heads of a block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.eps = config.layer_norm_eps
        self.weight = nn.Parameter(torch.ones(config.head_size)) if config.norm_gain else None

    def forward(self, x: Tensor) -> Tensor:  # (B, T, H or K, D)
        x = rms_norm(x, None, self.eps)
        return x if self.weight is None else x * self.weight


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension, times `weight` where there is one."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    if plain and x.requires_grad and not torch.compiler.is_compiling():
        normed: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return normed
    return F.rms_norm(x, x.shape[-1:], weight, eps)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        size = x.shape[-1]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = length.square_().div_(size).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        normed: Tensor = x * inverse
        return normed if weight is None else normed.mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        normed = x * inverse
        product = upstream * normed
        weight_gradient = None
        if weight is not None:
            weight_gradient = product.reshape(-1, x.shape[-1]).sum(dim=0)
            # sum_c g_c w_c n_c as a matrix-vector product: no further tensor of the size of x
            share = (product @ weight).unsqueeze(-1).div_(-x.shape[-1])
            gradient = torch.addcmul(upstream * weight, normed, share)
        else:
            share = product.sum(dim=-1, keepdim=True).div_(-x.shape[-1])
            gradient = torch.addcmul(upstream, normed, share)
        return gradient.mul_(inverse), weight_gradient, None
