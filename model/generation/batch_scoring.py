"""How likely many texts are at once, with the beginning that texts share read once.

The continuations of one context lie one behind the other in a row: the context, then every
continuation at the positions behind it, and a mask that hides them from each other. Rows of similar
length make a batch; on a CPU every worker thread reads batches of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from model.generation.sampling import argmax_logsumexp
from model.gpt import GPT
from model.layers.limits import slice_length

_WORTH = 0.2  # share of the ids that reading them once must save, as masks cost too
_BATCH_ON_CPU = 512  # positions: products are at full speed, rows hardly differ, caches hold them
_BATCH_ON_GPU = 16384
_MOST_WORKERS = 8


class ScoredText(NamedTuple):
    """Ids of a text, of which the last `scored` are asked for, with at least one before them."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class Likelihood:
    """What a model makes of the scored ids of a text.

    `logprob` is the sum of their log-probabilities in nats, NaN where the model computes NaN;
    `greedy` says that each is the likeliest at its place. `ranks`, where they were asked for, count
    the ids that are likelier at each place.
    """

    logprob: float
    tokens: int
    greedy: bool
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Row:
    """Texts of a group as one row of a batch: `ids` and `positions` of all inputs, `branches` tells
    which text a position belongs to, 0 for the beginning that all share. Of each text `places` and
    `targets` are those of its scored ids."""

    group: int
    texts: list[ScoredText]
    ids: list[int]
    positions: list[int]
    branches: list[int]
    places: list[list[int]]

    @property
    def is_plain(self) -> bool:
        """Whether it is one text, which needs no mask of its own."""
        return not self.branches[-1]


_Scored: TypeAlias = list[list[Likelihood]]
"""Of every row, the likelihoods of its texts."""


def likelihoods(
    model: GPT,
    groups: Sequence[Sequence[ScoredText]],
    *,
    batch_tokens: int | None = None,
    ranks: bool = False,
) -> Iterator[tuple[int, list[Likelihood]]]:
    """The likelihoods of every group's texts, as `(index of the group, its likelihoods)`.

    Long rows come first, so that what does not fit into memory fails at once. A batch holds
    `batch_tokens` positions, or one row; None takes what suits the device. A text is at most one id
    longer than the model's context. Identical texts of a group get identical likelihoods.

    Raises:
        ValueError: a text without anything before its scored ids, or longer than the context.
    """
    context = model.config.max_position_embeddings
    rows: list[_Row] = []
    unfinished: list[dict[ScoredText, Likelihood | None]] = []
    for index, texts in enumerate(groups):
        for text in texts:
            if not 0 < text.scored < len(text.ids) <= context + 1:
                raise ValueError(
                    f"{text.scored} scored of {len(text.ids)} ids in a context of {context}"
                )
        unique: dict[ScoredText, Likelihood | None] = dict.fromkeys(texts)
        unfinished.append(unique)
        rows += _rows(index, list(unique))
    suiting = _BATCH_ON_CPU if model.device.type == "cpu" else _BATCH_ON_GPU
    batches = list(_batches(rows, batch_tokens or suiting))
    for batch, scored in zip(
        batches, _in_workers(model, partial(_score, model, ranks=ranks), batches), strict=True
    ):
        for row, found in zip(batch, scored, strict=True):
            group = unfinished[row.group]
            group.update(zip(row.texts, found, strict=True))
            known = [each for text in groups[row.group] if (each := group[text]) is not None]
            if len(known) == len(groups[row.group]):
                yield row.group, known


def _rows(group: int, texts: list[ScoredText]) -> list[_Row]:
    """One row of all texts where that saves ids enough, else each in its own."""
    shared = _common([text.ids[:-1] for text in texts])
    separate = sum(len(text.ids) - 1 for text in texts)
    if shared * (len(texts) - 1) < _WORTH * separate:
        return [_row(group, [text], len(text.ids) - 1) for text in texts]
    return [_row(group, texts, shared)]


def _row(group: int, texts: list[ScoredText], shared: int) -> _Row:
    row = _Row(group, texts, list(texts[0].ids[:shared]), list(range(shared)), [0] * shared, [])
    for branch, text in enumerate(texts, 1):
        behind = len(row.ids) - shared  # how far behind its position an id of this branch lies
        own = text.ids[shared:-1]
        row.ids.extend(own)
        row.positions.extend(range(shared, shared + len(own)))
        row.branches.extend([branch] * len(own))
        at = range(len(text.ids) - 1 - text.scored, len(text.ids) - 1)
        row.places.append([place if place < shared else place + behind for place in at])
    return row


