"""What a training minimises, and of how many things its loss is the mean.

A step's loss is the sum over all its micro-batches, divided by everything that counts in all of
them. Were each micro-batch's mean taken first, one with few targets would weigh as much as one
with many, and the same rows in other micro-batches would give other gradients.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from model.device import float64_sum
from model.gpt import GPT

Batch: TypeAlias = Sequence[Tensor]
"""Inputs (B, T) int64, targets of the same shape, and whatever else the loss takes."""


class Objective(Protocol):
    """A loss with what belongs to it. `names` are those of further figures that it gives."""

    names: tuple[str, ...]

    @property
    def loss(self) -> Callable[..., Tensor]:
        """Gives the mean loss of a micro-batch's tensors, () float32 with a gradient; with `names`
        (1 + n,), the means of the further figures after it."""
        ...

    def count(self, batch: Batch) -> Tensor:
        """Of how many things that is the mean, () int64."""
        ...

    def score(self, batch: Batch) -> tuple[list[float], int]:
        """The sums of loss and further figures over a held-out batch, and of how many things."""
        ...


class NextToken:
    """Cross-entropy in nats of every target that is not -100."""

    names: tuple[str, ...] = ()

    def __init__(self, model: GPT) -> None:
        self._model = model

    @property
    def loss(self) -> Callable[..., Tensor]:
        return self._model.loss

    def count(self, batch: Batch) -> Tensor:
        return scored(batch[1])

    def score(self, batch: Batch) -> tuple[list[float], int]:
        losses = self._model.token_losses(*batch)
        return [float64_sum(losses)], int(scored(batch[1]))


def scored(targets: Tensor) -> Tensor:
    """The number of targets that count, () int64."""
    return torch.count_nonzero(targets >= 0)
