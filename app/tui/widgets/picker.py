"""A dialog in which one row of many is picked: a line to type in, the rows that it leaves, a few
words about the row under the cursor."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from app.tui.widgets.text import plain
from app.tui.widgets.virtual_list import RowList
from utils.text import safe

_NARROW = 100  # columns of a window below which the dialog takes all of it


class PickLine(Input):
    """What is typed makes the list shorter; the keys that move go to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move(-1)", show=False),
        Binding("down", "screen.move(1)", show=False),
        Binding("pageup", "screen.page(-1)", show=False),
        Binding("pagedown", "screen.page(1)", show=False),
        Binding("enter", "screen.choose", "Choose"),
    ]

    def validate_value(self, value: str) -> str:
        return safe(value, lines=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where there is nothing to erase, Backspace is for the dialog."""
        return action != "delete_left" or bool(self.value)


class PickList(RowList, can_focus=False):
    """The rows; the line above keeps the focus."""


class PickDialog(ModalScreen[str | None]):
    """Ends with the key of the row that was chosen, or None. A subclass says which keys there
    are for what is typed, draws their rows and says something about each."""

    DEFAULT_CSS = """
    PickDialog { align: center top; }
    PickDialog > Vertical {
        width: 90%; height: 80%; margin-top: 2;
        border: round $accent; border-title-color: $accent; background: $surface; padding: 0 1;
        & .asked { height: 1; }
        & .asked Static { width: auto; color: $accent; text-style: bold; }
        & PickLine { width: 1fr; height: 1; border: none; padding: 0 1; background: $panel; }
        & PickList { height: 1fr; margin-top: 1; }
        & PickList > .rows--cursor-blurred {
            color: $block-cursor-foreground; background: $block-cursor-background;
        }
        & .about { height: 4; color: $text-muted; border-top: solid $panel; }
        & .keys { height: 1; color: $text-muted; }
    }
    PickDialog.-small > Vertical { width: 100%; height: 100%; margin: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, title: str, label: str, keys: str, *, placeholder: str = "") -> None:
        super().__init__()
        self._title, self._label, self._keys_told = title, label, keys
        self._placeholder = placeholder

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = plain(self._title)
            with Horizontal(classes="asked"):
                yield Static(plain(self._label))
                yield PickLine(placeholder=self._placeholder, compact=True)
            yield PickList(self.row)
            yield Static(classes="about")
            yield Static(plain(self._keys_told), classes="keys")

    def on_mount(self) -> None:
        self.query_one(PickLine).focus()
        self.fill("")

    def on_resize(self) -> None:
        self.set_class(self.app.size.width < _NARROW, "-small")

    # What a subclass says.

    def keys_for(self, typed: str) -> Sequence[str]:
        """The keys of the rows that fit what is typed, best first."""
        raise NotImplementedError

    def row(self, key: str, width: int) -> Content:
        """The line of a row."""
        raise NotImplementedError

    def about(self, key: str | None) -> Content:
        """A few lines about the row under the cursor; None where there is no row."""
        raise NotImplementedError

    def count(self, shown: int) -> str:
        """How many rows are shown, in the words of the frame."""
        return f"{shown:,}"

    def chosen(self, key: str) -> None:
        """A row was chosen."""
        self.dismiss(key)

    # What it does.

    @property
    def typed(self) -> str:
        return self.query_one(PickLine).value

    @property
    def current(self) -> str | None:
        """The key of the row under the cursor."""
        return self.query_one(PickList).current

    def fill(self, typed: str) -> None:
        """Show the rows that fit, the cursor on the first."""
        rows = self.query_one(PickList)
        keys = self.keys_for(typed)
        rows.show(keys)
        rows.action_move(-len(keys))
        self.fill_count(len(keys))
        self.describe()

    def fill_count(self, shown: int = 0) -> None:
        """Say in the frame how many rows are shown."""
        self.query_one(Vertical).border_subtitle = plain(self.count(shown))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.fill(event.value)

    @on(RowList.Moved)
    def describe(self) -> None:
        """Say something about the row under the cursor."""
        self.query_one(".about", Static).update(self.about(self.current))

    @on(RowList.Chosen)
    def action_choose(self) -> None:
        if (key := self.current) is not None:
            self.chosen(key)

    def action_move(self, rows: int) -> None:
        self.query_one(PickList).action_move(rows)

    def action_page(self, pages: int) -> None:
        self.query_one(PickList).action_page(pages)

    def action_leave(self) -> None:
        self.dismiss(None)


def marked(text: object, words: Sequence[str], style: str = "") -> Content:
    """One line of foreign text in which the words that are searched for stand out."""
    content = plain(text, style)
    shown = content.plain.casefold()
    if len(shown) != len(content.plain):  # a letter that becomes two has moved all behind it
        return content
    for word in words:
        at = shown.find(word) if word else -1
        while at >= 0:
            content = content.stylize("bold $accent", at, at + len(word))
            at = shown.find(word, at + len(word))
    return content
