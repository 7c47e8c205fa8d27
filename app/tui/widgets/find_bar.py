"""A line to type into that appears when asked for and goes when it is done."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from app.tui.widgets.text import plain
from utils.text import safe


class _Line(Input):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def validate_value(self, value: str) -> str:
        return safe(value, lines=False)

    def action_leave(self) -> None:
        assert isinstance(self.parent, FindBar)
        self.parent.close(keep=False)


class FindBar(Horizontal):
    """`ask` shows it; Enter posts `Asked`, every key `Typed`, Esc an empty `Typed`."""

    DEFAULT_CSS = """
    FindBar {
        display: none; dock: bottom; height: 1; margin-bottom: 1; padding: 0 2;
        background: $panel;
    }
    FindBar.-shown { display: block; layout: horizontal; }
    FindBar Static { width: auto; color: $accent; text-style: bold; }
    FindBar _Line { width: 1fr; height: 1; border: none; padding: 0 1; background: transparent; }
    """

    class Typed(Message):
        """What stands there now."""

        def __init__(self, purpose: str, text: str) -> None:
            super().__init__()
            self.purpose, self.text = purpose, text

    class Asked(Typed):
        """Enter was pressed."""

    def __init__(self) -> None:
        super().__init__()
        self._purpose = ""
        self._before: Widget | None = None

    def compose(self) -> ComposeResult:
        yield Static()
        yield _Line(compact=True)

    def ask(self, purpose: str, label: str, text: str = "") -> None:
        """Show the line; `purpose` comes back with what is typed."""
        self._purpose = purpose
        self._before = self.screen.focused
        self.query_one(Static).update(plain(label))
        line = self.query_one(_Line)
        with self.prevent(Input.Changed):
            line.value = text
        self.add_class("-shown")
        line.focus()

    def close(self, *, keep: bool) -> None:
        """Hide the line; without `keep` as if nothing stood there."""
        self.remove_class("-shown")
        if self._before is not None and self._before.is_attached:
            self._before.focus()
        if not keep:
            self.post_message(self.Typed(self._purpose, ""))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(self._purpose, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.close(keep=True)
        self.post_message(self.Asked(self._purpose, event.value))
