"""Direct preference optimisation: the answer that was liked becomes likelier than the other one.

Rafailov et al. 2023, "Direct Preference Optimization", equation 7: -log sigmoid(beta * margin) with
the margin log(p(chosen) / q(chosen)) - log(p(rejected) / q(rejected)), p what is trained and q the
reference, frozen, whose log-probabilities are computed once. Before the first step p is q, so the
loss begins at ln 2. Both probabilities may fall while the margin grows, so both are measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import autocast, float64_sum
from model.gpt import GPT
from model.tensors import read_tensors, write_tensors
from pipeline.conversations.example_set import ExampleSet, Indices
from pipeline.sft.batches import ConversationBatches
from pipeline.sft.packing import Row
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.batches import IGNORE
from utils.errors import RefusedError

REFERENCE = "reference.safetensors"
"""The file of a run's folder with what the weights that it began with make of all answers."""


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


class PreferenceBatches(ConversationBatches):
    """Micro-batches for `PreferenceLoss`: the answers of each pair one below the other, with what
    `reference` (examples,) float32 says of them. `items` are numbers of pairs."""

    def __init__(
        self, data: ExampleSet, items: Indices, *, reference: Tensor, **settings: Any
    ) -> None:
        super().__init__(data, items, packed=False, **settings)
        self._reference = reference.to(self._device)

    def tensors(self, rows: list[Row]) -> tuple[Tensor, ...]:
        """Inputs, targets and reference of pairs, each a row with its number."""
        examples = [example for row in rows for pair in row for example in ExampleSet.pair(pair)]
        inputs, targets = super().tensors([[example] for example in examples])
        return inputs, targets, self._reference[examples]

    def texts(self, number: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
        """What micro-batch `number` reads, for a person."""
        return [
            {"pair": pair, "answer": answer, "token_ids": ids, "text": tokenizer.decode(ids)}
            for row in self.rows(number)
            for pair in row
            for answer, example in zip(("chosen", "rejected"), ExampleSet.pair(pair), strict=True)
            for ids in [self._data.ids(example).tolist()]
        ]


@torch.no_grad()
def reference_log_probabilities(
    model: GPT, data: ExampleSet, *, window: int, batch_size: int, dtype: torch.dtype
) -> Tensor:
    """The log-probability that `model` gives the scored tokens of each example, in nats:
    (examples,) float32 on the CPU. Products are computed in `dtype`, `batch_size` pairs at once;
    the model is left in the mode that it was in."""
    device, was_training = model.device, model.training
    encoded = ConversationBatches(
        data, data.train, window=window, batch_size=batch_size, accumulation=1, packed=False,
        seed=0, device=device,
    )  # fmt: skip
    found = torch.zeros(len(data))
    model.eval()
    order = np.argsort(data.lengths, kind="stable").tolist()
    for at in range(0, len(order), 2 * batch_size):
        some = order[at : at + 2 * batch_size]
        inputs, targets = encoded.tensors([[example] for example in some])
        with autocast(device, dtype):
            found[some] = sum_log_probabilities(model, inputs, targets).float().cpu()
    model.train(was_training)
    return found


def write_reference(path: Path, data: ExampleSet, reference: Tensor) -> None:
    """Keep what `reference_log_probabilities` found for `data`."""
    held = {"log_probabilities": reference, "set": _identity(data)}
    write_tensors(path, held)


def read_reference(path: Path, data: ExampleSet) -> Tensor | None:
    """What was kept for `data`, bit for bit; None where that is not there, or damaged."""
    try:
        held = read_tensors(path)
    except RefusedError:
        return None
    same = torch.equal(held.get("set", torch.empty(0)), _identity(data))
    return held["log_probabilities"] if same else None


def _identity(data: ExampleSet) -> Tensor:
    """The fingerprint of a set as bytes."""
    return torch.tensor(list(data.fingerprint.encode()), dtype=torch.uint8)
