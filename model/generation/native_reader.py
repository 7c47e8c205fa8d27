"""Reads with the step in C (`model.native.decoder`), prompts as well as newest tokens."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.generation.chunks import Chunk, in_portions, room_for
from model.generation.scoring import piece_length
from model.gpt import GPT
from model.layers.cache import KeyValueCache
from model.native.decoder import NativeDecoder

_PORTION = 256  # ids a step, so that its scratch memory stays small


class NativeReader:
    """See `model.generation.reader.Reader`. The same text in other pieces or beside others gives
    the same logits to the bit, in every number format."""

    exact = True

    def __init__(self, model: GPT, decoder: NativeDecoder) -> None:
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self._model, self._decoder = model, decoder
        self._cache = self._new_cache(0, 0)

    @torch.inference_mode()
    def read(self, chunks: Sequence[Chunk]) -> Tensor:
        """See `Reader`."""
        self._cache.make_room(*room_for(chunks), self.context)
        logits: Tensor | None = None
        for portion in in_portions(chunks, _PORTION):
            indexes, pieces = zip(*portion, strict=True)
            slots, ids = [piece.slot for piece in pieces], [piece.ids for piece in pieces]
            read = self._decoder.step(self._cache, slots, ids, [piece.start for piece in pieces])
            if logits is None and len(indexes) == len(chunks):
                logits = read  # nearly always all of it
            else:
                logits = torch.empty(len(chunks), self.vocabulary) if logits is None else logits
                logits[list(indexes)] = read
        assert logits is not None
        return logits

    @torch.inference_mode()
    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `Reader`; they are those of `read` to the bit."""
        cache, size = self._new_cache(1, len(ids)), piece_length(self.vocabulary)
        for start in range(0, len(ids), size):
            piece = ids[start : start + size]
            yield self._decoder.step(cache, [0], [piece], [start], every=True)

    def _new_cache(self, rows: int, positions: int) -> KeyValueCache:
        model = self._model
        return KeyValueCache(model.config, rows, positions, device=model.device, dtype=model.dtype)
