"""A question before something is destroyed, or something long is begun."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static
from textual.widgets.button import ButtonVariant

from app.tui.widgets.text import plain


class ConfirmDialog(ModalScreen[bool]):
    """Says what would go, or with `harmless` what would begin; y does it, Esc and n do not.
    Nothing is chosen beforehand but no."""

    CSS = """
    ConfirmDialog.question { align: center middle; background: $background 60%; }
    ConfirmDialog > Vertical {
        width: 72; max-width: 90%; height: auto; max-height: 80%;
        border: round $error; background: $surface; padding: 1 2;
        Static { height: auto; max-height: 12; }
        Horizontal { height: 3; margin-top: 1; align: right middle; }
        Button { margin-left: 2; }
    }
    ConfirmDialog.-harmless > Vertical { border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, text: Content, yes: str, *, harmless: bool = False) -> None:
        super().__init__(classes="question -harmless" if harmless else "question")
        self._text, self._yes = text, yes
        self._variant: ButtonVariant = "primary" if harmless else "error"

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._text)
            with Horizontal():
                yield Button(plain("No (n)"), id="no", compact=True)
                yield Button(
                    plain(f"{self._yes} (y)"), id="yes", variant=self._variant, compact=True
                )

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
