"""Where prompts are written: Enter sends, a new line needs a modifier, pasted lines stay one."""

from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from pipeline.inference.prompts import FILE, STANDARD_INPUT, read_prompt
from utils.errors import HatcheryError, UsageError
from utils.text import safe


class PromptArea(TextArea):
    """A few lines that grow with what is written; posts `Sent`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", priority=True),
        Binding("tab", "leave", "To the texts", priority=True),
        Binding("f1", "app.help", "Help"),
        Binding("ctrl+j,shift+enter,alt+enter", "line", "New line", show=False, key_display="^j"),
    ]
    DEFAULT_CSS = """
    PromptArea, PromptArea:focus {
        height: auto; min-height: 3; max-height: 10; background: transparent;
        & .text-area--cursor-line { background: transparent; }
        & .text-area--placeholder { color: $text-muted; }
    }
    """

    class Sent(Message):
        """Enter was pressed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Unread(Message):
        """The file that FILE: names cannot be read."""

        def __init__(self, error: HatcheryError) -> None:
            super().__init__()
            self.error = error

    class Left(Message):
        """Tab: on to what was written."""

    def __init__(self) -> None:
        super().__init__(classes="panel", compact=True, highlight_cursor_line=False)

    def get_line(self, line_index: int) -> Text:
        return Text(safe(self.document.get_line(line_index)), end="", no_wrap=True)

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def action_send(self) -> None:
        self.call_later(self._send)  # after the keys before it, which wait in this widget's queue

    async def _on_key(self, event: events.Key) -> None:
        if event.key in ("ctrl+j", "shift+enter", "alt+enter"):  # a binding would come too late
            event.stop()
            event.prevent_default()
            self.action_line()

    def _send(self) -> None:
        if self.text.startswith(FILE) and "\n" not in self.text:
            self._read(self.text)
        else:
            self.post_message(self.Sent(self.text))

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _read(self, text: str) -> None:
        """Send the text of a file."""
        try:
            if text == STANDARD_INPUT:
                raise UsageError("The app has no standard input.", remedy="FILE:path names a file")
            self.post_message(self.Sent(read_prompt(text)))
        except HatcheryError as error:
            self.post_message(self.Unread(error))

    def action_line(self) -> None:
        self.insert("\n")

    def fill(self, text: str) -> None:
        """Put a text there, with the cursor at its end."""
        self.text = safe(text)
        self.move_cursor(self.document.end)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        text = safe(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        self.replace(text, *self.selection)
