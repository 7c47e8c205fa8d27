"""The first line of every screen: where am I, and what matters here."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from app.tui.widgets.text import MUTED, joined, plain


class Header(Horizontal):
    """`hatchery › place › place` on the left, a fact that the screen keeps current on the right."""

    DEFAULT_CSS = """
    Header {
        dock: top;
        height: 1;
        padding: 0 1;
        background: $panel;
        #where { width: auto; max-width: 70%; text-wrap: nowrap; text-overflow: ellipsis; }
        #fact {
            width: 1fr; text-align: right; color: $text-muted;
            text-wrap: nowrap; text-overflow: ellipsis; padding-left: 2;
        }
    }
    """

    def __init__(self, *places: str) -> None:
        super().__init__()
        self._places = places

    def compose(self) -> ComposeResult:
        yield Static(self._trail(), id="where")
        yield Static(id="fact")

    def _trail(self) -> Content:
        parts: list[Content | str | tuple[object, str]] = [("hatchery", "bold $accent")]
        for place in self._places:
            parts += [(" › ", MUTED), (place, "bold")]
        return joined(*parts)

    def place(self, *places: str) -> None:
        """Change where we are."""
        self._places = places
        if self.is_mounted:
            self.query_one("#where", Static).update(self._trail())

    def fact(self, text: Content | str) -> None:
        """Change the right side."""
        shown = text if isinstance(text, Content) else plain(text)
        self.query_one("#fact", Static).update(shown, layout=False)  # its size never changes
