"""Foreign text on its way into widgets: made safe, and never read as markup."""

from textual.content import Content

from utils.text import safe

MUTED = "$foreground 55%"
"""The style of what is less important."""

# Marks beside states, so that nothing is told by colour alone, and the theme's colour for each.
MARKS: dict[str, tuple[str, str]] = {
    "fresh": ("●", "$success"),
    "done": ("●", "$success"),
    "running": ("◐", "$accent"),
    "waiting": ("◷", "$secondary"),
    "missing": ("○", MUTED),
    "stale": ("↻", "$warning"),
    "failed": ("✕", "$error"),
    "died": ("✕", "$error"),
    "killed": ("✕", "$error"),
    "damaged": ("✕", "$error"),
    "stopped": ("■", "$warning"),
    "elsewhere": ("◌", MUTED),
}


def plain(text: object, style: str = "") -> Content:
    """One line of text of any origin; `style` is a Textual style such as "bold $accent"."""
    return Content.styled(safe(str(text), lines=False), style)


def block(text: object, style: str = "") -> Content:
    """Text of any origin with its line breaks."""
    return Content.styled(safe(str(text)), style)


def joined(*parts: Content | str | tuple[object, str]) -> Content:
    """Pieces one after the other; a string is plain, a pair is text and style."""
    return Content("").join(
        part
        if isinstance(part, Content)
        else plain(part)
        if isinstance(part, str)
        else plain(*part)
        for part in parts
    )


def mark(state: str) -> Content:
    """The sign of a state in its colour."""
    sign, style = MARKS.get(state, ("?", MUTED))
    return Content.styled(sign, style)
