"""Finds single events in a file of millions of lines, at the speed of memory.

Only lines that hold a mark are decoded; what an event is, its fields decide and not its bytes. So
neither the order of keys nor what else an event holds makes a difference.
"""

import re
from collections.abc import Iterator
from typing import IO, NamedTuple

import msgspec

from pipeline.events import Event, from_json

_PIECE = 1 << 20  # bytes that are searched at once
_LONGEST_LINE = 16 << 20


class Found(NamedTuple):
    """An event, its line with the newline, and where in the file that begins, in bytes."""

    start: int
    line: bytes
    event: Event


def search(handle: IO[bytes], mark: re.Pattern[bytes], begin: int, end: int) -> Iterator[Found]:
    """The events of whole lines in bytes [begin, end) that hold `mark`, in order.

    What is no event is passed over: a line torn at either end, or of a newer version. A mark is
    searched for in the line as it is written, so one with a quotation mark is never found inside
    of a text, where every quotation mark is escaped.
    """
    size = _PIECE
    while begin < end:
        handle.seek(begin)
        data = handle.read(min(size, end - begin))
        whole = data.rfind(b"\n") + 1
        if not data or (not whole and begin + len(data) >= end):
            return
        if not whole and size < _LONGEST_LINE:
            size *= 2
            continue
        for at, line in _marked(data, mark, whole):
            try:
                event = from_json(line)
            except msgspec.DecodeError:
                continue
            yield Found(begin + at, line, event)
        begin, size = begin + (whole or len(data)), _PIECE


def _marked(data: bytes, mark: re.Pattern[bytes], end: int) -> Iterator[tuple[int, bytes]]:
    """The lines of data[:end] that hold the mark, each once, with where they begin."""
    at = 0
    while match := mark.search(data, at, end):
        start = data.rfind(b"\n", at, match.start()) + 1 or at
        at = data.find(b"\n", match.end()) + 1
        yield start, data[start:at]


def end_of_lines(handle: IO[bytes]) -> int:
    """Where the last whole line of a file ends: bytes from its start, 0 where there is none."""
    end = handle.seek(0, 2)
    while end > 0:
        begin = max(0, end - _PIECE)
        handle.seek(begin)
        newline = handle.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
