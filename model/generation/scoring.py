"""How likely a text is that is there already, id by id: what tools that evaluate models ask for."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.generation.sampling import Alternatives, likeliest, name
from model.gpt import GPT
from model.layers.cache import KeyValueCache
from model.layers.limits import slice_length
from model.native.argmax_logsumexp import summary
from model.native.threads import threads_for

_PIECE = 128  # ids read at once, so that somebody else may have a turn between two pieces


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
        named = name(self.likeliest, self.likeliest_logprobs)
        return map(Scored, self.ids, self.logprobs.tolist(), named)


def score(
    pieces: Iterable[Tensor], ids: Sequence[int], vocabulary: int, alternatives: int
) -> Iterator[Scores]:
    """What `pieces`, a reader's `logits_along`, say of the ids, the first of which has nothing
    before it.

    Ids from `vocabulary` on do not count: a padded head has more than the tokenizer.
    """
    done = 1
    for piece in pieces:
        logits = piece[:, :vocabulary]
        wanted = ids[done : done + len(logits)]
        logits, done = logits[: len(wanted)], done + len(wanted)
        totals = summary(logits).totals
        places = torch.tensor(wanted, device=logits.device)[:, None]
        logprobs = logits.gather(1, places)[:, 0] - totals
        best, best_ids = likeliest(logits, min(alternatives, logits.shape[1]))
        found = (logprobs, best_ids.int(), best - totals[:, None])
        yield Scores(wanted, *(tensor.cpu() for tensor in found))


@torch.inference_mode()
def logits_along(model: GPT, ids: Sequence[int]) -> Iterator[Tensor]:
    """See `model.generation.reader.Reader`; keys and values are remembered until the last piece."""
    cache = KeyValueCache(model.config, 1, len(ids), device=model.device, dtype=model.dtype)
    size = piece_length(model.config.vocab_size)
    for start in range(0, len(ids), size):
        with threads_for(model):
            piece = torch.tensor([ids[start : start + size]], device=model.device)
            logits = model.logits(model.hidden(piece, cache)[0]).float()
        yield logits


def piece_length(vocabulary: int) -> int:
    """Ids whose logits are held at once."""
    return min(_PIECE, slice_length(vocabulary))
