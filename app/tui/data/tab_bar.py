"""The line that names the views of the data screen."""

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from app.tui.widgets.text import MUTED, plain

VIEWS = ("documents", "rejected", "tokens", "windows")


class ViewBar(Static):
    """The four views, each by its key or a click."""

    DEFAULT_CSS = "ViewBar { height: 1; padding: 0 2; }"

    class Chosen(Message):
        """One of them was clicked."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def mark(self, current: str) -> None:
        """Show which view is open."""
        pieces = []
        for number, view in enumerate(VIEWS, 1):
            style = "bold $accent reverse" if view == current else MUTED
            pieces.append(plain(f" {number} {view.capitalize()} ", style))
        self.update(Content("  ").join(pieces))

    def on_click(self, event: events.Click) -> None:
        at = 2  # the padding
        for view in VIEWS:
            at += len(view) + 6
            if event.x < at:
                self.post_message(self.Chosen(view))
                return
