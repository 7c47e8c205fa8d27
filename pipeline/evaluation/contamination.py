"""Which items a model may have seen: stretches of an item's tokens that stand in the training text.

The rule, in one place: an item is taken to be seen where `GRAM` tokens in a row of its question
and right answer stand in the training text, as GPT-3 was checked with 13 words (T. Brown et al.
2020, arXiv:2005.14165, appendix C). A whole document always shares such stretches with others of
its kind (licences, idioms of code), so that it counts as seen where `DOCUMENT_SHARE` of its tokens
lie in them, as PaLM's share of 70 % (A. Chowdhery et al. 2022, arXiv:2204.02311, section 8). Of
tokens that are shorter than usual, characters say, as many more are taken as `GRAM_BYTES` take.
Texts that are shorter than a stretch are looked for whole, those below `SHORTEST` of it not at all,
as both checks took at least 8.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.tasks.task import Item, PairTask, Task
from pipeline.tokenizer.tokenizer import Tokenizer

GRAM = 12
GRAM_BYTES = 48
SHORTEST = 2 / 3
DOCUMENT_SHARE = 0.7

Ids: TypeAlias = npt.NDArray[Any]
_Words: TypeAlias = npt.NDArray[np.uint64]
_CHUNK = 1 << 16  # tokens that are hashed at once: they and their hashes stay in the cache
_FACTOR = 0x9E3779B97F4A7C15  # odd, of the golden ratio
_SPARSE = 4  # bits: the table of what is worth a look has 2^4 to 2^5 places for each stretch


def gram_of(bytes_per_token: float) -> int:
    """How many tokens in a row are looked for, where one has so many bytes of text."""
    return max(GRAM, round(GRAM_BYTES / bytes_per_token))


def rule(gram: int) -> str:
    """In words when an item counts as seen."""
    return (
        f"{gram} tokens in a row of question and right answer, shorter ones whole; of documents "
        f"{DOCUMENT_SHARE:.0%} of the tokens in such stretches"
    )


def is_seen(task: Task, share: float) -> bool:
    """Whether an item of `task` counts as seen, by the share of its tokens in shared stretches."""
    return share >= DOCUMENT_SHARE if task.kind == "documents" else share > 0


def texts_of(task: Task, item: Item) -> list[str]:
    """What of an item is looked for: a document; the acceptable sentence, as it stands at the
    beginning of a text and inside of one; else the question with the right answer."""
    context, answer = item.requests[min(item.gold, len(item.requests) - 1)]
    if isinstance(task, PairTask):
        return [answer, f" {answer}"]
    return [context + answer]


class Search:
    """Looks for the items of tasks in stretches of training ids, each read once.

    `wanted` are items of tasks; `tokenizer` is the one that made the ids, of which `gram` in a row
    are looked for.
    """

    def __init__(
        self, wanted: Sequence[tuple[Task, Sequence[Item]]], tokenizer: Tokenizer, gram: int
    ) -> None:
        self._wanted = wanted
        texts = [text for task, items in wanted for item in items for text in texts_of(task, item)]
        self._sequences = Sequences(tokenizer.encode_batch(texts), gram)

    def look_in(self, stretch: Ids) -> None:
        """Note what of the items stands in neighbouring ids of the training text."""
        self._sequences.look_in(stretch)

    def shares(self) -> list[list[float | None]]:
        """For every task the share of each item's tokens in stretches that were met; None of
        items that are too short to tell."""
        found = iter(self._sequences.covered())
        return [
            [_largest([next(found) for _ in texts_of(task, item)]) for item in items]
            for task, items in self._wanted
        ]


def _largest(shares: Sequence[float | None]) -> float | None:
    return max((share for share in shares if share is not None), default=None)


class Sequences:
    """Sequences of ids, and what of them was met in others."""

    def __init__(self, sequences: Sequence[Ids], gram: int) -> None:
        self._gram, self._shortest = gram, math.ceil(SHORTEST * gram)
        self._lengths = [min(len(ids), gram) for ids in sequences]
        pairs = [*zip(sequences, self._lengths, strict=True)]
        self._wanted = [
            _Grams(n, [ids for ids, length in pairs if length == n])
            for n in sorted(set(self._lengths))
            if n >= self._shortest
        ]

    def look_in(self, stretch: Ids) -> None:
        """Note what stands in neighbouring ids."""
        for chunk in _chunks(stretch, self._gram):
            words = chunk.astype(np.uint64)
            for grams in self._wanted:
                grams.look_in(words)

    def covered(self) -> list[float | None]:
        """The share of each one's ids in stretches of `gram`, or in itself where it is shorter,
        that were met; None where it is too short to tell."""
        found = {grams.n: iter(grams.covered()) for grams in self._wanted}
        return [next(found[n]) if n >= self._shortest else None for n in self._lengths]


def _chunks(stretch: Ids, gram: int) -> Iterator[Ids]:
    """A stretch piece by piece, each with as much of the next as a gram that begins in it needs."""
    for begin in range(0, len(stretch), _CHUNK):
        yield stretch[begin : begin + _CHUNK + gram - 1]


class _Grams:
    """All stretches of `n` ids in some sequences, and which of them were met."""

    def __init__(self, n: int, sequences: Sequence[Ids]) -> None:
        self.n = n
        self._lengths = [len(ids) for ids in sequences]
        self._ids = np.concatenate(sequences).astype(np.uint64)
        # Stretches over the end of a sequence are no sequence's, and left out.
        ends = np.cumsum(self._lengths, dtype=np.int64)
        self._owned = np.ones(len(self._ids) - n + 1, bool)
        for end in ends[:-1]:
            self._owned[end - n + 1 : end] = False
        self._first = ends - np.array(self._lengths, np.int64)
        hashes = _hashes(self._ids, n)
        self._known, at, self._which = np.unique(hashes, return_index=True, return_inverse=True)
        self._rows = self._ids[at[:, None] + np.arange(n)]  # (distinct stretches, n)
        self._met = np.zeros(len(self._known), bool)
        bits = len(self._known).bit_length() + _SPARSE
        self._shift = np.uint64(64 - bits)
        self._worth = np.zeros(1 << bits, bool)  # by the first bits of a hash
        self._worth[(self._known >> self._shift).view(np.int64)] = True

    def look_in(self, words: _Words) -> None:
        """Note which stretches stand in `words`; hashes find them, the ids decide."""
        if len(words) < self.n:
            return
        hashes = _hashes(words, self.n)
        places = np.flatnonzero(self._worth.take((hashes >> self._shift).view(np.int64)))
        found = np.searchsorted(self._known, hashes[places])
        found[found == len(self._known)] = 0
        same = self._known[found] == hashes[places]
        places, found = places[same], found[same]
        equal = (words[places[:, None] + np.arange(self.n)] == self._rows[found]).all(axis=1)
        self._met[found[equal]] = True

    def covered(self) -> list[float]:
        """The share of every sequence's ids that lie in stretches that were met."""
        begins = np.flatnonzero(self._met[self._which] & self._owned)
        places = begins[:, None] + np.arange(self.n)
        exact = (self._ids[places] == self._rows[self._which[begins]]).all(axis=1)
        marks = np.zeros(len(self._ids), np.int64)
        marks[places[exact]] = 1
        return [float(x) for x in np.add.reduceat(marks, self._first) / np.array(self._lengths)]


def _hashes(words: _Words, n: int) -> _Words:
    """A hash of every `n` ids in a row: Σ (id + 1) F^(n - 1 - i) modulo 2^64, put together of those
    of 1, 2, 4 ... ids."""
    count = len(words) - n + 1
    result: _Words = np.zeros(count, np.uint64)
    power, size, done = _FACTOR, 1, 0
    doubled = (words + np.uint64(1)) * np.uint64(power)
    while True:
        if n & size:  # these stand before what was put together so far
            before = doubled[n - done - size :][:count]
            result += before * np.uint64(pow(_FACTOR, done, 1 << 64))
            done += size
        if done == n:
            return result
        doubled = doubled[:-size] * np.uint64(power) + doubled[size:]
        power, size = power * power % (1 << 64), 2 * size
