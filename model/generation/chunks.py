"""What readers read: pieces of texts, and how much room they need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """Ids that stand at `start`, `start` + 1, ... of a slot and replace what it held there."""

    slot: int
    start: int
    ids: Sequence[int]


def room_for(chunks: Sequence[Chunk]) -> tuple[int, int]:
    """Slots and positions that hold these chunks."""
    slots = max(chunk.slot for chunk in chunks) + 1
    return slots, max(chunk.start + len(chunk.ids) for chunk in chunks)


def in_portions(chunks: Sequence[Chunk], most: int) -> Iterator[list[tuple[int, Chunk]]]:
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
