"""The next token of each row, drawn from logits (rows, V) float32.

`draw` applies repetition, presence and frequency penalties and biases, then temperature, then the
limits top-k, top-p and min-p, and draws with one uniform number a row. `argmax_logsumexp` and
`likeliest` are also what scoring needs. The settings are `model.generation.settings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from model.generation.settings import SamplingSettings as SamplingSettings  # exported from here

try:
    from model.native.decoder import argmax_logsumexp as _in_c
except ModuleNotFoundError:  # the folder model/native was deleted: torch computes

    def _in_c(scores: Tensor) -> tuple[Tensor, Tensor] | None:
        return None


Finish = Literal["stop", "length"]
Alternatives: TypeAlias = tuple[tuple[int, float], ...]
"""Likeliest first: ids and their log-probabilities in nats."""

_GROUP = 64  # scores whose largest is looked at first
_FIRST_LOOK = 1024  # likeliest tokens that top-p and min-p are tried on before all are sorted


@dataclass(frozen=True)
class NewToken:
    """One decided token of the row with this key.

    `logprob`, in nats, and those of the `alternatives` are the model's own, before temperature,
    penalties and limits.
    """

    row: int
    id: int
    logprob: float
    finish: Finish | None
    alternatives: Alternatives = ()


@dataclass(frozen=True)
class Drawn:
    """Ids and their log-probabilities of a step, one a row; see `NewToken`."""

    ids: list[int]
    logprobs: list[float]
    alternatives: list[Alternatives]


@torch.inference_mode()
def draw(
    logits: Tensor,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
    seen: Sequence[Sequence[int]],
    drawn: Sequence[Sequence[int]] = (),
) -> Drawn:
    """The next token of each row of logits (rows, V) float32.

    Every row takes one uniform number from its own generator, on the CPU whatever the device; a
    row with temperature 0 takes none. `seen` are the ids of each row so far, `drawn` those after
    its prompt, which `counts_drawn` asks for.
    """
    whole, logits = logits, logits[:, : settings.vocabulary]
    scores = logits
    if settings.repetition_penalty != 1:
        scores = penalise_repetition(scores, seen, settings.repetition_penalty)
    if settings.counts_drawn:
        presence, frequency = settings.presence_penalty, settings.frequency_penalty
        scores = penalise_drawn(scores, drawn, presence, frequency)
    if settings.logit_bias:
        scores = add_bias(scores, settings.logit_bias)
    likeliest_ids, total = argmax_logsumexp(logits)
    if settings.counts_padding and whole.shape[1] > logits.shape[1]:
        total = argmax_logsumexp(whole).logsumexp
    if settings.temperature == 0:
        chosen = likeliest_ids if scores is logits else scores.argmax(dim=-1)
    else:
        candidates, ids = scores / settings.temperature, None
        if settings.limited:
            candidates, ids = keep_likely(candidates, settings)
        cumulative = candidates.softmax(dim=-1).cumsum(dim=-1)
        draws = torch.cat([torch.rand(1, generator=generator) for generator in generators])
        thresholds = draws.to(scores.device)[:, None] * cumulative[:, -1:]
        place = torch.searchsorted(cumulative, thresholds, right=True)
        place.clamp_(max=candidates.shape[1] - 1)
        chosen = (place if ids is None else ids.gather(1, place))[:, 0]
    decided = logits.gather(1, chosen[:, None])[:, 0] - total
    named: list[Alternatives] = [()] * len(logits)
    if settings.alternatives:
        best, best_ids = likeliest(logits, min(settings.alternatives, logits.shape[1]))
        named = pair_alternatives(best_ids, best - total[:, None])
    return Drawn(chosen.tolist(), decided.tolist(), named)


class ArgmaxLogsumexp(NamedTuple):
    """Of each row of scores: where the largest is (int64), and the logarithm of the sum of all
    exponentials (float32), both (rows,)."""

    argmax: Tensor
    logsumexp: Tensor


def argmax_logsumexp(scores: Tensor) -> ArgmaxLogsumexp:
    """What every drawn token needs of scores (rows, n) float32, on any device; in one pass where
    the C engine is at hand. A NaN makes its row's logarithm NaN."""
    found = _in_c(scores)
    if found is None:
        found = scores.argmax(dim=-1), scores.logsumexp(dim=-1)
    return ArgmaxLogsumexp(*found)


