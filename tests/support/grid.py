"""What a terminal would show: the few sequences that Textual writes, put on a grid of cells."""

import re

from rich.cells import cell_len

_PIECES = re.compile(
    r"\x1b\[(?P<position>\d*;?\d*)H|\x1b\[[0-9;?<>$]*[a-zA-Z]|\x1b\]22;[a-z-]*\x07|(?P<text>.)",
    re.S,
)


class Grid:
    """Cells of `columns` and `rows`; a wide character takes two, the second one empty."""

    def __init__(self, columns: int, rows: int) -> None:
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    def write(self, output: str) -> None:
        """Follow whole sequences; what lies outside of the grid is dropped."""
        for piece in _PIECES.finditer(output):
            if piece["position"] is not None:
                row, _, column = piece["position"].partition(";")
                self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
            elif piece["text"] == "\n":
                self._row += 1
            elif piece["text"] == "\r":
                self._column = 0
            elif piece["text"]:
                self._put(piece["text"])

    def _put(self, character: str) -> None:
        width = cell_len(character)
        for offset in range(width):
            if self._row < len(self._cells) and self._column < len(self._cells[self._row]):
                self._cells[self._row][self._column] = "" if offset else character
            self._column += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def find(self, text: str) -> tuple[int, int] | None:
        """Column and row of the first cell of `text`, from 0."""
        for number, row in enumerate(self._cells):
            at = "".join(row).find(text)
            if at >= 0:
                return at, number
        return None
