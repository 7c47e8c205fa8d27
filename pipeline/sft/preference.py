"""Direct preference optimisation: the answer that was liked becomes likelier than the other one.

Rafailov et al. 2023, "Direct Preference Optimization", equation 7: -log sigmoid(beta * margin) with
the margin log(p(chosen) / q(chosen)) - log(p(rejected) / q(rejected)), p what is trained and q the
reference, frozen, whose log-probabilities are computed once. Before the first step p is q, so the
loss begins at ln 2. Both probabilities may fall while the margin grows, so both are measured.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.gpt import GPT
from pipeline.tokens.batches import IGNORE


class PreferenceFigures(NamedTuple):
    """Means over pairs: log-probabilities of both answers in nats, `margin` is beta times that of
    the loss, `accuracy` the share of pairs whose margin is above zero."""

    chosen_logprob: float
    rejected_logprob: float
    margin: float
    accuracy: float


def sum_log_probabilities(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each row's scored targets together, in nats: (rows,) float32.

    inputs and targets (rows, T) int64, aligned; -100 is not scored. Differentiable.
    """
    return -model.token_losses(inputs, targets).sum(dim=1)


class PreferenceLoss:
    """The loss of pairs: row 2i of a batch is the chosen answer of pair i, row 2i + 1 the rejected.

    beta: how much the margin counts, 1 / nats. nll_weight: what the mean loss per token of the
    chosen answer, in nats, is added with, which keeps it likely (Pang et al. 2024, "Iterative
    Reasoning Preference Optimization").
    """

    def __init__(self, model: GPT, *, beta: float, nll_weight: float = 0.0) -> None:
        self._model, self._beta, self._nll_weight = model, beta, nll_weight
        self._seen: list[Tensor] = []

    def __call__(self, inputs: Tensor, targets: Tensor, reference: Tensor) -> Tensor:
        """The mean over the pairs, () float32 with a gradient.

        inputs and targets are (2 pairs, T) int64, reference (2 pairs,) float32 is what
        `sum_log_probabilities` gave for the same rows before training.
        """
        logprobs = sum_log_probabilities(self._model, inputs, targets)
        ratios = logprobs - reference
        margins = self._beta * (ratios[0::2] - ratios[1::2])  # (pairs,)
        losses = -F.logsigmoid(margins)
        if self._nll_weight:
            tokens = (targets[0::2] != IGNORE).sum(dim=1).clamp(min=1)
            losses = losses - self._nll_weight * logprobs[0::2] / tokens
        won = (margins > 0).float()
        self._seen.append(torch.stack((logprobs[0::2], logprobs[1::2], margins, won)).detach())
        return losses.mean()

    def take_figures(self) -> PreferenceFigures:
        """Those of all pairs since the last call, of which there is at least one."""
        means = torch.cat(self._seen, dim=1).double().mean(dim=1)
        self._seen.clear()
        return PreferenceFigures(*means.tolist())


def count_pairs(inputs: Tensor) -> int:
    """Pairs in a batch of rows (2 pairs, T)."""
    return len(inputs) // 2


@torch.no_grad()
def reference_log_probabilities(model: GPT, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """What `model` makes of the rows of all batches, one behind the other: (rows,) float32 on the
    CPU. The model is left in the mode that it was in."""
    was_training = model.training
    model.eval()
    parts = [sum_log_probabilities(model, *batch).cpu() for batch in batches]
    model.train(was_training)
    return torch.cat(parts)
