"""RMSNorm (Zhang & Sennrich 2019) in as few passes over memory as a CPU allows.

torch's own is one kernel on a GPU and a chain of six operations on a CPU, thirteen with gradients,
where each costs a pass over memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


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
