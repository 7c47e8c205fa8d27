"""Windows: a virtual sequence of training examples over flat token shards.

Nothing is stored: a window is T + 1 neighbouring tokens of a stretch (the training or validation
part of one shard), inputs `[:T]` and targets `[1:]`. Which tokens the last window of a stretch
holds differs, so that nothing is wasted and no token is scored twice:

- training: a window that would run over the end is moved back to end with the stretch;
- validation: windows do not overlap, and the last one is shorter.

A stretch shorter than one window gives a single short one. A short window is filled with zeros,
which `lengths` tells from tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class Stretch(NamedTuple):
    """Tokens [begin, end) of a shard."""

    shard: int
    begin: int
    end: int


class Spans(NamedTuple):
    """Where windows lie, each an array (n,): shard, first token in it, tokens (at most T + 1)."""

    shard: Indices
    start: Indices
    length: Indices


class Part(NamedTuple):
    """A piece of a document in a window: tokens [begin, end) of the window."""

    document: int
    begin: int
    end: int


def count_windows(tokens: int, window: int, stride: int) -> int:
    """Windows of a stretch: the first reaches window + 1 tokens, each further one `stride` more."""
    if tokens < 2:
        return 0
    return 1 - (-max(tokens - (window + 1), 0) // stride)


class Windows:
    """The windows of some stretches, addressed 0 ... len - 1.

    `shards` are flat token arrays, memory-mapped or not; `starts` the first token of every
    document of each; `window` is T and `stride` the distance between windows, in tokens.
    """

    def __init__(
        self,
        shards: Sequence[npt.NDArray[Any]],
        starts: Sequence[npt.NDArray[np.uint64]],
        stretches: Sequence[Stretch],
        *,
        window: int,
        stride: int,
        moved_back: bool,
        text_bytes: float,
    ) -> None:
        self.window, self.stride, self.text_bytes = window, stride, text_bytes
        self.stretches = [s for s in stretches if s.end - s.begin >= 2]
        self.tokens = sum(s.end - s.begin for s in stretches)
        self.shards = shards
        self._starts, self._moved_back = starts, moved_back
        table = np.array(self.stretches, dtype=np.int64).reshape(-1, 3)
        self._shard, self._begin, self._end = table.T
        counts = [count_windows(s.end - s.begin, window, stride) for s in self.stretches]
        self._first = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes of text per token here: turns nats per token into bits per byte."""
        return self.text_bytes / self.tokens

    @property
    def epoch(self) -> float:
        """Windows that hold as many tokens as the text: fewer than there are where they overlap."""
        return self.tokens / self.window

    @property
    def targets(self) -> int:
        """Tokens that are predicted at least once: all but the first of each stretch."""
        return self.tokens - len(self.stretches)

    def spans(self, indices: npt.ArrayLike) -> Spans:
        """Where the windows `indices` (n,) lie.

        Raises:
            IndexError: there is no such window.
        """
        requested = np.asarray(indices, dtype=np.int64)
        if requested.size and (requested.min() < 0 or requested.max() >= len(self)):
            raise IndexError(f"windows outside [0, {len(self)})")
        stretch = np.searchsorted(self._first, requested, side="right") - 1
        begin, end = self._begin[stretch], self._end[stretch]
        start = begin + (requested - self._first[stretch]) * self.stride
        if self._moved_back:
            start = np.maximum(np.minimum(start, end - (self.window + 1)), begin)
        return Spans(self._shard[stretch], start, np.minimum(end - start, self.window + 1))

    def gather(self, indices: npt.ArrayLike) -> npt.NDArray[Any]:
        """Tokens (n, window + 1) of the windows `indices` (n,), in the type of the shards."""
        return self.gather_at(self.spans(indices))

    def gather_at(self, spans: Spans) -> npt.NDArray[Any]:
        """Tokens (n, window + 1) at `spans`: one indexing operation per shard, no loop."""
        size = self.window + 1
        whole = spans.length == size
        out = np.zeros((len(whole), size), dtype=self.shards[0].dtype)
        for shard in np.unique(spans.shard[whole]):
            rows = np.flatnonzero(whole & (spans.shard == shard))
            out[rows] = _strided(self.shards[shard], size)[spans.start[rows]]
        for row in np.flatnonzero(~whole):  # at most one per stretch
            start, length = spans.start[row], spans.length[row]
            out[row, :length] = self.shards[spans.shard[row]][start : start + length]
        return out

    def documents_in(self, index: int) -> tuple[int, list[Part]]:
        """The shard of window `index`, and the documents (by row in its table) it consists of."""
        shard, start, length = (int(values[0]) for values in self.spans([index]))
        starts = self._starts[shard]
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, start + length, side="left"))
        borders = [max(int(s) - start, 0) for s in starts[first:last]] + [length]
        return shard, [Part(first + i, borders[i], borders[i + 1]) for i in range(last - first)]


def _strided(tokens: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """A view (n - size + 1, size) in which row i is tokens[i : i + size]."""
    step = tokens.strides[0]
    shape = (len(tokens) - size + 1, size)
    return np.lib.stride_tricks.as_strided(tokens, shape, (step, step), writeable=False)
