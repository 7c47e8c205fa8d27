"""Readers: token ids go into numbered slots, logits of what may follow come out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from model.cache import KeyValueCache
from model.config import parameter_count
from model.decode_graph import GraphDecoder
from model.decode_native import native_decoder
from model.gpt import GPT
from model.quantized import QuantizedGPT

_SMALL_MODEL = 16_000_000  # parameters
_FIRST_CAPACITY = 64  # positions
_SHORT = 32  # ids that are read in C, as many as torch's matrix products need to be faster


@dataclass(frozen=True)
class Chunk:
    """Ids that stand at `start`, `start` + 1, ... of a slot and replace what it held there."""

    slot: int
    start: int
    ids: Sequence[int]


class Reader(Protocol):
    """What a batch of texts is written with, whatever computes it. One thread at a time uses it.

    `context` is the most positions of a slot, `vocabulary` the number of logits, `exact` says that
    the same text read in other pieces or beside other texts gives the same logits but for the last
    bits of a float32.
    """

    context: int
    vocabulary: int
    exact: bool

    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """Take in chunks of different slots: logits (chunks, V) float32 after the end of each."""
        ...


class ModelReader:
    """Reads with a model of ours and remembers keys and values.

    Rows of the cache that are read together lie side by side: before a pass, rows change places.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self.exact = _is_exact(model)
        self._native = native_decoder(model)
        self._graphs = GraphDecoder(model) if model.device.type == "cuda" else None
        self._cache: KeyValueCache | None = None
        self._place: list[int] = []  # of each slot: its row in the cache
        self._view: tuple[int, int, KeyValueCache] | None = None

    @torch.inference_mode()
    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """See `Reader`; short chunks are read in one pass, longer ones with those that begin at
        the same position."""
        self._make_room(
            max(chunk.slot for chunk in chunks) + 1,
            max(chunk.start + len(chunk.ids) for chunk in chunks),
        )
        logits = torch.empty(len(chunks), self.vocabulary, device=self.model.device)
        with _threads_for(self.model):
            for start, group in _passes(chunks, 1 if self._native is None else _SHORT):
                view, order = self._side_by_side([chunks[index].slot for index in group])
                ordered = [group[place] for place in order]
                some = [chunks[index] for index in ordered]
                read = self._short(view, some) if start is None else self._long(view, start, some)
                if ordered == list(range(len(chunks))):
                    return read
                logits[ordered] = read
        return logits

    def _long(self, view: KeyValueCache, start: int, chunks: Sequence[Chunk]) -> Tensor:
        """Chunks of unequal length from `start` on, filled up at the end, where nothing looks."""
        device = self.model.device
        longest = max(len(chunk.ids) for chunk in chunks)
        padded = [[*chunk.ids, *[0] * (longest - len(chunk.ids))] for chunk in chunks]
        view.length = start
        hidden = self.model.hidden(torch.tensor(padded, device=device), view)  # (B, longest, C)
        last = torch.tensor([len(chunk.ids) - 1 for chunk in chunks], device=device)
        every = torch.arange(len(chunks), device=device)
        return self.model.logits(hidden[every, last]).float()

    def _short(self, view: KeyValueCache, chunks: Sequence[Chunk]) -> Tensor:
        """Chunks at positions of their own: of a few ids in C, else of one."""
        places = [chunk.start for chunk in chunks]
        if self._native is not None:
            return self._native.step(view, [chunk.ids for chunk in chunks], places)
        if self._graphs is not None:
            return self._graphs.step(view, [chunk.ids[0] for chunk in chunks], places)
        view.length = max(places)
        newest = torch.tensor([list(chunk.ids) for chunk in chunks], device=self.model.device)
        positions = None
        if min(places) != max(places):
            positions = torch.tensor(places, device=newest.device)[:, None]
        hidden = self.model.hidden(newest, view, positions)
        return self.model.logits(hidden[:, -1]).float()

    def _make_room(self, slots: int, positions: int) -> None:
        """Let the cache hold so much, growing by doubling."""
        model = self.model
        if self._cache is None:
            capacity = min(self.context, max(positions, _FIRST_CAPACITY))
            self._cache = KeyValueCache(
                model.config, slots, capacity, device=model.device, dtype=model.dtype
            )
        elif slots > self._cache.rows or positions > self._cache.capacity:
            rows, capacity = self._cache.rows, self._cache.capacity
            rows = rows if slots <= rows else max(slots, 2 * rows)
            if positions > capacity:
                capacity = min(self.context, max(positions, 2 * capacity))
            self._cache.grow(rows, capacity)
            self._view = None
            if self._graphs is not None:
                self._graphs.forget()
        self._place.extend(range(len(self._place), self._cache.rows))

    def _side_by_side(self, slots: Sequence[int]) -> tuple[KeyValueCache, list[int]]:
        """A view of the rows of these slots alone, and the order in which it has them."""
        assert self._cache is not None
        count = len(slots)
        places = [self._place[slot] for slot in slots]
        first = min(places)
        if max(places) - first >= count:
            self._move_to_front(slots)
            places, first = [self._place[slot] for slot in slots], 0
        if self._view is None or self._view[:2] != (first, count):
            self._view = (first, count, self._cache.view(first, count))
        return self._view[2], sorted(range(count), key=places.__getitem__)

    def _move_to_front(self, slots: Sequence[int]) -> None:
        assert self._cache is not None
        slot_at = {place: slot for slot, place in enumerate(self._place)}
        chosen = set(slots)
        free = [place for place in range(len(slots)) if slot_at[place] not in chosen]
        for slot in slots:
            place = self._place[slot]
            if place >= len(slots):
                other_place = free.pop()
                other = slot_at[other_place]
                self._cache.swap(place, other_place, self._cache.capacity)
                self._place[slot], self._place[other] = other_place, place


