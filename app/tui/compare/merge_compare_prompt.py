"""The line that a prompt for all is written on, which remembers those before it."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from app.tui.chat.prompt import PromptArea

_CONTINUE = "a text that every model goes on with, or FILE:path; ↑ brings back earlier ones"
_CHAT = "a message that every model answers; ↑ brings back earlier ones"


class Prompt(PromptArea):
    """↑ in the first line and ↓ in the last go through `history`, oldest first, which grows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "leave", "To the answers", priority=True),
        Binding("up", "earlier", "Earlier"),
        Binding("down", "later", "Later", show=False),
    ]
    DEFAULT_CSS = """
    Prompt, Prompt:focus {
        width: 1fr; min-height: 1; max-height: 4; border: none; padding: 0;
    }
    Prompt:focus { background: $surface; }
    """

    def __init__(self, history: list[str]) -> None:
        super().__init__()
        self.remove_class("panel")
        self.placeholder = _CONTINUE
        self._history = history
        self._at = len(history)
        self._typed = ""

    def ask_for(self, *, chat: bool) -> None:
        """Say what is to be written."""
        self.placeholder = _CHAT if chat else _CONTINUE

    def on_focus(self) -> None:
        if self._history[-1:] == [self.text]:  # it was sent, so what is typed is another
            self.select_all()

    def _send(self) -> None:
        if self.text and self._history[-1:] != [self.text]:
            self._history.append(self.text)
        self._at = len(self._history)
        super()._send()

    def action_earlier(self) -> None:
        if self.cursor_location[0] or not self._at:
            self.action_cursor_up()
            return
        if self._at == len(self._history):
            self._typed = self.text
        self._recall(self._at - 1)

    def action_later(self) -> None:
        last = self.cursor_location[0] == self.document.line_count - 1
        if not last or self._at == len(self._history):
            self.action_cursor_down()
        else:
            self._recall(self._at + 1)

    def _recall(self, place: int) -> None:
        self._at = place
        self.fill(self._history[place] if place < len(self._history) else self._typed)