def pair_alternatives(ids: Tensor, logprobs: Tensor) -> list[Alternatives]:
    """Ids and their log-probabilities (rows, k) in pairs."""
    rows = zip(ids.tolist(), logprobs.tolist(), strict=True)
    return [tuple(zip(*row, strict=True)) for row in rows]


def keep_likely(scores: Tensor, settings: SamplingSettings) -> tuple[Tensor, Tensor]:
    """The scores (rows, n) that top-k, top-p and min-p allow, and their ids, likeliest first.

    Excluded candidates within n have score -inf; the likeliest always stays. Holtzman et al. 2020
    (top-p), Nguyen et al. 2024 (min-p).
    """
    vocabulary = scores.shape[-1]
    count = min(settings.top_k or vocabulary, vocabulary)
    if settings.top_k is None and count > _FIRST_LOOK:
        best, ids = scores.topk(_FIRST_LOOK, dim=-1)
        probabilities = (best - scores.logsumexp(dim=-1, keepdim=True)).exp()
        excluded = _excluded(probabilities, settings)
        if excluded[:, -1].all():  # and so are all that come after
            return best.masked_fill(excluded, float("-inf")), ids
    best, ids = likeliest(scores, count)
    excluded = _excluded(best.softmax(dim=-1), settings)
    return best.masked_fill(excluded, float("-inf")), ids


def likeliest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of scores (rows, n) in falling order, and where they are.

    They are in those groups of 64 whose largest are the largest: a fifth of `topk`'s time on a CPU.
    """
    groups = -(-scores.shape[1] // _GROUP)
    if scores.device.type != "cpu" or 2 * count > groups:
        return scores.topk(count, dim=-1)
    missing = groups * _GROUP - scores.shape[1]
    padded = F.pad(scores, (0, missing), value=float("-inf")) if missing else scores.contiguous()
    grouped = padded.view(len(scores), groups, _GROUP)
    chosen = grouped.amax(dim=2).topk(count, dim=1).indices  # (rows, count)
    members = grouped.gather(1, chosen[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    best, place = members.topk(count, dim=1)
    return best, chosen.gather(1, place // _GROUP) * _GROUP + place % _GROUP


def _excluded(probabilities: Tensor, settings: SamplingSettings) -> Tensor:
    """Which of the likeliest, in falling order, top-p and min-p leave out; never the first."""
    excluded = torch.zeros_like(probabilities, dtype=torch.bool)
    if settings.top_p is not None:
        excluded |= probabilities.cumsum(dim=-1) - probabilities >= settings.top_p
    if settings.min_p is not None:
        excluded |= probabilities < settings.min_p * probabilities[:, :1]
    excluded[:, 0] = False
    return excluded


def penalise_repetition(scores: Tensor, seen: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Make the ids in `seen` less likely: positive scores are divided by `penalty`, negative ones
    multiplied (Keskar et al. 2019, CTRL, section 4.1)."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row, ids in enumerate(seen):
        mask[row, torch.tensor(ids, device=scores.device)] = True
    return torch.where(mask, torch.where(scores > 0, scores / penalty, scores * penalty), scores)


def penalise_drawn(
    scores: Tensor, drawn: Sequence[Sequence[int]], presence: float, frequency: float
) -> Tensor:
    """An id that was drawn c times loses c * `frequency`, and `presence` where c > 0 (OpenAI's API
    documentation, "Frequency and presence penalties")."""
    counts = torch.zeros_like(scores)
    for row, ids in enumerate(drawn):
        places = torch.tensor(ids, dtype=torch.int64, device=scores.device)
        counts[row].index_add_(0, places, torch.ones_like(places, dtype=scores.dtype))
    return scores - counts * frequency - (counts > 0) * presence


def add_bias(scores: Tensor, bias: Sequence[tuple[int, float]]) -> Tensor:
    """Add to the scores of some ids, in every row."""
    ids, offsets = zip(*bias, strict=True)
    added = torch.zeros_like(scores[0])
    added[list(ids)] = scores.new_tensor(offsets)
    return scores + added
