"""A text that grows, cut into rows of a width, at a cost that depends only on what is new.

Lines break after a space where there is one, so a row once followed by another never changes:
only the last one is looked at again. Knows no widgets.
"""

from bisect import bisect_right

from rich.cells import get_character_cell_size

TAB = 4  # cells
_DENSE = 4  # characters a cell may have, of a text that combines marks without end


class Wrapped:
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
