"""Scores made lower or higher for what a text holds already, or as somebody wishes. Pure: new
scores (rows, V) for those given, on any device."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
    ids, wished = zip(*bias, strict=True)
    added = torch.zeros_like(scores[0])
    added[list(ids)] = scores.new_tensor(wished)
    return scores + added
