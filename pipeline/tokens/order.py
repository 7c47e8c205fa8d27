"""Data order: which window comes when, computed for just the positions asked.

A shuffled list of a billion windows would cost gigabytes and could not be resumed without being
made again. Here a permutation of [0, n) is a keyed Feistel network over the smallest even number
of bits that holds n, walking each cycle until it falls inside (Black and Rogaway, "Ciphers with
Arbitrary Finite Domains", CT-RSA 2002). The order is thus a pure function of (seed, epoch,
position), in integer arithmetic alone, the same on every machine and numpy version.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

_ROUNDS = 6  # Luby and Rackoff need four for a large domain; tiny ones mix better with two more
_LARGEST = 1 << 62
# Odd multipliers of SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def training_order(n: int, *, shuffle: bool, seed: int) -> Callable[[Indices], Indices]:
    """Positions to window indices, without end; unshuffled, each epoch is 0 ... n - 1."""
    if shuffle:
        return lambda positions: endless(positions, n, seed=seed)
    return lambda positions: positions % n


def batch_positions(
    batches: npt.ArrayLike, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> Indices:
    """Positions (k, batch_size) in an order that the micro-batches `batches` (k,) hold; each
    process, by its `rank`, takes its share of the same global batch."""
    first = (np.asarray(batches, dtype=np.int64) * world_size + rank) * batch_size
    return first[:, None] + np.arange(batch_size, dtype=np.int64)


def validation_order(n: int) -> Callable[[Indices], Indices]:
    """Positions to window indices in one fixed order that mixes all shards; -1 from n on."""

    def order(positions: Indices) -> Indices:
        indices = np.full(len(positions), -1, dtype=np.int64)
        there = positions < n
        indices[there] = permuted(positions[there], n, seed=0, epoch=0)
        return indices

    return order


def endless(positions: npt.ArrayLike, n: int, *, seed: int) -> Indices:
    """Window indices (k,) at `positions` of an order without end, for n windows.

    Each epoch is a permutation of its own that follows the one before without a gap, so every
    window comes exactly once per epoch and every batch can be full.
    """
    places = np.asarray(positions, dtype=np.int64)
    epochs = places // n
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = permuted(places[chosen] % n, n, seed=seed, epoch=int(epoch))
    return indices


def permuted(positions: npt.ArrayLike, n: int, *, seed: int, epoch: int) -> Indices:
    """Elements `positions` (k,) of the permutation of [0, n) that belongs to (seed, epoch).

    Memory and time are O(k), whatever n up to 2^62.

    Raises:
        IndexError: a position outside [0, n).
    """
    start = np.asarray(positions, dtype=np.int64)
    if not 0 < n <= _LARGEST or (start.size and (start.min() < 0 or start.max() >= n)):
        raise IndexError(f"positions outside [0, {n})")
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epoch)
    values = _encrypt(start.astype(np.uint64), half, keys)
    outside = np.flatnonzero(values >= n)
    while outside.size:
        values[outside] = _encrypt(values[outside], half, keys)
        outside = outside[values[outside] >= n]
    return values.astype(np.int64)


def _keys(seed: int, epoch: int) -> npt.NDArray[np.uint64]:
    name = f"hatchery order {seed} {epoch}".encode()
    digest = hashlib.blake2b(name, digest_size=8 * _ROUNDS).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _encrypt(
    values: npt.NDArray[np.uint64], half: int, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """One pass of a balanced Feistel network over 2 * half bits."""
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << bits) | right


def _mixed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser: every input bit reaches every output bit; wraps modulo 2^64."""
    words = (words ^ (words >> np.uint64(30))) * _MIX[0]
    words = (words ^ (words >> np.uint64(27))) * _MIX[1]
    return words ^ (words >> np.uint64(31))
