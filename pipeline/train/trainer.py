"""The optimizer step and the evaluation: arithmetic only, no files and no screen.

What a step computes depends on the weights, the optimizer's state and the step's number alone:
batch, learning rate and dropout are functions of (seed, step). So a run that was killed at any
instant and resumed from a checkpoint repeats every later loss and gradient norm bit for bit.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.device import autocast
from model.gpt import GPT
from model.optimizer import ModelOptimizer
from pipeline.train.objective import Batch, Objective
from utils.errors import HatcheryError

_MOST_SKIPPED = 20


class Batches(Protocol):
    """Micro-batches by number."""

    def batch(self, number: int) -> Batch: ...


class NonFiniteError(HatcheryError):
    """A loss or gradient norm is NaN or infinite; the weights are still those before the step."""

    def __init__(
        self,
        step: int,
        loss: float,
        norm: float,
        remedy: str = "lower the learning rate",
        commands: Sequence[tuple[str, ...]] = (),
    ) -> None:
        super().__init__(
            f"Training broke down at step {step}: the loss is {loss} and the gradient norm {norm}.",
            found="the weights are untouched; the batch is written beside the run for inspection",
            remedy=remedy,
            commands=commands,
        )
        self.step, self._loss, self._norm = step, loss, norm

    def advising(self, remedy: str, commands: Sequence[tuple[str, ...]] = ()) -> "NonFiniteError":
        """The same with another remedy."""
        return NonFiniteError(self.step, self._loss, self._norm, remedy, commands)


@dataclass(frozen=True)
class StepResult:
    """Mean loss in nats, gradient norm before clipping, share of the peak learning rate, tokens
    seen.

    `skipped` is set when fp16 overflowed and the update was left out. `figures` are the further
    ones that the objective gives, by name.
    """

    loss: float
    grad_norm: float
    lr_multiplier: float
    tokens: int
    skipped: bool = False
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss in nats over `tokens` tokens, or whatever the objective counts, with its further
    figures."""

    loss: float
    tokens: int
    figures: dict[str, float] = field(default_factory=dict)


class Trainer:
    """One model in training.

    objective: what is minimised, computed with `model`. lr_multiplier: share of the peak learning
    rate for a 0-based step. dtype: what matrix products are computed in. gradient_clip: largest
    global norm, None for no clipping.
    """

    def __init__(
        self,
        model: GPT,
        optimizer: ModelOptimizer,
        batches: Batches,
        objective: Objective,
        *,
        lr_multiplier: Callable[[int], float],
        accumulation: int = 1,
        gradient_clip: float | None = 1.0,
        dtype: torch.dtype = torch.float32,
        seed: int = 42,
        compiled: bool = False,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._batches, self._objective = batches, objective
        self._lr_multiplier = lr_multiplier
        self._accumulation = accumulation
        self._clip = math.inf if gradient_clip is None else gradient_clip
        self._dtype = dtype
        self._seed = seed
        self._device = model.device
        self._parameters = list(model.parameters())
        # Only the function is compiled: wrapping the module would rename every weight.
        loss = objective.loss
        self._loss = torch.compile(loss, dynamic=False) if compiled else loss
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=dtype == torch.float16, init_scale=2.0**13
        )
        self._skipped = 0

    def train_step(self, step: int) -> StepResult:
        """Run 0-based optimizer step `step`.

        Raises:
            NonFiniteError: loss or gradient norm is not finite; nothing was updated.
        """
        self.model.train()
        torch.manual_seed(_step_seed(self._seed, step))
        names = self._objective.names
        total = torch.zeros(1 + len(names) if names else (), device=self._device)
        tokens = 0
        for batch, share in self._shares(step):
            with autocast(self._device, self._dtype):
                values = self._loss(*batch) / share
            torch.autograd.backward(self._scaler.scale(values[0] if names else values))
            total += values.detach()
            tokens += batch[0].numel()
        multiplier = self._lr_multiplier(step)
        (loss, *figures), norm, skipped = self._update(step, total.reshape(-1), multiplier)
        named = dict(zip(names, figures, strict=True))
        return StepResult(loss, norm, multiplier, tokens, skipped, named)

    def _shares(self, step: int) -> list[tuple[Batch, float]]:
        """The micro-batches of a step, each with what to divide its mean by, so that their sum is
        the mean over all that counts in the step; without those in which nothing does."""
        first = step * self._accumulation
        batches = [self._batches.batch(first + micro) for micro in range(self._accumulation)]
        if len(batches) == 1:
            return [(batches[0], 1)]  # nothing to count, which would wait for the device
        counts = torch.stack([self._objective.count(batch) for batch in batches]).tolist()
        total = sum(counts)
        return [
            (batch, total / count) for batch, count in zip(batches, counts, strict=True) if count
        ]

    def _update(
        self, step: int, totals: Tensor, multiplier: float
    ) -> tuple[list[float], float, bool]:
        for part in self.optimizer.parts:
            self._scaler.unscale_(part)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        *values, norm_value = torch.cat((totals, norm.float()[None])).tolist()
        loss_value = values[0]
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        overflow = not finite and math.isfinite(loss_value) and self._scaler.is_enabled()
        self._skipped = self._skipped + 1 if overflow else 0
        if not finite and (not overflow or self._skipped > _MOST_SKIPPED):
            self.optimizer.zero_grad()
            raise NonFiniteError(step, loss_value, norm_value)
        self.optimizer.set_multiplier(multiplier)
        if not overflow:  # or only the part whose gradients overflowed would be left out
            for part in self.optimizer.parts:
                self._scaler.step(part)
        self._scaler.update()
        self.optimizer.zero_grad()
        return values, norm_value, overflow

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Score held-out batches; targets of -100 do not count.

        Touches neither the weights nor the training's random numbers.
        """
        self.model.eval()
        names = self._objective.names
        sums, count = [0.0] * (1 + len(names)), 0
        for batch in batches:
            with autocast(self._device, self._dtype):
                some, scored = self._objective.score(batch)
            sums = [known + new for known, new in zip(sums, some, strict=True)]
            count += scored
        self.model.train()
        loss, *figures = (value / max(1, count) for value in sums)
        return Evaluation(loss, count, dict(zip(names, figures, strict=True)))

    def scaler_state(self) -> dict[str, float]:
        """The fp16 loss scale, empty in other precisions."""
        return dict(self._scaler.state_dict())

    def load_scaler_state(self, state: dict[str, float]) -> None:
        if state:
            self._scaler.load_state_dict(state)


def _step_seed(seed: int, step: int) -> int:
    """Seed of the step's dropout: consecutive steps get unrelated streams."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0] >> 1)
