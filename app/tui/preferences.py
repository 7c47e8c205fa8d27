"""What the app remembers of a person between two sessions, in logs/app.json: the theme.

It is a convenience: where the file cannot be read or written, the defaults hold and nobody is told.
"""

import json
from contextlib import suppress
from pathlib import Path

from utils.errors import HatcheryError
from utils.files import write_json

FILE = Path("logs/app.json")
_LARGEST = 1 << 16  # bytes


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
