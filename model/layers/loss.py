"""Output head and cross-entropy in one, a slice of the tokens at a time.

With 32,016 ids and 16,384 tokens a step the float32 logits alone are 2 GB, and their gradient as
much again. Here a slice's logits become its gradients in place and are gone before the next slice.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.layers.limits import slice_length

IGNORED = -100
"""The target of a position that does not count."""


def _slices(tensor: Tensor, size: int) -> tuple[Tensor, ...]:
    return torch.split(tensor, size)


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each token in nats, zero where ignored.

    hidden (N, C), weight (V, C), targets (N,) int64 -> (N,) float32. Differentiable once; as every
    token may be asked for with a weight of its own, the logits are then computed a second time.
    """
    kept = _scored(targets)
    if kept is None:
        losses: Tensor = _TokenLosses.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
        return losses
    some = token_losses(hidden.index_select(0, kept), weight, targets[kept])
    return some.new_zeros(len(targets)).index_copy(0, kept, some)


class _TokenLosses(torch.autograd.Function):
    """Nothing of the size of the logits is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight, targets)
        size = slice_length(len(weight))
        parts = [
            torch.nn.functional.cross_entropy(
                (rows @ weight.T).float(), labels, ignore_index=IGNORED, reduction="none"
            )
            for rows, labels in zip(_slices(hidden, size), _slices(targets, size), strict=True)
        ]
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight, targets = ctx.saved_tensors
        size, learns = slice_length(len(weight)), ctx.needs_input_grad[1]
        hidden_gradients = []
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if learns else None
        scales = torch.where(targets == IGNORED, 0, upstream)
        for rows, labels, scale in zip(
            _slices(hidden, size), _slices(targets, size), _slices(scales, size), strict=True
        ):
            index = labels.clamp(min=0)[:, None]
            gradient = (rows @ weight.T).float().softmax(dim=-1)  # (n, V)
            gradient.scatter_add_(1, index, gradient.new_full((len(index), 1), -1.0))
            gradient = gradient.mul_(scale[:, None]).to(hidden.dtype)
            hidden_gradients.append(gradient @ weight)
            if weight_gradient is not None:
                weight_gradient += gradient.T @ rows
        found = None if weight_gradient is None else weight_gradient.to(weight.dtype)
        return torch.cat(hidden_gradients), found, None


def mean_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the targets that are not `IGNORED`; zero if all are.

    hidden (N, C), weight (V, C), targets (N,) int64 -> () float32. Differentiable once.
    """
    kept = _scored(targets)
    if kept is not None:
        hidden, targets = hidden.index_select(0, kept), targets[kept]
    loss: Tensor = _HeadLoss.apply(hidden, weight, targets)  # type: ignore[no-untyped-call]
    return loss


def _scored(targets: Tensor) -> Tensor | None:
    """Where targets count, if the others are to be left out of the head's products; else None.

    A question or filling is a third of what tuning reads, and the head half of its arithmetic in a
    small model. On a GPU the number of them would have to be waited for, and compiled arithmetic
    wants one shape.
    """
    if targets.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    kept = (targets != IGNORED).nonzero()[:, 0]
    return None if len(kept) == len(targets) else kept


class _HeadLoss(torch.autograd.Function):
    """The gradients are computed with the loss; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        valid = targets != IGNORED
        count = valid.sum().clamp(min=1)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hidden_gradients = []
        learns = ctx.needs_input_grad[1]  # beside adapters the head is frozen
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if learns else None
        size = slice_length(len(weight))
        for rows, labels, mask in zip(
            _slices(hidden, size), _slices(targets, size), _slices(valid, size), strict=True
        ):
            index = labels.clamp(min=0)[:, None]
            scores = (rows @ weight.T).float().log_softmax(dim=-1)  # (n, V)
            total = total - (scores.gather(1, index)[:, 0] * mask).sum()
            gradient = scores.exp_()
            gradient.scatter_add_(1, index, gradient.new_full((len(index), 1), -1.0))
            gradient = gradient.mul_(mask[:, None]).to(hidden.dtype)
            hidden_gradients.append(gradient @ weight)
            if weight_gradient is not None:
                weight_gradient += gradient.T @ rows
        ctx.save_for_backward(torch.cat(hidden_gradients), weight_gradient, count)
        ctx.weight_dtype = weight.dtype
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden_gradient, weight_gradient, count = ctx.saved_tensors
        scale = upstream / count
        return (
            hidden_gradient * scale.to(hidden_gradient.dtype),
            None if weight_gradient is None else (weight_gradient * scale).to(ctx.weight_dtype),
            None,
        )
