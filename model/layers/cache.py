"""Keys and values of the positions already read, so that each new token costs one position."""

import torch
from torch import Tensor

from model.config import ModelConfig

_FIRST_CAPACITY = 64  # positions


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
        shape = (config.num_layers, rows, config.kv_heads, capacity, config.head_size)
        self._set_tensors(torch.zeros(shape, device=device, dtype=dtype), None)
        self.length = 0

    def _set_tensors(self, keys: Tensor, values: Tensor | None) -> None:
        """Take (layers, rows, K, capacity, D) each; values are made like the keys."""
        self._all_keys = keys
        self._all_values = torch.zeros_like(keys) if values is None else values
        self._keys, self._values = list(keys), list(self._all_values)
        _, self.rows, _, self.capacity, _ = keys.shape
        self._start = 0

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Keys and values, (layers, rows, kv_heads, capacity, head_dim) each."""
        return self._all_keys, self._all_values

    def view(self, first: int, count: int) -> "KeyValueCache":
        """The rows first ... first + count - 1 as a cache of their own, in the same memory."""
        view = object.__new__(KeyValueCache)
        view._set_tensors(
            self._all_keys[:, first : first + count], self._all_values[:, first : first + count]
        )
        view.length = 0
        return view

    def make_room(self, rows: int, positions: int, most: int) -> bool:
        """Hold so many rows and positions, growing by doubling; whether it grew.

        Raises:
            ValueError: more than `most` positions.
        """
        if positions > most:
            raise ValueError(f"{positions} positions in a context of {most}")
        if rows <= self.rows and positions <= self.capacity:
            return False
        if rows > self.rows:
            rows = max(rows, 2 * self.rows)
        if positions > self.capacity:
            positions = min(most, max(positions, 2 * self.capacity, _FIRST_CAPACITY))
        self.grow(rows, positions)
        return True

    def grow(self, rows: int, capacity: int) -> None:
        """Make room for more; what is cached stays, views made before keep the old memory."""
        layers, old_rows, heads, old_capacity, size = self._all_keys.shape
        shape = (layers, max(rows, old_rows), heads, max(capacity, old_capacity), size)
        grown = []
        for old in (self._all_keys, self._all_values):
            new = old.new_zeros(shape)
            new[:, :old_rows, :, :old_capacity] = old
            grown.append(new)
        self._set_tensors(*grown)

    def swap(self, a: int, b: int, length: int) -> None:
        """Exchange the first `length` positions of two rows."""
        for tensor in (self._all_keys, self._all_values):
            saved = tensor[:, a, :, :length].clone()
            tensor[:, a, :, :length] = tensor[:, b, :, :length]
            tensor[:, b, :, :length] = saved

    def begin(self, count: int) -> None:
        """Announce `count` new positions, before the first layer updates."""
        if self.length + count > self.capacity:
            raise ValueError(f"{self.length + count} positions in a cache of {self.capacity}")
        self._start, self.length = self.length, self.length + count

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
