"""Where each block of a conversation stands on the screen: rows of headers, texts and figures.
Knows no widgets."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

from rich.cells import get_character_cell_size

from app.tui.chat.conversation import Block
from app.tui.chat.wording import figures_line
from app.tui.widgets.token_colours import Span

TAB = 4  # cells
_DENSE = 4  # characters a cell may have, of a text that combines marks without end

Part: TypeAlias = Literal["header", "text", "figures", "gap"]


class Line(NamedTuple):
    """One row of the screen: block `number`, and of a text its row `row`."""

    number: int
    part: Part
    row: int = 0


class WrappedText:
    """`rows` are (begin, end) in `text`, in characters; there is always at least one."""

    def __init__(self, width: int, text: str = "") -> None:
        self.width = max(1, width)
        self.text = ""
        self.rows: list[tuple[int, int]] = [(0, 0)]
        self.extend(text)

    def extend(self, piece: str) -> None:
        """Text that follows."""
        if not piece:
            return
        begin, _ = self.rows.pop()
        self.text += piece
        text, end = self.text, len(self.text)
        while True:
            newline = text.find("\n", begin)
            stop = end if newline < 0 else newline
            while (cut := self._cut(begin, stop)) < stop:
                self.rows.append((begin, cut))
                begin = cut
            self.rows.append((begin, stop))
            if newline < 0:
                return
            begin = newline + 1

    def row_at(self, place: int) -> int:
        """The row that shows the character at `place`."""
        return max(0, bisect_right(self.rows, (place, len(self.text) + 1)) - 1)

    def place_at(self, row: int, cell: int) -> int | None:
        """The character shown at a cell of a row; None past its end."""
        begin, end = self.rows[row]
        for place in range(begin, end):
            cell -= cells(self.text[place])
            if cell < 0:
                return place
        return None

    def _cut(self, begin: int, stop: int) -> int:
        """Where the row that begins at `begin` ends."""
        fits = self._fits(begin, stop)
        if fits >= stop:
            return stop
        if self.text[fits] == " ":
            return fits + 1
        space = self.text.rfind(" ", begin, fits)
        return space + 1 if space >= begin and self.text[begin:space].strip() else fits

    def _fits(self, begin: int, stop: int) -> int:
        """The end of what has room, at least one character."""
        head = self.text[begin : min(stop, begin + self.width)]
        if head.isascii() and "\t" not in head:
            return begin + len(head)
        room, place = self.width, begin
        while place < min(stop, begin + _DENSE * self.width):
            room -= cells(self.text[place])
            if room < 0:
                break
            place += 1
        return max(place, begin + 1)


def cells(character: str) -> int:
    """The width of a character on the screen."""
    return TAB if character == "\t" else get_character_cell_size(character)


class BlockLayout:
    """A block, its text in rows, and the characters that its tokens begin at."""

    def __init__(self, block: Block, width: int, before: "BlockLayout | None" = None) -> None:
        self.block = block
        wrapped = before.wrapped if before is not None else None
        if wrapped is None or (wrapped.text, wrapped.width) != (block.text, width):
            wrapped = WrappedText(width, block.text)
        self.wrapped: WrappedText = wrapped
        self.figures = figures_line(block.turn)
        self.begins: list[int] = []
        self.spans: list[Span] = []
        self._at = block.given
        self.add_spans(block.spans)

    def add_spans(self, spans: Sequence[Span]) -> None:
        """Tokens that follow."""
        lengths = [length for length, _ in spans]
        self.begins += [self._at + passed for passed in accumulate([0, *lengths[:-1]])][
            : len(lengths)
        ]
        self.spans += spans
        self._at += sum(lengths)

    def token_at(self, place: int) -> int | None:
        """The token that wrote the character at `place`."""
        number = bisect_right(self.begins, place) - 1
        if number < 0 or place >= self.begins[number] + self.spans[number][0]:
            return None
        return number

    @property
    def height(self) -> int:
        """Rows: header, text, figures where there are any, and a gap."""
        return 2 + len(self.wrapped.rows) + bool(self.figures)

    def part(self, row: int) -> tuple[Part, int]:
        """What stands in a row of it."""
        texts = len(self.wrapped.rows)
        if row == 0:
            return "header", 0
        if row <= texts:
            return "text", row - 1
        return ("figures", 0) if row == texts + 1 and self.figures else ("gap", 0)


class ConversationLayout:
    """All blocks one below the other."""

    def __init__(self) -> None:
        self.blocks: list[BlockLayout] = []
        self._tops: list[int] = [0]

    def set(self, blocks: Sequence[Block], width: int) -> None:
        """Show these; the layout of texts that were there before is kept."""
        before = self.blocks + [None] * len(blocks)
        self.blocks = [BlockLayout(b, width, old) for b, old in zip(blocks, before, strict=False)]
        self._measure()

    def extend(self, text: str, spans: Sequence[Span]) -> None:
        """More of the last block."""
        last = self.blocks[-1]
        last.wrapped.extend(text)
        last.add_spans(spans)
        self._tops[-1] = self._tops[-2] + last.height

    def _measure(self) -> None:
        self._tops = [0, *accumulate(layout.height for layout in self.blocks)]

    @property
    def height(self) -> int:
        """Rows in all."""
        return self._tops[-1]

    def top(self, number: int) -> int:
        """The first row of a block."""
        return self._tops[number]

    def line(self, y: int) -> Line | None:
        """What stands in row `y`."""
        if not 0 <= y < self.height:
            return None
        number = bisect_right(self._tops, y) - 1
        part, row = self.blocks[number].part(y - self._tops[number])
        return Line(number, part, row)
