"""Reads with the step in C (`model.decode_native`), prompts as well as newest tokens."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.cache import KeyValueCache
from model.chunks import Chunk, in_portions, room_for
from model.decode_native import NativeDecoder
from model.gpt import GPT
from model.scoring import logits_along

_PORTION = 256  # ids a step, so that its scratch memory stays small


class NativeReader:
    """See `model.reader.Reader`. The same text in other pieces or beside others gives the same
    logits to the bit, in every number format."""

    exact = True

    def __init__(self, model: GPT, decoder: NativeDecoder) -> None:
        self.context = model.config.max_position_embeddings
        self.vocabulary = model.config.vocab_size
        self._model, self._decoder = model, decoder
        self._cache = KeyValueCache(model.config, 0, 0, device=model.device, dtype=model.dtype)

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

    def logits_along(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """See `Reader`; torch computes them, since the step in C has logits for the ends only."""
        return logits_along(self._model, ids)
