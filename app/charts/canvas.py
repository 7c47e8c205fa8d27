"""A canvas of braille characters, two by four dots each."""

from itertools import groupby
from typing import TypeAlias

Piece: TypeAlias = tuple[str, int]
"""Neighbouring characters of one owner."""

AXIS = -1
"""Owner of what belongs to no curve."""

# Bits of U+2800 by row and column of the dot in its character.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class Canvas:
    """Characters made of dots; a later owner takes a character over."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.dots = [[0] * width for _ in range(height)]
        self.signs = [[""] * width for _ in range(height)]
        self.owners = [[AXIS] * width for _ in range(height)]

    def dot(self, x: int, y: int, owner: int) -> None:
        """Set the dot `x` from the left and `y` from the bottom, where there is one."""
        column, row = x >> 1, self.height - 1 - (y >> 2)
        if not (0 <= column < self.width and 0 <= row < self.height):
            return
        if self.owners[row][column] != owner:
            self.owners[row][column] = owner
            self.dots[row][column] = 0
        self.dots[row][column] |= _DOTS[3 - (y & 3)][x & 1]

    def rise(self, x: int, low: int, high: int, owner: int) -> None:
        """Set a stretch of one column of dots."""
        for y in range(max(0, low), min(4 * self.height - 1, high) + 1):
            self.dot(x, y, owner)

    def sign(self, column: int, row: int, sign: str, owner: int) -> None:
        """Put a character in place of dots; `row` counts from the top."""
        self.signs[row][column], self.owners[row][column] = sign, owner

    def upright(self, column: int) -> None:
        """A thin line through a column, behind everything."""
        for row in range(self.height):
            if not self.dots[row][column] and not self.signs[row][column]:
                self.sign(column, row, "┊", AXIS)

    def row(self, number: int) -> list[Piece]:
        """A row as pieces of one owner each."""
        cells = zip(self.signs[number], self.dots[number], self.owners[number], strict=True)
        shown = [(sign or (chr(0x2800 + dots) if dots else " "), o) for sign, dots, o in cells]
        return [
            ("".join(char for char, _ in group), owner)
            for owner, group in groupby(shown, key=lambda cell: cell[1])
        ]
