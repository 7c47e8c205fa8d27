"""Runners: token ids go into numbered slots, logits of what may follow come out.

`TorchRunner` computes with the model itself and a cache of keys and values, `NativeRunner` with the
C engine of `model.native`, `UncachedRunner` without a cache. `runner_for` chooses.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from model.config import parameter_count
from model.generation.cuda_graph import CudaGraphDecoder
from model.gpt import GPT
from model.layers.cache import KeyValueCache
from model.layers.limits import SMALL_MODEL, slice_length
from model.quantization.model import QuantizedGPT

if TYPE_CHECKING:
    from model.native.decoder import NativeDecoder

try:
    from model.native.decoder import native_decoder
except ModuleNotFoundError:  # the folder model/native was deleted: torch computes

    def native_decoder(model: GPT) -> "NativeDecoder | None":
        return None


_PIECE = 128  # ids scored at once, so that somebody else may have a turn between two pieces
_PORTION = 256  # ids that the C engine takes at once, so that its scratch memory stays small


@dataclass(frozen=True)
class Chunk:
    """Ids that stand at `start`, `start` + 1, ... of a slot and replace what it held there."""

    slot: int
    start: int
    ids: Sequence[int]


class ModelRunner(Protocol):
    """What a batch of texts is written with, whatever computes it. One thread at a time uses it.

    `context` is the most positions of a slot, `vocabulary` the number of logits, `exact` says that
    the same text in other chunks or beside other texts gives the same logits but for the last bits
    of a float32.
    """

    context: int
    vocabulary: int
    exact: bool

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """Take in chunks of different slots: logits (chunks, V) float32 after the end of each."""
        ...

    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Logits after every one of `ids`, 1 to `context` of them, in pieces (n, V) float32.

        No slot is touched, and other calls may come between two pieces. Another piece begins to be
        computed when it is asked for; memory is given back after the last one or at `close`.
        """
        ...


def runner_for(model: GPT, *, use_cache: bool = True) -> ModelRunner:
    """The runner that suits the model's config and device."""
    if not (use_cache and model.config.use_cache):
        return UncachedRunner(model)
    decoder = native_decoder(model)
    return TorchRunner(model) if decoder is None else NativeRunner(model, decoder)


def piece_length(vocabulary: int) -> int:
    """Ids whose logits `logits_along` holds at once."""
    return min(_PIECE, slice_length(vocabulary))


class TorchRunner:
    """Computes with the model and keeps keys and values in a cache.

    Rows of the cache that are computed together lie side by side: before a pass, rows change
    places.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self.exact = _is_exact(model)
        self._graphs = CudaGraphDecoder(model) if model.device.type == "cuda" else None
        self._cache = KeyValueCache(model.config, 0, 0, device=model.device, dtype=model.dtype)
        self._place: list[int] = []  # of each slot: its row in the cache
        self._view: tuple[int, int, KeyValueCache] | None = None

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """See `ModelRunner`; chunks of several ids from one position on take one pass."""
        self._make_room(chunks)
        logits = torch.empty(len(chunks), self.vocabulary, device=self.model.device)
        with threads_for(self.model):
            for start, group in _passes(chunks):
                view, order = self._side_by_side([chunks[index].slot for index in group])
                ordered = [group[place] for place in order]
                some = [chunks[index] for index in ordered]
                logits[ordered] = (
                    self._newest(view, some) if start is None else self._pass(view, start, some)
                )
        return logits

    @torch.inference_mode()
    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `ModelRunner`; keys and values are kept until the last piece."""
        model, size = self.model, piece_length(self.vocabulary)
        cache = KeyValueCache(model.config, 1, len(ids), device=model.device, dtype=model.dtype)
        for start in range(0, len(ids), size):
            with threads_for(model):
                piece = torch.tensor([ids[start : start + size]], device=model.device)
                logits = model.logits(model.hidden(piece, cache)[0]).float()
            yield logits

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
        slots, positions = _room_for(chunks)
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


