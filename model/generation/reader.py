"""Readers: token ids go into numbered slots, logits of what may follow come out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from model.generation.chunks import Chunk, room_for
from model.generation.cuda_graph import GraphDecoder
from model.generation.native_reader import NativeReader
from model.generation.scoring import logits_along
from model.gpt import GPT
from model.layers.cache import KeyValueCache
from model.layers.limits import slice_length
from model.native.decoder import native_decoder
from model.native.threads import threads_for
from model.quantization.model import QuantizedGPT


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

    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Logits after every one of `ids`, 1 to `context` of them, in pieces (n, V) float32.

        No slot is touched, and other calls may come between two pieces. Another piece begins to be
        computed when it is asked for; memory is given back after the last one or at `close`.
        """
        ...


class TorchReader:
    """Reads with a model of ours and remembers keys and values.

    Rows of the cache that are read together lie side by side: before a pass, rows change places.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self.exact = _is_exact(model)
        self._graphs = GraphDecoder(model) if model.device.type == "cuda" else None
        self._cache = KeyValueCache(model.config, 0, 0, device=model.device, dtype=model.dtype)
        self._place: list[int] = []  # of each slot: its row in the cache
        self._view: tuple[int, int, KeyValueCache] | None = None

    @torch.inference_mode()
    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """See `Reader`; chunks of several ids that begin at one position are read in one pass."""
        self._make_room(chunks)
        logits = torch.empty(len(chunks), self.vocabulary, device=self.model.device)
        with threads_for(self.model):
            for start, group in _passes(chunks):
                view, order = self._side_by_side([chunks[index].slot for index in group])
                ordered = [group[place] for place in order]
                some = [chunks[index] for index in ordered]
                read = self._newest(view, some) if start is None else self._pass(view, start, some)
                logits[ordered] = read
        return logits

    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `Reader`."""
        return logits_along(self.model, ids)

    def _pass(self, view: KeyValueCache, start: int, chunks: Sequence[Chunk]) -> Tensor:
        """Chunks of unequal length from `start` on, filled up at the end, where nothing looks."""
        device = self.model.device
        longest = max(len(chunk.ids) for chunk in chunks)
        padded = [[*chunk.ids, *[0] * (longest - len(chunk.ids))] for chunk in chunks]
        view.length = start
        hidden = self.model.hidden(torch.tensor(padded, device=device), view)  # (B, longest, C)
        last = torch.tensor([len(chunk.ids) - 1 for chunk in chunks], device=device)
        every = torch.arange(len(chunks), device=device)
        return self.model.logits(hidden[every, last]).float()

    def _newest(self, view: KeyValueCache, chunks: Sequence[Chunk]) -> Tensor:
        """One id a row, each at its own position."""
        places = [chunk.start for chunk in chunks]
        if self._graphs is not None:
            return self._graphs.step(view, [chunk.ids[0] for chunk in chunks], places)
        view.length = max(places)
        newest = torch.tensor([list(chunk.ids) for chunk in chunks], device=self.model.device)
        positions = None
        if min(places) != max(places):
            positions = torch.tensor(places, device=newest.device)[:, None]
        hidden = self.model.hidden(newest, view, positions)
        return self.model.logits(hidden[:, -1]).float()

    def _make_room(self, chunks: Sequence[Chunk]) -> None:
        slots, positions = room_for(chunks)
        if self._cache.make_room(slots, positions, self.context):
            self._view = None
            if self._graphs is not None:
                self._graphs.forget()
        self._place.extend(range(len(self._place), self._cache.rows))

    def _side_by_side(self, slots: Sequence[int]) -> tuple[KeyValueCache, list[int]]:
        """A view of the rows of these slots alone, and the order in which it has them."""
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
            with threads_for(self.model):
                hidden = self.model.hidden(torch.tensor([held], device=self.model.device))
                rows.append(self.model.logits(hidden[:, -1]).float())
        return torch.cat(rows)

    @torch.inference_mode()
    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `Reader`; the whole text is read for the first piece."""
        with threads_for(self.model):
            hidden = self.model.hidden(torch.tensor([ids], device=self.model.device))[0]
        for rows in torch.split(hidden, slice_length(self.vocabulary)):
            yield self.model.logits(rows).float()


def reader_for(model: GPT, *, use_cache: bool = True) -> Reader:
    """The reader that suits the model's config and device."""
    if not (use_cache and model.config.use_cache):
        return WholeReader(model)
    decoder = native_decoder(model)
    return TorchReader(model) if decoder is None else NativeReader(model, decoder)


def _passes(chunks: Sequence[Chunk]) -> Iterator[tuple[int | None, list[int]]]:
    """Indexes of chunks to read in one pass, and where they all start: None for single ids."""

    def start(index: int) -> int:
        return -1 if len(chunks[index].ids) == 1 else chunks[index].start

    for at, group in groupby(sorted(range(len(chunks)), key=start), key=start):
        yield (None if at < 0 else at), list(group)


def _is_exact(model: GPT) -> bool:
    """See `Reader`; torch's products with quantized weights round activations, in longer chunks
    in another way."""
    return model.dtype == torch.float32 and not isinstance(model, QuantizedGPT)
