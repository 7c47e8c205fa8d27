"""Keys and values of the positions already read, so that each new token costs one position."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.config import ModelConfig


class KeyValueCache:
    """Preallocated keys and values: per layer (rows, kv_heads, capacity, head_dim) each.

    A position's slot is its number, so rows of unequal length share one tensor: what a row holds
    beyond its own position is masked until it is overwritten. `length` is the longest row's.
    """

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        capacity: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (rows, config.kv_heads, capacity, config.head_size)
        self._keys = [
            torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)
        ]
        self._values = [torch.zeros_like(keys) for keys in self._keys]
        self.capacity = capacity
        self.length = 0
        self._start = 0

    def begin(self, count: int) -> None:
        """Announce `count` new positions, before the first layer updates."""
        if self.length + count > self.capacity:
            raise ValueError(f"{self.length + count} positions in a cache of {self.capacity}")
        self._start, self.length = self.length, self.length + count

    def rewind(self, length: int) -> None:
        """Forget all positions from `length` on; a shorter cache is also read faster."""
        self.length = min(length, self.length)

    def update(
        self, layer: int, k: Tensor, v: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Store k and v (B, K, T, D) and return all that is held, two of (B, K, length, D).

        `positions` (B, T) says where; without it the slots that `begin` announced.
        """
        keys, values = self._keys[layer], self._values[layer]
        if positions is None:
            keys[:, :, self._start : self.length] = k
            values[:, :, self._start : self.length] = v
        else:
            rows = torch.arange(len(keys), device=keys.device)[:, None]
            keys[rows, :, positions] = k.transpose(1, 2).to(keys.dtype)
            values[rows, :, positions] = v.transpose(1, 2).to(values.dtype)
        return keys[:, :, : self.length], values[:, :, : self.length]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in this order."""
        index = torch.tensor(rows, device=self._keys[0].device)
        self._keys = [keys[index] for keys in self._keys]
        self._values = [values[index] for values in self._values]