class WholeReader:
    """Reads every text from its beginning each time: slow, without memory, for models whose
    config switches `use_cache` off and as a check on the cache."""

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self.exact = _is_exact(model)
        self._held: dict[int, list[int]] = {}

    @torch.inference_mode()
    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        rows = []
        for chunk in chunks:
            held = [*self._held.get(chunk.slot, [])[: chunk.start], *chunk.ids]
            self._held[chunk.slot] = held
            with _threads_for(self.model):
                hidden = self.model.hidden(torch.tensor([held], device=self.model.device))
                rows.append(self.model.logits(hidden[:, -1]).float())
        return torch.cat(rows)


def reader_for(model: GPT, *, use_cache: bool = True) -> Reader:
    """The reader that suits the model's config."""
    return ModelReader(model) if use_cache and model.config.use_cache else WholeReader(model)


def _passes(chunks: Sequence[Chunk], short: int) -> Iterator[tuple[int | None, list[int]]]:
    """Indexes of chunks to read in one pass, and where they all start: None for those of up to
    `short` ids."""

    def start(index: int) -> int:
        return -1 if len(chunks[index].ids) <= short else chunks[index].start

    for at, group in groupby(sorted(range(len(chunks)), key=start), key=start):
        yield (None if at < 0 else at), list(group)


def _is_exact(model: GPT) -> bool:
    """See `Reader`; products with quantized weights round the activations of long chunks more."""
    return model.dtype == torch.float32 and not isinstance(model, QuantizedGPT)


@contextmanager
def _threads_for(model: GPT) -> Iterator[None]:
    """One thread for a small model on a CPU, whose operators are shorter than waking a second.

    On 2 cores with other work on them one thread wrote 8 x as many tokens at 6 M parameters and
    15 x at 28 M; on a free machine large models want all of them.
    """
    before = torch.get_num_threads()
    small = model.device.type == "cpu" and parameter_count(model.config) < _SMALL_MODEL
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