class UncachedRunner:
    """Computes every text from its beginning each time: slow, without a cache, for models whose
    config switches `use_cache` off and as a check on the cache."""

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self.exact = _is_exact(model)
        self._held: dict[int, list[int]] = {}

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
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
        """See `ModelRunner`; the whole text is computed for the first piece."""
        with threads_for(self.model):
            hidden = self.model.hidden(torch.tensor([ids], device=self.model.device))[0]
        for rows in torch.split(hidden, slice_length(self.vocabulary)):
            yield self.model.logits(rows).float()


class NativeRunner:
    """Computes with the C engine, prompts as well as newest tokens. The same text in other chunks
    or beside others gives the same logits to the bit, in every number format."""

    exact = True

    def __init__(self, model: GPT, decoder: "NativeDecoder") -> None:
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self._model, self._decoder = model, decoder
        self._cache = self._new_cache(0, 0)

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        """See `ModelRunner`."""
        self._cache.make_room(*_room_for(chunks), self.context)
        logits: Tensor | None = None
        for portion in _portions(chunks, _PORTION):
            indexes, pieces = zip(*portion, strict=True)
            slots, ids = [piece.slot for piece in pieces], [piece.ids for piece in pieces]
            some = self._decoder.step(self._cache, slots, ids, [piece.start for piece in pieces])
            if logits is None and len(indexes) == len(chunks):
                logits = some  # nearly always all of it
            else:
                logits = torch.empty(len(chunks), self.vocabulary) if logits is None else logits
                logits[list(indexes)] = some
        assert logits is not None
        return logits

    @torch.inference_mode()
    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `ModelRunner`; they are those of `forward` to the bit."""
        cache, size = self._new_cache(1, len(ids)), piece_length(self.vocabulary)
        for start in range(0, len(ids), size):
            piece = ids[start : start + size]
            yield self._decoder.step(cache, [0], [piece], [start], every=True)

    def _new_cache(self, rows: int, positions: int) -> KeyValueCache:
        model = self._model
        return KeyValueCache(model.config, rows, positions, device=model.device, dtype=model.dtype)


@contextmanager
def threads_for(model: GPT) -> Iterator[None]:
    """One thread of torch for a small model on a CPU, whose operators are shorter than waking a
    second.

    On 2 cores with other work on them one thread wrote 8 x as many tokens at 6 M parameters and
    15 x at 28 M; on a free machine large models want all of them.
    """
    before = torch.get_num_threads()
    small = model.device.type == "cpu" and parameter_count(model.config) < SMALL_MODEL
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _room_for(chunks: Sequence[Chunk]) -> tuple[int, int]:
    """Slots and positions that hold these chunks."""
    slots = max(chunk.slot for chunk in chunks) + 1
    return slots, max(chunk.start + len(chunk.ids) for chunk in chunks)


def _portions(chunks: Sequence[Chunk], most: int) -> Iterator[list[tuple[int, Chunk]]]:
    """The chunks with their indexes, `most` ids at a time: long ones in several pieces."""
    portion: list[tuple[int, Chunk]] = []
    left = most
    for index, chunk in enumerate(chunks):
        done = 0
        while done < len(chunk.ids):
            piece = chunk.ids[done : done + left]
            portion.append((index, Chunk(chunk.slot, chunk.start + done, piece)))
            done += len(piece)
            left -= len(piece)
            if not left:
                yield portion
                portion, left = [], most
    if portion:
        yield portion


def _passes(chunks: Sequence[Chunk]) -> Iterator[tuple[int | None, list[int]]]:
    """Indexes of chunks to compute in one pass, and where they all start: None for single ids."""

    def start(index: int) -> int:
        return -1 if len(chunks[index].ids) == 1 else chunks[index].start

    for at, group in groupby(sorted(range(len(chunks)), key=start), key=start):
        yield (None if at < 0 else at), list(group)


def _is_exact(model: GPT) -> bool:
    """See `ModelRunner`; torch's products with quantized weights round activations, those of longer
    chunks in another way."""
    return model.dtype == torch.float32 and not isinstance(model, QuantizedGPT)
