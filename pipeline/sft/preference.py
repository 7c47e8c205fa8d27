"""Direct preference optimisation: the answer that was liked becomes likelier than the other one.

Rafailov et al. 2023, "Direct Preference Optimization", equation 7: -log sigmoid(beta * margin) with
the margin log(p(chosen) / q(chosen)) - log(p(rejected) / q(rejected)), p what is trained and q the
reference, frozen, whose log-probabilities are computed once. Before the first step p is q, so the
loss begins at ln 2. Both probabilities may fall while the margin grows, so both are measured.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import float64_sum
from model.gpt import GPT
from pipeline.tokens.batches import IGNORE


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

    A batch is inputs and targets (2 pairs, T) int64, aligned, -100 where nothing is scored, and
    (2 pairs,) float32: what `sum_log_probabilities` gave for the same rows before training. The
    figures are means over pairs: log-probabilities of both answers in nats, beta times the margin,
    and the share of pairs whose margin is above zero.
    """

    names: tuple[str, ...] = ("chosen_logprob", "rejected_logprob", "margin", "accuracy")

    def __init__(self, model: GPT, *, beta: float, nll_weight: float = 0.0) -> None:
        self._model, self._beta, self._nll_weight = model, beta, nll_weight

    def loss(self, *batch: Tensor) -> Tensor:
        """Means over the pairs: the loss, with a gradient, and the figures, (5,) float32."""
        losses, figures = self._of_pairs(*batch)
        return torch.cat((losses.mean()[None], figures.detach().mean(dim=1)))

    def count(self, batch: Sequence[Tensor]) -> Tensor:
        """The pairs of a batch, () int64."""
        return torch.tensor(len(batch[0]) // 2)

    def score(self, batch: Sequence[Tensor]) -> tuple[list[float], int]:
        """The sums of loss and figures over the pairs of a batch, and how many these are."""
        losses, figures = self._of_pairs(*batch)
        sums = [float64_sum(values) for values in (losses, *figures)]
        return sums, len(losses)

    def _of_pairs(
        self, inputs: Tensor, targets: Tensor, reference: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of each pair (pairs,), and its figures (4, pairs)."""
        logprobs = sum_log_probabilities(self._model, inputs, targets)
        ratios = logprobs - reference
        margins = self._beta * (ratios[0::2] - ratios[1::2])
        losses = -F.logsigmoid(margins)
        if self._nll_weight:
            tokens = (targets[0::2] != IGNORE).sum(dim=1).clamp(min=1)
            losses = losses - self._nll_weight * logprobs[0::2] / tokens
        won = (margins > 0).float()
        return losses, torch.stack((logprobs[0::2], logprobs[1::2], margins, won))


@torch.no_grad()
def reference_log_probabilities(model: GPT, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """What `model` makes of the rows of all batches, one behind the other: (rows,) float32 on the
    CPU. The model is left in the mode that it was in."""
    was_training = model.training
    model.eval()
    parts = [sum_log_probabilities(model, *batch).cpu() for batch in batches]
    model.train(was_training)
    return torch.cat(parts)
