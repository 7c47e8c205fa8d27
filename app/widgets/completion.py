"""Completion while typing: paths of the file system."""

import asyncio
import os
import shlex
from pathlib import Path

from textual.suggester import Suggester


class PathSuggester(Suggester):
    """Completes the path that is being typed; `many` completes the last of several."""

    def __init__(self, *, many: bool) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._many = many

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(completed_path, value, many=self._many)


def completed_path(typed: str, *, many: bool) -> str | None:
    """`typed` and the rest of the first file or folder that goes on like it, if there is one."""
    before, last = "", typed
    if many:
        start = typed.rfind(" ") + 1
        before, last = typed[:start], typed[start:]
        if any(mark in last for mark in "'\"\\"):
            return None
    if not last:
        return None
    folder, begun = os.path.split(last)
    try:
        with os.scandir(Path(folder or ".").expanduser()) as entries:
            found = sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if entry.name.startswith(begun) and (begun or not entry.name.startswith("."))
            )
    except (OSError, ValueError):
        return None
    for name, is_folder in found:
        if not name.isprintable() or (many and shlex.quote(name) != name):
            continue
        whole = os.path.join(folder, name) + ("/" if is_folder else "")  # noqa: PTH118 (keeps ./)
        if whole != last:
            return before + whole
    return None
