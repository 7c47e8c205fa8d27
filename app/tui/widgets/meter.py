"""Bars of one line, and columns that fit the width there is."""

from collections.abc import Sequence

from textual.content import Content

from app.tui.widgets.text import MUTED, plain
from utils.text import safe


def meter(share: float, width: int) -> Content:
    """A bar of `width` cells, `share` of it filled; it turns to warning above nine tenths."""
    filled = round(max(0.0, min(1.0, share)) * width)
    style = "$warning" if share > 0.9 else "$accent"
    return Content.assemble(("█" * filled, style), ("░" * (width - filled), MUTED))


def columns(cells: Sequence[Content], widths: Sequence[int]) -> Content:
    """Cells side by side in columns of these widths; a negative width aligns to the right."""
    parts = []
    for cell, width in zip(cells, widths, strict=True):
        size = abs(width)
        fitted = cell.truncate(size, ellipsis=True)
        gap = " " * (size - fitted.cell_length)
        parts.append(Content.assemble(gap, fitted) if width < 0 else Content.assemble(fitted, gap))
    return Content("  ").join(parts)


def fitted(text: str, width: int, style: str = "") -> Content:
    """Foreign text on one line of at most `width` cells."""
    return plain(safe(text, lines=False), style).truncate(width, ellipsis=True)
