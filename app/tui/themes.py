"""The two themes, one accent on charcoal and on shell, and the one that was chosen last.

The choice is kept in logs/app.json. It is a convenience: where the file cannot be read or written,
the default holds and nobody is told.
"""

import json
from contextlib import suppress
from pathlib import Path

from textual.theme import Theme

from utils.errors import HatcheryError
from utils.files import write_json

FILE = Path("logs/app.json")
_LARGEST = 1 << 16  # bytes

_QUIET = {
    "block-cursor-text-style": "none",
    "footer-background": "transparent",
    "footer-item-background": "transparent",
    "footer-description-background": "transparent",
    "footer-key-background": "transparent",
    "border-blurred": "$surface-lighten-1",
}

DARK = Theme(
    name="hatchery-dark",
    primary="#f0b44c",
    secondary="#8fb7d9",
    accent="#f0b44c",
    warning="#e6894f",
    error="#e5606a",
    success="#86c07c",
    foreground="#d9d6ce",
    background="#15171a",
    surface="#1b1e22",
    panel="#24282e",
    dark=True,
    variables=_QUIET
    | {
        "footer-key-foreground": "#f0b44c",
        "footer-description-foreground": "#9a978f",
        "block-cursor-background": "#3a3426",
        "block-cursor-foreground": "#f6d9a0",
        "block-cursor-blurred-background": "#26282b",
        "border": "#4a4f57",
        "border-blurred": "#343941",
        "scrollbar": "#343941",
        "scrollbar-background": "#1b1e22",
    },
)

LIGHT = Theme(
    name="hatchery-light",
    primary="#9a5b00",
    secondary="#2f6690",
    accent="#9a5b00",
    warning="#b04a12",
    error="#b3202c",
    success="#34752b",
    foreground="#2b2a27",
    background="#faf7f0",
    surface="#f3eee3",
    panel="#e9e2d3",
    dark=False,
    variables=_QUIET
    | {
        "footer-key-foreground": "#9a5b00",
        "footer-description-foreground": "#6d685d",
        "block-cursor-background": "#f3ddb0",
        "block-cursor-foreground": "#4a2c00",
        "block-cursor-blurred-background": "#ece5d6",
        "border": "#b9b09c",
        "border-blurred": "#d6cdba",
        "scrollbar": "#d6cdba",
        "scrollbar-background": "#f3eee3",
    },
)


def kept_theme() -> str | None:
    """The name of the theme that was chosen last; None where that is not known."""
    try:
        if not FILE.is_file() or FILE.stat().st_size > _LARGEST:
            return None
        kept = json.loads(FILE.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    theme = kept.get("theme") if isinstance(kept, dict) else None
    return theme if isinstance(theme, str) else None


def keep_theme(name: str) -> None:
    """Remember a theme."""
    with suppress(OSError, HatcheryError):
        write_json(FILE, {"theme": name})
