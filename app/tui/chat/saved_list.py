"""The list of earlier conversations: open one, search in all, give one a name, delete one."""

import time
from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message

from app.tui.chat.conversation import Conversation
from app.tui.chat.storage import ChatStore, SavedChat
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.find_bar import FindBar
from app.tui.widgets.meter import columns, fitted
from app.tui.widgets.text import MUTED, joined, plain
from app.tui.widgets.virtual_list import RowList
from utils.errors import HatcheryError
from utils.units import ago

NEW = "new"
"""The key of the row that begins a conversation."""
_AGE = 10  # columns


class ChatList(Vertical):
    """Posts what was opened, named and deleted."""

    DEFAULT_CSS = "ChatList FindBar { margin-bottom: 0; padding: 0; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/", id="chats.search"),
        Binding("r", "rename", "Rename", id="chats.rename"),
        Binding("delete", "remove", "Delete", key_display="Del", id="chats.remove"),
    ]

    class Opened(Message):
        """A conversation; one without turns is new."""

        def __init__(self, name: str, conversation: Conversation) -> None:
            super().__init__()
            self.name, self.conversation = name, conversation

    class Renamed(Message):
        """The conversation `name` has another title, empty for its own first words."""

        def __init__(self, name: str, title: str) -> None:
            super().__init__()
            self.name, self.title = name, title

    class Removed(Message):
        """The conversation `name` is gone."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, store: ChatStore, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._store = store
        self._saved: dict[str, SavedChat] = {}
        self._found: frozenset[str] | None = None  # of a search, None without one
        self._wanted = ""
        self.busy = False  # while the conversation that is open may not be deleted
        self.current = ""

    def compose(self) -> ComposeResult:
        yield RowList(self._line, id="chat-list")
        yield FindBar()

    @property
    def _rows(self) -> RowList:
        return self.query_one(RowList)

    @property
    def _chosen(self) -> SavedChat | None:
        return self._saved.get(self._rows.current or "")

    @work(thread=True, group="chats", exclusive=True, exit_on_error=False)
    def look(self) -> None:
        """Look for the conversations there are, and for those that hold what is searched for."""
        saved, wanted = self._store.recent(), self._wanted
        found = self._store.search(saved, wanted) if wanted else None
        self.app.call_from_thread(self._listed, saved, found)

    def _listed(self, saved: Sequence[SavedChat], found: frozenset[str] | None) -> None:
        self._saved, self._found = {one.name: one for one in saved}, found
        shown = [name for name in self._saved if found is None or name in found]
        self._rows.show(shown if found is not None else [NEW, *shown])
        self.refresh_bindings()

    def _line(self, key: str, width: int) -> Content:
        if key == NEW:
            return plain("+ a new one", "bold $accent")
        saved = self._saved[key]
        age = plain(ago(max(0.0, time.time() - saved.time)), MUTED)
        return columns([fitted(saved.title, width), age], [max(8, width - 2 - _AGE), -_AGE])

    @on(RowList.Moved)
    def _moved(self) -> None:
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("rename", "remove"):
            return self.is_mounted and self._chosen is not None
        return True

    @on(RowList.Chosen)
    def _opened(self, event: RowList.Chosen) -> None:
        event.stop()
        self._load(self._rows.current or NEW)

    @work(thread=True, group="chats", exclusive=True, exit_on_error=False)
    def _load(self, key: str) -> None:
        if key == NEW:
            self.post_message(self.Opened(self._store.new_name(), Conversation()))
        else:
            self.post_message(self.Opened(key, self._store.load(key)))

    # Search and names.

    def action_search(self) -> None:
        self.query_one(FindBar).ask("search", "Search ", self._wanted)

    def action_rename(self) -> None:
        if chosen := self._chosen:
            self.query_one(FindBar).ask(chosen.name, "Name ", chosen.title)

    @on(FindBar.Typed)
    def _typed(self, event: FindBar.Typed) -> None:
        event.stop()
        if event.purpose == "search":
            self._wanted = event.text
            self.look()
        elif isinstance(event, FindBar.Asked):
            self._rename(event.purpose, event.text.strip())

    @work(thread=True, group="keep", exit_on_error=False)
    def _rename(self, name: str, title: str) -> None:
        try:
            self._store.rename(name, title)
        except HatcheryError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
        else:
            self.post_message(self.Renamed(name, title))
            self.app.call_from_thread(self.look)

    @work
    async def action_remove(self) -> None:
        chosen = self._chosen
        if chosen is None:
            return
        if self.busy and chosen.name == self.current:
            self.notify("The model still writes in this one: Esc stops it")
            return
        question = joined(
            ("Delete the conversation ", "bold"), (chosen.title, "bold"), ("?\n\n", "bold")
        )
        told = Content("").join([question, plain("What was saved as Markdown stays.")])
        if await self.app.push_screen_wait(ConfirmDialog(told, "Delete")):
            self._remove(chosen.name)

    @work(thread=True, group="keep", exit_on_error=False)
    def _remove(self, name: str) -> None:
        try:
            self._store.remove(name)
        except HatcheryError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
        else:
            self.post_message(self.Removed(name))
            self.app.call_from_thread(self.look)
