"""Completion while typing, of names and of paths, and the list of names to choose from."""

import asyncio
import os
import shlex
from collections.abc import Callable, Sequence

from textual import on
from textual.suggester import Suggester
from textual.widgets import OptionList

from app.tui.widgets.text import plain
from utils.files import home_path

Names = Callable[[], list[str]]


class Completer(Suggester):
    """Completes the name or path that is being typed; `many` completes the last of several.

    `names` reads folders and so is called in a thread."""

    def __init__(self, names: Names | None, *, many: bool) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._names = names
        self._many = many

    async def get_suggestion(self, value: str) -> str | None:
        return await asyncio.to_thread(self._completed, value)

    def _completed(self, value: str) -> str | None:
        if self._names is not None and last_word(value, many=self._many):
            longer = [n for n in matching(self._names(), value, many=self._many) if n != value]
            if longer:
                return longer[0]
        return completed_path(value, many=self._many)


class Choices(OptionList, can_focus=False):
    """The list under a field, which keeps the focus and the keys; `take` gets what is clicked.
    `chosen` puts the cursor on the first."""

    DEFAULT_CSS = """
    Choices {
        height: auto; max-height: 7; width: 1fr; margin: 0 0 0 30; padding: 0; border: none;
        background: $panel; overlay: screen; constrain: none inside;
        & > .option-list--option-highlighted {
            color: $block-cursor-foreground; background: $block-cursor-background;
        }
    }
    """

    def __init__(
        self, texts: Sequence[str], take: Callable[[str], None], *, chosen: bool = False
    ) -> None:
        super().__init__(*map(plain, texts), compact=True)
        self._texts = texts
        self._take = take
        self._chosen = chosen

    def on_mount(self) -> None:
        self.highlighted = 0 if self._chosen else None

    @property
    def current(self) -> str | None:
        """The name under the cursor, which is on none before the first move."""
        return None if self.highlighted is None else self._texts[self.highlighted]

    def move(self, by: int) -> bool:
        """Move the cursor; False where that would leave the list."""
        place = (-1 if self.highlighted is None else self.highlighted) + by
        inside = 0 <= place < len(self._texts)
        if inside:
            self.highlighted = place
        return inside

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(self._texts[event.option_index])


def last_word(typed: str, *, many: bool) -> str:
    """What is being typed now: of several the last."""
    return typed[typed.rfind(" ") + 1 :] if many else typed


def matching(names: Sequence[str], typed: str, *, many: bool) -> list[str]:
    """`typed` with each of the names that go on like it in place of its last word; of several,
    only names that need no quotation marks."""
    last = last_word(typed, many=many)
    before = typed[: len(typed) - len(last)]
    usable = [name for name in names if not many or shlex.quote(name) == name]
    return [before + name for name in usable if name.startswith(last)]


def completed_path(typed: str, *, many: bool) -> str | None:
    """`typed` and the rest of the first file or folder that goes on like it, if there is one."""
    last = last_word(typed, many=many)
    before = typed[: len(typed) - len(last)]
    if not last or (many and any(mark in last for mark in "'\"\\")):
        return None
    folder, begun = os.path.split(last)
    try:
        with os.scandir(home_path(folder or ".")) as entries:
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
