"""What a model is tuned on, one conversation at a time, with what it learns of each."""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from app.tui.data.documents import View
from app.tui.data.wording import conversation_text, left_out_text, set_facts
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, plain
from app.tui.widgets.virtual_list import RowList

if TYPE_CHECKING:
    from pipeline.cleaner.steps import Rejection
    from pipeline.inspection.conversations import InspectedItem, InspectedSet

_TOKENS, _REASON = 6, 16  # columns of a line


class ConversationsView(View):
    """The conversations of a set at the left, one of them at the right; or what was left out."""

    DEFAULT_CSS = """
    ConversationsView {
        #set-of { height: auto; max-height: 4; padding: 0 2; }
        #set { height: 1fr; }
        #items { width: 44; height: 1fr; }
        #item { width: 1fr; height: 1fr; }
        #item:focus { border: round $accent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,right", "move(1)", "Next", key_display="n"),
        Binding("p,left", "move(-1)", "Previous", key_display="p"),
        Binding("g", "screen.ask('item')", "Number"),
        Binding("v", "left_out", "Left out"),
        Binding("u", "screen.next_set", "Other set"),
    ]

    class Pointed(Message):
        """The cursor is on an item of the set, counted from 0, or on one that was left out."""

        def __init__(self, number: int, left_out: "Rejection | None" = None) -> None:
            super().__init__()
            self.number, self.left_out = number, left_out

    def __init__(self) -> None:
        super().__init__(id="conversations")
        self._set: InspectedSet | None = None
        self._left_out: list[Rejection] = []
        self._shows_left_out = False

    def compose(self) -> ComposeResult:
        yield Static(plain("reading …", "italic"), id="set-of")
        with Horizontal(id="set"):
            with Vertical(id="items", classes="panel"):
                yield RowList(self._row, id="item-list")
            with VerticalScroll(id="item", classes="panel"):
                yield Static(id="item-text")

    def focus_text(self) -> None:
        self.query_one("#item-list").focus()

    def show(self, found: "InspectedSet", left_out: "list[Rejection]") -> None:
        """Show a set, its first conversation first."""
        self._set, self._left_out, self._shows_left_out = found, left_out, False
        self.query_one("#set-of", Static).update(set_facts(found.folder.name, found.metadata))
        self._list()

    def _list(self) -> None:
        assert self._set is not None
        about = self._set.metadata
        count = len(self._left_out) if self._shows_left_out else about.kept
        title = f"{count:,} {'pairs' if about.kind == 'preferences' else 'conversations'}"
        title += " · ◇ held out"
        if self._shows_left_out:
            every = sum(about.rejected.values())
            title = f"{count:,} of {every:,} left out" if count < every else f"{every:,} left out"
        self.query_one("#items").border_title = plain(title)
        listed = self.query_one(RowList)
        listed.show([])
        listed.show([str(number) for number in range(count)])
        if not count:
            self.query_one("#item").border_title = ""
            self.query_one("#item-text", Static).update(plain("Nothing was left out.", MUTED))

    def _row(self, key: str, width: int) -> Content:
        number = int(key)
        if self._shows_left_out:
            one = self._left_out[number]
            place = max(4, width - _REASON - 2)
            cells = [plain(one.reason.replace("_", " ")), plain(_end_of(one.where, place), MUTED)]
            return columns(cells, [_REASON, place])
        assert self._set is not None
        line = self._set.line(number)
        sign = ("◇", "$secondary") if line.held_out else (" ", "")
        digits = len(f"{self._set.metadata.kept:,}")
        cells = [
            plain(f"{number + 1:,}", MUTED),
            joined(sign),
            plain(f"{line.tokens:,}", MUTED),
            plain(line.opening),
        ]
        return columns(cells, [-digits, 1, -_TOKENS, max(4, width - digits - _TOKENS - 7)])

    @on(RowList.Moved)
    def _moved(self) -> None:
        current = self.query_one(RowList).current
        if current is not None:
            number = int(current)
            one = self._left_out[number] if self._shows_left_out else None
            self.post_message(self.Pointed(number, one))

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        self.query_one("#item").focus()

    def show_item(self, item: "InspectedItem") -> None:
        """Show a conversation, or the two answers of a pair."""
        held = " · held out" if item.held_out else ""
        self._put(f"{item.number + 1:,} · {item.origin}{held}", conversation_text(item))

    def show_left_out(self, one: "Rejection", row: str) -> None:
        """Show why something was left out, and its row as it stands in its file."""
        self._put(one.where.rpartition("/")[2], left_out_text(one, row))

    def _put(self, title: str, text: Content) -> None:
        self.query_one("#item").border_title = plain(title)
        self.query_one("#item-text", Static).update(text)
        self.query_one("#item").scroll_home(animate=False)

    def say(self, text: Content) -> None:
        """Show a message in place of a set."""
        self._set, self._left_out = None, []
        self.query_one("#set-of", Static).update(text)
        self.query_one(RowList).show([])
        self.query_one("#items").border_title = self.query_one("#item").border_title = ""
        self.query_one("#item-text", Static).update()

    def go_to(self, number: int) -> None:
        """Put the cursor on an item, counted from 0, or on the last one there is."""
        listed = self.query_one(RowList)
        if listed.current is not None:
            listed.action_move(number - int(listed.current))

    def action_move(self, by: int) -> None:
        self.query_one(RowList).action_move(by)

    def action_left_out(self) -> None:
        """Turn between what is in the set and what is not."""
        if self._set is not None:
            self._shows_left_out = not self._shows_left_out
            self._list()


def _end_of(where: str, width: int) -> str:
    """The end of a place, which tells it from others: the file's name and the line."""
    place = where.rpartition("/")[2]
    return place if len(place) <= width else f"…{place[1 - width :]}"
