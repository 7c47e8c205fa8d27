"""The list that the models to compare are chosen from."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from app.tui.compare.selection import Candidate, labels, memory, selected
from app.tui.compare.wording import heading, row
from app.tui.widgets.text import MUTED, joined, plain
from app.tui.widgets.virtual_list import RowList
from utils.text import safe
from utils.units import human_bytes

_TYPED = "0123456789,-al"


class Models(RowList):
    """Space or a click chooses; what numbers or `all` are made of goes on to the line below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Compare"),
        Binding("space", "mark", "Choose"),
    ]

    class Marked(Message):
        """Space or a click on a line."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def action_mark(self) -> None:
        if self.current is not None:
            self.post_message(self.Marked(self.current))
            self.action_move(1)

    def on_key(self, event: events.Key) -> None:
        if event.character and event.character in _TYPED:
            event.stop()
            self.screen.query_one(ModelPicker).type(event.character)

    def on_click(self, event: events.Click) -> None:
        event.prevent_default()
        number = self.scroll_offset.y + event.y
        if number < len(self._keys):
            self.action_move(number - self._at)
            self.post_message(self.Marked(self._keys[number]))


class _Numbers(Input):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Compare"),
        Binding("up,down,tab", "list", "To the list", key_display="↑ ↓"),
    ]

    def validate_value(self, value: str) -> str:
        return safe(value, lines=False)

    def action_list(self) -> None:
        self.screen.query_one(Models).focus()


class ModelPicker(Vertical):
    """`fill` gives it the models there are; `Done` comes with those chosen, in their order."""

    DEFAULT_CSS = """
    ModelPicker {
        height: 1fr;
        & .names { height: 1; }
        & Models { height: 1fr; }
        & .typed { height: 1; }
        & .typed Static { width: auto; }
        & _Numbers { width: 1fr; height: 1; border: none; padding: 0 1; background: $surface; }
        & .verdict { height: auto; max-height: 4; }
    }
    """

    class Done(Message):
        """Enter: compare these."""

        def __init__(self, chosen: list[Candidate]) -> None:
            super().__init__()
            self.chosen = chosen

    def __init__(self) -> None:
        super().__init__(id="model-picker", classes="panel")
        self.border_title = "Which models?"
        self._there: list[Candidate] = []
        self._labels: list[str] = []
        self._chosen: list[Candidate] = []
        self._free: int | None = None
        self._fault = ""

    def compose(self) -> ComposeResult:
        yield Static(classes="names")
        yield Models(self._line)
        with Horizontal(classes="typed"):
            yield Static(plain("numbers "))
            yield _Numbers(
                placeholder="1,3,5 or 2-4 or all; Space in the list",
                compact=True,
                select_on_focus=False,
            )
        yield Static(classes="verdict")

    def on_resize(self) -> None:
        self.query_one(".names", Static).update(heading(self._width))
        self.query_one(Models).refresh()

    @property
    def _width(self) -> int:
        return max(40, self.content_size.width - 1)

    @property
    def chosen(self) -> list[Candidate]:
        return list(self._chosen)

    def focus_list(self) -> None:
        """Take the focus."""
        self.query_one(Models).focus()

    def fill(
        self, there: Sequence[Candidate], chosen: Sequence[Candidate], free: int | None
    ) -> None:
        """Show what there is; `free` is memory in bytes."""
        self._there, self._free = list(there), free
        self._labels = labels(self._there)
        self._chosen = [one for one in chosen if one in self._there]
        self._fault = ""
        self.query_one(Models).show([str(place) for place in range(len(self._there))])
        self._show(retype=True)

    def say(self, text: Content) -> None:
        """A line in place of the count of what is chosen."""
        self.query_one(".verdict", Static).update(text)

    def _line(self, key: str, width: int) -> Content:
        place = int(key)
        one = self._there[place]
        return row(one, self._labels[place], place + 1, width, chosen=one in self._chosen)

    def _show(self, *, retype: bool) -> None:
        if retype:
            numbers = [str(self._there.index(one) + 1) for one in self._chosen]
            typed = self.query_one(_Numbers)
            with typed.prevent(Input.Changed):
                typed.value = ",".join(numbers)
        self.query_one(Models).refresh()
        self.say(self._verdict())

    def _verdict(self) -> Content:
        if self._fault:
            return joined(("✕ ", "$error"), (self._fault, "$error"))
        if not self._there:
            return plain("")
        count, needed = len(self._chosen), memory(self._chosen)
        parts = [plain(f"{count} chosen" if count else "nothing chosen", "bold" if count else "")]
        if needed:
            short = self._free is not None and needed > self._free
            free = "" if self._free is None else f" of {human_bytes(self._free)} free"
            text = f"{human_bytes(needed)} of memory{free}"
            parts.append(plain(f"! {text}, too much" if short else text, "$warning" * short))
        elif not count:
            parts.append(plain("Enter alone takes the line under the cursor", MUTED))
        return Content(" · ").join(parts)

    @on(Models.Marked)
    def _marked(self, event: Models.Marked) -> None:
        event.stop()
        one = self._there[int(event.key)]
        (self._chosen.remove if one in self._chosen else self._chosen.append)(one)
        self._fault = ""
        self._show(retype=True)

    def type(self, character: str) -> None:
        """Begin a choice by numbers, or go on with it: fast keys may still come to the list."""
        typed = self.query_one(_Numbers)
        typed.value = typed.value + character if self.screen.focused is typed else character
        typed.cursor_position = len(typed.value)
        self.screen.set_focus(typed)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        try:
            places = selected(event.value, len(self._there))
        except ValueError as error:
            self._fault = str(error)
        else:
            self._fault, self._chosen = "", [self._there[place] for place in places]
        self._show(retype=False)

    @on(Input.Submitted)
    @on(Models.Chosen)
    def _done(self, event: Message) -> None:
        event.stop()
        if self._fault or not self._there:
            return
        current = self.query_one(Models).current
        if self._chosen:
            self.post_message(self.Done(self.chosen))
        elif isinstance(event, Models.Chosen) and current is not None:
            self.post_message(self.Done([self._there[int(current)]]))
