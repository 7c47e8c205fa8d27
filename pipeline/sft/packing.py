"""Which conversations share a row, and which rows a step learns from: functions of (seed, epoch).

Nothing is cropped and nothing is left out: each epoch reads every conversation once, whole.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Row: TypeAlias = list[int]
"""The numbers of the conversations in it."""
Lengths: TypeAlias = npt.NDArray[np.int64]

_BUCKET_STEPS = 8  # steps whose conversations are sorted together where each has a row of its own


def pack(lengths: Lengths, window: int) -> list[Row]:
    """Rows of at most `window` tokens by best-fit decreasing: the longest first, each into the
    fullest row that has room (Johnson 1973). It needs at most 11/9 of the fewest rows possible.

    Conversations of equal length keep their order. None may be longer than `window`.
    """
    rows: list[Row] = []
    with_room: list[list[int]] = [[] for _ in range(window + 1)]  # rows by the tokens still free
    free = 0  # bit n is set where some row has n tokens free
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        fitting = free >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = with_room[room].pop()
            if not with_room[room]:
                free &= ~(1 << room)
            rows[row].append(item)
        else:
            row, room = len(rows), window
            rows.append([item])
        with_room[room - length].append(row)
        free |= 1 << (room - length)
    return rows


def rows_needed(lengths: Lengths, window: int, *, packed: bool) -> int:
    """Rows of an epoch; no shuffle changes their number."""
    return len(pack(lengths, window)) if packed else len(lengths)


def epoch_steps(
    lengths: Lengths, window: int, per_step: int, *, packed: bool, seed: int, epoch: int
) -> list[list[Row]]:
    """The rows of each optimizer step of an epoch, at most `per_step`: as many in each as in any
    other, give or take one, so that no step learns from a small rest.

    Packed rows come in random order. Where every conversation has its own, those of a step are
    about equally long.
    """
    shuffled = shuffle(len(lengths), seed, epoch)
    if packed:
        rows = [[int(shuffled[item]) for item in row] for row in pack(lengths[shuffled], window)]
        order = shuffle(len(rows), seed, epoch, 1)
        return _dealt([rows[number] for number in order], per_step)
    bucket = _BUCKET_STEPS * per_step
    parts = [shuffled[at : at + bucket] for at in range(0, len(shuffled), bucket)]
    by_length = [part[np.argsort(lengths[part], kind="stable")] for part in parts]
    steps = _dealt([[int(item)] for part in by_length for item in part], per_step)
    return [steps[number] for number in shuffle(len(steps), seed, epoch, 1)]


def _dealt(rows: Sequence[Row], per_step: int) -> list[list[Row]]:
    steps = -(-len(rows) // per_step)
    ends = [len(rows) * step // steps for step in range(steps + 1)]
    return [list(rows[a:b]) for a, b in pairwise(ends)]


def shuffle(count: int, *key: int) -> npt.NDArray[np.int64]:
    """The numbers below `count` in an order that the key decides, on every machine the same."""
    drawn = np.random.SeedSequence(key).generate_state(max(1, count), np.uint64)[:count]
    return np.argsort(drawn, kind="stable").astype(np.int64)
