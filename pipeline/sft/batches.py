"""Micro-batches of conversations: a pure function of their number, as in every training.

A row holds one conversation or several. Of several each has its own positions and its own number,
so that none sees another; what is left of the row is one more text, in which nothing is learned.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.conversations.example_set import ExampleSet
from pipeline.sft.packing import Row, epoch_steps, pack, shuffle
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.batches import IGNORE

_MULTIPLE = 64  # positions that a row is filled up to: few different shapes
_VALIDATION_SEED = 0


class ConversationBatches:
    """The rows of `examples`, the numbers of conversations in `data`.

    Inputs and targets are (rows, T) int64, aligned: what is not learned has a target of -100.
    Packed ones come with positions and numbers of conversations, (rows, T) int64.
    """

    def __init__(
        self,
        data: ExampleSet,
        examples: npt.NDArray[np.int64],
        *,
        window: int,
        batch_size: int,
        accumulation: int,
        packed: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        self._data, self._examples, self._window = data, examples, window
        self._batch_size, self._accumulation = batch_size, accumulation
        self._packed, self._seed, self._device = packed, seed, device
        self._lengths = data.item_lengths[examples] - 1  # the last id is only a target
        self._epoch: tuple[int, list[list[Row]]] = (-1, [])
        self.steps_per_epoch = len(self._steps(0))

    def _steps(self, epoch: int) -> list[list[Row]]:
        known, steps = self._epoch
        if known != epoch:
            steps = epoch_steps(
                self._lengths,
                self._window,
                self._batch_size * self._accumulation,
                packed=self._packed,
                seed=self._seed,
                epoch=epoch,
            )
            self._epoch = (epoch, steps)
        return steps

    def rows(self, number: int) -> list[Row]:
        """The conversations in each row of micro-batch `number`, counted from 0 over all epochs;
        none where the rows of its step were fewer."""
        step, micro = divmod(number, self._accumulation)
        epoch, step = divmod(step, self.steps_per_epoch)
        some = self._steps(epoch)[step][micro * self._batch_size : (micro + 1) * self._batch_size]
        return [[int(self._examples[item]) for item in row] for row in some]

    def batch(self, number: int) -> tuple[Tensor, ...]:
        """The tensors of micro-batch `number`, on the device."""
        return self.tensors(self.rows(number))

    def in_order(self, limit: int) -> Iterator[tuple[Tensor, ...]]:
        """At most `limit` batches in one order, the same at every time: for validation. Of more
        the first ones are a fair sample."""
        rows: Sequence[Row] = [[item] for item in range(len(self._lengths))]
        if self._packed:
            rows = pack(self._lengths, self._window)
        chosen = [rows[number] for number in shuffle(len(rows), _VALIDATION_SEED)]
        chosen = chosen[: limit * self._batch_size]
        for at in range(0, len(chosen), self._batch_size):
            some = chosen[at : at + self._batch_size]
            yield self.tensors([[int(self._examples[item]) for item in row] for row in some])

    def texts(self, number: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
        """What micro-batch `number` reads, for a person."""
        return [
            {"conversation": item, "token_ids": ids, "text": tokenizer.decode(ids)}
            for row in self.rows(number)
            for item in row
            for ids in [self._data.ids(item).tolist()]
        ]

    def tensors(self, rows: list[Row]) -> tuple[Tensor, ...]:
        """The tensors of rows of conversations."""
        fill = max((sum(len(self._data.ids(i)) - 1 for i in row) for row in rows), default=1)
        width = min(self._window, -(-fill // _MULTIPLE) * _MULTIPLE)
        shape = (4 if self._packed else 2, len(rows), width)
        whole = np.zeros(shape, np.int64)
        whole[1] = IGNORE
        for number, row in enumerate(rows):
            self._fill(whole[:, number], row)
        tensor = torch.from_numpy(whole)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        return tuple(tensor.to(self._device).unbind())

    def _fill(self, row: npt.NDArray[np.int64], items: Row) -> None:
        """Write conversations into a row (2 or 4, T), one behind the other."""
        at = 0
        for number, item in enumerate(items):
            ids, learned = self._data.ids(item).astype(np.int64), self._data.learned(item)
            end = at + len(ids) - 1
            row[0, at:end] = ids[:-1]
            row[1, at:end] = np.where(learned[1:], ids[1:], IGNORE)
            if self._packed:
                row[2, at:end] = np.arange(len(ids) - 1)
                row[3, at:end] = number
            at = end
        if self._packed:
            row[2, at:] = np.arange(row.shape[1] - at)
            row[3, at:] = len(items)
