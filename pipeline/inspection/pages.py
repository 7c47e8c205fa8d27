"""The documents of one raw file for someone who leafs through it.

Of a plain file of rows only the lines asked for are read, at their offset, however large it is;
of any other file the first 64 MiB are read once and held.
"""

from array import array
from codecs import BOM_UTF8
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO, Protocol

from pipeline.sources.items import Input, Item, is_plain_rows
from pipeline.sources.lines import MAX_LINE, Damage
from pipeline.sources.raw import read_items

MOST_HELD = 64 * 1024 * 1024
_PIECE = 1 << 20
_ASKED_EVERY = 4096  # lines between questions whether to go on


@dataclass(frozen=True, slots=True)
class FilePosition:
    """A document in its file: its number from 0 where known, and its offset in uncompressed
    bytes."""

    index: int | None
    offset: int


class Page(Protocol):
    """Documents of a file, found by number, by neighbour, by offset or by chance."""

    def at(self, index: int, go_on: Callable[[], bool]) -> FilePosition | int:
        """Document `index`; where there are fewer, or `go_on` says no, how many were passed."""
        ...

    def after(self, place: FilePosition | None) -> FilePosition | None:
        """The document behind `place`, or the first; None behind the last."""
        ...

    def before(self, place: FilePosition | None) -> FilePosition | None:
        """The document before `place`, or the last; None before the first."""
        ...

    def anywhere(self, random: Random) -> FilePosition | None:
        """Some document."""
        ...

    def near(self, offset: int, detail: str) -> FilePosition | None:
        """The document at `offset`; of several there, the one whose title is in `detail`."""
        ...

    def item(self, place: FilePosition) -> Item | Damage:
        """What lies there."""
        ...


def open_page(source: Input) -> Page:
    """The documents of a raw file."""
    return RowsPage(source.path) if is_plain_rows(source) else HeldPage(source)


class HeldPage:
    """A file whose documents are read once and held, as far as memory should go."""

    def __init__(self, source: Input) -> None:
        self._items: list[Item | Damage] = []
        size = 0
        for item in read_items(source):
            self._items.append(item)
            size += len(item.content) if isinstance(item, Item) else 0
            if size > MOST_HELD:
                break

    def _place(self, index: int) -> FilePosition | None:
        inside = 0 <= index < len(self._items)
        return FilePosition(index, self._items[index].offset) if inside else None

    def at(self, index: int, go_on: Callable[[], bool]) -> FilePosition | int:
        return self._place(index) or len(self._items)

    def after(self, place: FilePosition | None) -> FilePosition | None:
        return self._place(0 if place is None else (place.index or 0) + 1)

    def before(self, place: FilePosition | None) -> FilePosition | None:
        return self._place((len(self._items) if place is None else place.index or 0) - 1)

    def anywhere(self, random: Random) -> FilePosition | None:
        return self._place(random.randrange(len(self._items))) if self._items else None

    def near(self, offset: int, detail: str) -> FilePosition | None:
        there = [n for n, item in enumerate(self._items) if item.offset == offset]
        named = [n for n in there if (title := _title(self._items[n])) and title in detail]
        return self._place((named or there or [-1])[0])

    def item(self, place: FilePosition) -> Item | Damage:
        return self._items[place.index or 0]


def _title(item: Item | Damage) -> str:
    return item.title if isinstance(item, Item) else ""


class RowsPage:
    """A plain file of one row per line, read by seeking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets = array("q", [0])  # of the lines passed so far, and of the next

    def at(self, index: int, go_on: Callable[[], bool]) -> FilePosition | int:
        with self._path.open("rb") as handle:
            handle.seek(self._offsets[-1])
            while len(self._offsets) < index + 2 and _skip_line(handle):
                self._offsets.append(handle.tell())
                if len(self._offsets) % _ASKED_EVERY == 0 and not go_on():
                    break
        passed = len(self._offsets) - 1
        return FilePosition(index, self._offsets[index]) if index < passed else passed

    def after(self, place: FilePosition | None) -> FilePosition | None:
        with self._path.open("rb") as handle:
            index = -1 if place is None else place.index
            if place is not None:
                handle.seek(place.offset)
                _skip_line(handle)
            while True:
                offset = handle.tell()
                index = None if index is None else index + 1
                line = handle.readline(_PIECE)
                if not line:
                    return None
                if not line.isspace():
                    return FilePosition(index, offset)

    def before(self, place: FilePosition | None) -> FilePosition | None:
        with self._path.open("rb") as handle:
            end = handle.seek(0, 2) if place is None else place.offset
            index = None if place is None else place.index
            while end > 0:
                end = _line_begin(handle, end - 1)
                index = None if index is None else index - 1
                handle.seek(end)
                if not handle.readline(_PIECE).isspace():
                    return FilePosition(index, end)
        return None

    def anywhere(self, random: Random) -> FilePosition | None:
        with self._path.open("rb") as handle:
            size = handle.seek(0, 2)
            begin = _line_begin(handle, random.randrange(size)) if size else 0
        return self.after(FilePosition(None, begin)) or self.after(None)

    def near(self, offset: int, detail: str) -> FilePosition | None:
        return FilePosition(None, offset)

    def item(self, place: FilePosition) -> Item | Damage:
        with self._path.open("rb") as handle:
            handle.seek(place.offset)
            line = handle.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            return Damage("too_long_line", place.offset, f"a line of more than {MAX_LINE} bytes")
        line = line if place.offset else line.removeprefix(BOM_UTF8)
        return Item(place.offset, (place.index or 0) + 1, line.rstrip(b"\r\n"), True)


def _skip_line(handle: IO[bytes]) -> bool:
    """Read over a line of any length; whether there was one."""
    line = there = handle.readline(_PIECE)
    while line and not line.endswith(b"\n"):
        line = handle.readline(_PIECE)
    return bool(there)


def _line_begin(handle: IO[bytes], inside: int) -> int:
    """Where the line begins that holds byte `inside`."""
    while inside > 0:
        begin = max(0, inside - _PIECE)
        handle.seek(begin)
        found = handle.read(inside - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        inside = begin
    return 0