def _common(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many ids all begin with."""
    first, last = min(sequences), max(sequences)
    pairs = enumerate(zip(first, last, strict=False))
    return next((at for at, (a, b) in pairs if a != b), len(first))


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    """Neighbours in order of length; plain rows apart, as they need no mask."""
    for plain in (False, True):
        batch: list[_Row] = []
        some = [row for row in rows if row.is_plain == plain]
        for row in sorted(some, key=lambda row: -len(row.ids)):
            if batch and (len(batch) + 1) * len(batch[0].ids) > batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def _in_workers(
    model: GPT, score: Callable[[list[_Row]], _Scored], batches: Sequence[list[_Row]]
) -> Iterator[_Scored]:
    """What `score` makes of each batch, in order.

    On a CPU several threads score one batch each, with a share of torch's threads: they never wait
    for each other, as threads within one product do, which costs most where other programs run.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST_WORKERS, len(batches)) if model.device.type == "cpu" else 1
    if workers < 2:
        yield from map(score, batches)
        return
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
    )
    try:
        yield from pool.map(score, batches)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a worker's setting is what later threads would get


@torch.inference_mode()
def _score(model: GPT, batch: Sequence[_Row], ranks: bool) -> _Scored:
    """The likelihoods of every row's texts."""
    hidden = _hidden(model, batch)  # (B, T, C)
    texts = [text for row in batch for text in row.texts]
    rows = [number for number, row in enumerate(batch) for some in row.places for _ in some]
    places = [place for row in batch for some in row.places for place in some]
    targets = [id for text in texts for id in text.ids[-text.scored :]]
    wanted = torch.tensor(targets, device=model.device)
    sizes = [text.scored for text in texts]
    computed = _scores(model, hidden[rows, places], wanted, ranks)
    columns = (torch.split(column, sizes) for column in computed)
    found = iter(
        [
            Likelihood(
                float(logprobs.double().sum()),
                len(logprobs),
                bool(greedy.all()),
                tuple(rank.tolist()) if ranks else (),
            )
            for logprobs, greedy, rank in zip(*columns, strict=True)
        ]
    )
    return [[next(found) for _ in row.texts] for row in batch]


def _hidden(model: GPT, batch: Sequence[_Row]) -> Tensor:
    """The residual stream of a batch, rows filled up at their ends, where nothing looks."""
    longest = len(batch[0].ids)
    device = model.device
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in batch], device=device)
    if all(row.is_plain for row in batch):
        return model.hidden(ids)
    filled = [row.positions + [0] * (longest - len(row.ids)) for row in batch]
    positions = torch.tensor(filled, device=device)
    branches = torch.tensor(
        [row.branches + [-1] * (longest - len(row.ids)) for row in batch], device=device
    )
    return model.hidden(ids, positions=positions, mask=_tree_mask(positions, branches, model.dtype))


def _tree_mask(positions: Tensor, branches: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask (B, T, T): a position sees those up to its own in the shared beginning and in
    its own branch; positions and branches are (B, T), branch -1 is filling."""
    related = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    visible = related & (positions[:, None, :] <= positions[:, :, None])
    mask = torch.zeros(visible.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(~visible, float("-inf"))


def _scores(model: GPT, hidden: Tensor, targets: Tensor, ranks: bool) -> tuple[Tensor, ...]:
    """Log-probabilities of targets (N,), whether each is the likeliest, and their ranks; hidden is
    (N, C). All on the CPU; only a slice's logits are held at once."""
    parts = []
    size = slice_length(model.config.vocab_size)
    for some, wanted in zip(torch.split(hidden, size), torch.split(targets, size), strict=True):
        logits = model.logits(some).float()  # (n, V)
        best = argmax_logsumexp(logits)
        own = logits.gather(1, wanted[:, None])
        rank = (logits > own).sum(1) if ranks else torch.zeros_like(wanted)
        parts.append((own[:, 0] - best.logsumexp, best.argmax == wanted, rank))
    return tuple(torch.cat(column).cpu() for column in zip(*parts, strict=True))
