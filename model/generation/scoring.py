"""How likely the ids of a given text are, one by one: what tools that evaluate models ask for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.generation.sampling import Alternatives, argmax_logsumexp, likeliest, pair_alternatives


@dataclass(frozen=True)
class Scored:
    """One id of a text. `logprob`, None where nothing stands before it, and the `alternatives` are
    those of a `NewToken`."""

    id: int
    logprob: float | None
    alternatives: Alternatives = ()


@dataclass(frozen=True)
class Scores:
    """A piece of a text: its `ids` and their `logprobs` (n,) float32, with the k likeliest at each
    place, (n, k) int32 and float32, all on the CPU; as an iterable, a `Scored` for each.

    With 20 alternatives that is 160 bytes a token, where the objects need 3,000.
    """

    ids: Sequence[int]
    logprobs: Tensor
    likeliest: Tensor
    likeliest_logprobs: Tensor

    def __iter__(self) -> Iterator[Scored]:
        named = pair_alternatives(self.likeliest, self.likeliest_logprobs)
        return map(Scored, self.ids, self.logprobs.tolist(), named)


def score(
    pieces: Iterable[Tensor],
    ids: Sequence[int],
    vocabulary: int,
    alternatives: int,
    counts_padding: bool = False,
) -> Iterator[Scores]:
    """Log-probabilities of the ids but the first, from `pieces`, a runner's `logits_along`.

    Ids from `vocabulary` on are never named, since a padded head has more than the tokenizer, and
    take no probability unless `counts_padding`.
    """
    done = 1
    for piece in pieces:
        logits = piece[:, :vocabulary]
        following = ids[done : done + len(logits)]
        logits, done = logits[: len(following)], done + len(following)
        counted = piece[: len(following)] if counts_padding else logits
        totals = argmax_logsumexp(counted).logsumexp
        places = torch.tensor(following, device=logits.device)[:, None]
        logprobs = logits.gather(1, places)[:, 0] - totals
        best, best_ids = likeliest(logits, min(alternatives, logits.shape[1]))
        found = (logprobs, best_ids.int(), best - totals[:, None])
        yield Scores(following, *(tensor.cpu() for tensor in found))
