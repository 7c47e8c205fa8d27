"""From a batch's number to its tensors, gathered on the host or wholly on the device.

`Loader` says which windows batch number `step` holds; `HostBatches` and `DeviceBatches` turn
window indices into tensors.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from pipeline.tokens.order import Indices, batch_positions
from pipeline.tokens.windows import Spans, Windows

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Inputs and targets, int64 (batch, window)."""

IGNORE = -100
"""A target that is not to be scored; the default `ignore_index` of `cross_entropy`."""

_BLOCK = 64  # steps whose window indices are computed together


class Loader:
    """Batches of `windows`: `fetch` turns window indices into tensors, `order` positions into
    window indices (-1: none). Rank r of `world_size` takes its share of the same global batch.
    """

    def __init__(
        self,
        windows: Windows,
        fetch: Callable[[Indices], Batch],
        order: Callable[[Indices], Indices],
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        prefetch: bool = False,
        limit: int | None = None,
    ) -> None:
        self.windows, self.batch_size = windows, batch_size
        self._fetch, self._order, self._limit = fetch, order, limit
        self._rank, self._world_size = rank, world_size
        self._pool = ThreadPoolExecutor(1, "prefetch") if prefetch else None
        self._block: tuple[int, Indices] = (-1, np.empty((0, 0), np.int64))
        self._ahead: tuple[int, Future[Batch]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every window was seen; the last may begin the next epoch."""
        return -(-len(self.windows) // (self.batch_size * self._world_size))

    def __len__(self) -> int:
        return self.steps_per_epoch

    def indices(self, step: int) -> Indices:
        """Window indices (batch,) of micro-batch `step`, counted from 0 over all epochs."""
        if step < 0 or (self._limit is not None and step >= self._limit):
            raise IndexError(f"no batch {step}")
        block, row = divmod(step, _BLOCK)
        number, indices = self._block
        if number != block:
            # One call of the order for many steps: for one batch it costs more than the gather.
            steps = np.arange(block * _BLOCK, (block + 1) * _BLOCK, dtype=np.int64)
            positions = batch_positions(
                steps, self.batch_size, rank=self._rank, world_size=self._world_size
            )
            indices = self._order(positions.reshape(-1)).reshape(positions.shape)
            self._block = (block, indices)
        chosen: Indices = indices[row]
        return chosen

    def batch(self, step: int, end: int | None = None) -> Batch:
        """Inputs and targets of micro-batch `step`, int64 (batch, window) on the device.

        A target of -100 is not to be scored. When prefetching, the batch after it is made ready
        meanwhile, in one thread, unless that would be batch `end`.
        """
        ahead, self._ahead = self._ahead, None
        ready = ahead is not None and ahead[0] == step
        made = ahead[1].result() if ahead and ready else self._fetch(self.indices(step))
        following = step + 1
        end = self._limit if end is None else end
        if self._pool is not None and (end is None or following < end):
            future = self._pool.submit(lambda: self._fetch(self.indices(following)))
            self._ahead = (following, future)
        return made

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0."""
        first = number * len(self)
        return (self.batch(step) for step in range(first, first + len(self)))

    def first(self, count: int) -> Iterator[Batch]:
        """The first `count` batches, or all of epoch 0 where it has fewer; no other is fetched."""
        end = min(count, len(self))
        return (self.batch(step, end) for step in range(end))

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)


class HostBatches:
    """Gathers in host memory; for a CUDA device through pinned memory, without waiting."""

    def __init__(self, windows: Windows, device: torch.device) -> None:
        self._windows, self._device = windows, device

    def __call__(self, indices: Indices) -> Batch:
        spans = _spans(self._windows, indices)
        tokens = self._windows.gather_at(spans)
        inputs = torch.from_numpy(tokens[:, :-1].astype(np.int64))
        targets = torch.from_numpy(tokens[:, 1:].astype(np.int64))
        _hide(targets, spans, self._windows.window)
        if self._device.type == "cuda":
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        ahead = self._device.type == "cuda"  # from pinned memory; elsewhere there is none
        return (
            inputs.to(self._device, non_blocking=ahead),
            targets.to(self._device, non_blocking=ahead),
        )


class DeviceBatches:
    """Gathers on the device from `flat`: only the positions of the windows cross the bus.

    `flat` is what `upload` returned; ids lie there in the signed type of the same width, which
    every device can index, and the sign is masked off after widening.
    """

    def __init__(self, windows: Windows, flat: list[torch.Tensor]) -> None:
        self._windows, self._flat = windows, flat
        self._mask = 0xFFFF if flat[0].dtype == torch.int16 else 0xFFFFFFFF

    @staticmethod
    def upload(shards: Sequence[npt.NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
        """The shards as one flat tensor each on `device`."""
        signed = {2: np.int16, 4: np.int32}
        return [
            torch.from_numpy(np.array(shard).view(signed[shard.itemsize])).to(device)
            for shard in shards
        ]

    def __call__(self, indices: Indices) -> Batch:
        spans, size = _spans(self._windows, indices), self._windows.window + 1
        device = self._flat[0].device
        tokens = torch.zeros(len(indices), size, dtype=torch.int64, device=device)
        whole = spans.length == size
        for shard in np.unique(spans.shard[whole]):
            rows = np.flatnonzero(whole & (spans.shard == shard))
            starts = torch.from_numpy(spans.start[rows]).to(device, non_blocking=True)
            taken = self._flat[shard].unfold(0, size, 1)[starts].to(torch.int64) & self._mask
            tokens[torch.from_numpy(rows).to(device, non_blocking=True)] = taken
        for row in np.flatnonzero(~whole):
            start, length = int(spans.start[row]), int(spans.length[row])
            short = self._flat[spans.shard[row]][start : start + length]
            tokens[row, :length] = short.to(torch.int64) & self._mask
        # A copy even of a single row: hiding targets must not reach the inputs.
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].clone()
        _hide(targets, spans, self._windows.window)
        return inputs, targets


def _spans(windows: Windows, indices: Indices) -> Spans:
    """Spans of `indices`; -1 stands for a row without a window, of length 0."""
    spans = windows.spans(np.maximum(indices, 0))
    return spans._replace(length=np.where(indices < 0, 0, spans.length))


def _hide(targets: torch.Tensor, spans: Spans, window: int) -> None:
    """Mark targets that are not tokens: in short windows, those past the end."""
    for row in np.flatnonzero(spans.length <= window):
        targets[row, max(int(spans.length[row]) - 1, 0) :] = IGNORE
