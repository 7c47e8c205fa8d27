"""The files and folders there are, to pick a path from."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from app.tui.forms.folder_listing import Entry, Listing, Wanted, first_listing
from app.tui.widgets.meter import columns
from app.tui.widgets.picker import PickDialog, PickLine, marked
from app.tui.widgets.text import MUTED, joined, plain
from utils.files import home_path
from utils.units import ago, human_bytes

_HERE, _ABOVE = "./", "../"  # keys of rows that no entry can have, since no name has a slash
_SLOW = 0.3  # seconds of reading a folder before that is said
_KEYS = "Enter opens a folder, takes a file   Backspace the folder above   Esc back"

Read = Callable[[Sequence[Path], Wanted], Listing]


class FilePicker(PickDialog):
    """Ends with the path that was picked, as text. The first of `places` that can be read is shown
    at the beginning; `read` may take as long as it likes: it runs in a thread that nothing waits
    for, also not the end of the app."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("backspace", "above", show=False)]

    class Listed(Message):
        """A folder has been read; `number` is that of the wish for it."""

        def __init__(self, number: int, listing: Listing) -> None:
            super().__init__()
            self.number, self.listing = number, listing

    def __init__(self, want: Wanted, places: Sequence[Path], *, read: Read = first_listing) -> None:
        super().__init__(
            f"Pick {want.title}", "▸ ", _KEYS, placeholder="part of a name, or a path/"
        )
        self._want = want
        self._read = read
        self._places = places
        self._listing: Listing | None = None
        self._by_name: dict[str, Entry] = {}
        self._words: Sequence[str] = ()
        self._wishes = 0
        self._waiting: Path | None = None
        self._fault = ""
        self._path_typed = ""

    def on_mount(self) -> None:
        self._open(*self._places)

    # Reading folders.

    def _open(self, *places: Path) -> None:
        """Ask for a folder; the one that is shown stays until that has been read."""
        self._wishes += 1
        self._waiting, number = places[0], self._wishes

        def work() -> None:
            found = self._read(places, self._want)
            if self.is_attached:
                self.post_message(self.Listed(number, found))

        Thread(target=work, name="read a folder", daemon=True).start()
        self.set_timer(_SLOW, self.describe)

    @on(Listed)
    def _listed(self, message: Listed) -> None:
        if message.number != self._wishes:
            return  # another one was asked for meanwhile
        self._waiting = None
        found = message.listing
        self._fault = f"{found.folder}: {found.fault}" if found.fault else ""
        if found.fault and self._listing is not None:
            self.describe()
            return
        first, self._listing = self._listing is None, found
        self._by_name = {entry.name: entry for entry in found.entries}
        if self.typed == self._path_typed:  # which led here; anything typed since stays
            self._clear()
        self.fill(self.typed)
        if first and found.folder == self._places[-1]:  # which nobody wants as a whole
            self.action_move(len(self.keys_for("")) - len(self._by_name))

    def _clear(self) -> None:
        line = self.query_one(PickLine)
        with line.prevent(Input.Changed):
            line.value = ""

    # What it shows.

    @property
    def folder(self) -> Path:
        """The folder that is shown, or is to be shown first."""
        return self._places[0] if self._listing is None else self._listing.folder

    def keys_for(self, typed: str) -> Sequence[str]:
        self._words = words = typed.casefold().split()
        if self._listing is None:
            return []
        if not words:
            here = [_HERE] if self._want.folders and not self._listing.fault else []
            above = [_ABOVE] if self.folder.parent != self.folder else []
            return [*here, *above, *self._by_name]
        fitting = [name for name in self._by_name if all(w in name.casefold() for w in words)]
        return sorted(fitting, key=lambda name: not name.casefold().startswith(words[0]))

    def row(self, key: str, width: int) -> Content:
        if key == _HERE:
            return joined(
                ("● ", "$success"), "take this folder  ", (f"{self.folder.name}/", "bold")
            )
        if key == _ABOVE:
            return joined("↑ the folder above")
        entry = self._by_name[key]
        size = "" if entry.size is None else human_bytes(entry.size)
        old = "" if entry.modified is None else ago(max(0.0, time.time() - entry.modified))
        quiet = "" if entry.reads or entry.folder else MUTED
        name = marked(f"{entry.name}{'/' * entry.folder}", self._words, quiet or "bold")
        cells = [name, plain(entry.kind, quiet or MUTED), plain(size, quiet), plain(old, MUTED)]
        return columns(cells, [max(10, width - 20 - 10 - 10 - 6), 20, -10, -10])

    def about(self, key: str | None) -> Content:
        if self._waiting is not None:
            return joined(("reading ", "italic"), f"{self._waiting} …  ", ("Esc leaves", MUTED))
        if self._fault:
            return joined((f"✕ {self._fault}", "$error"))
        if key is None:
            return joined((str(self.folder), "$accent"), "  nothing here has such a name")
        if key in (_HERE, _ABOVE):
            shown = self.folder if key == _HERE else self.folder.parent
            return joined((str(shown), "$accent"), f"  {self._summary()}" if key == _HERE else "")
        entry = self._by_name[key]
        return joined((str(self.folder / entry.name), "$accent"), f"  {entry.kind}")

    def _summary(self) -> str:
        assert self._listing is not None
        entries, left_out = self._listing.entries, self._listing.left_out
        folders = sum(entry.folder for entry in entries)
        read = sum(entry.reads for entry in entries if not entry.folder)
        more = f" · the first {len(entries):,} of {len(entries) + left_out:,}" if left_out else ""
        files = len(entries) - folders
        return f"folders: {folders:,} · files: {files:,}, of which {read:,} can be read{more}"

    def count(self, shown: int) -> str:
        return str(self.folder)

    # What it does.

    def fill(self, typed: str) -> None:
        """Show what fits; a path that ends in a slash is gone to."""
        if typed.endswith("/") and self._listing is not None:
            self._path_typed = typed
            self._open(Path(os.path.normpath(self.folder / home_path(typed))))
            return
        super().fill(typed)

    def chosen(self, key: str) -> None:
        if key == _HERE:
            self.dismiss(str(self.folder))
        elif key == _ABOVE or self._by_name[key].folder:
            self._clear()
            self._open(self.folder.parent if key == _ABOVE else self.folder / key)
        else:
            self.dismiss(str(self.folder / key))

    def action_above(self) -> None:
        self._open(self.folder.parent)
