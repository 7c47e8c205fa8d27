"""What frames every screen: the line on top, the keys at the bottom, and what is shown where the
window has no room."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Footer, Static

from app.tui.widgets.text import MUTED, joined, plain

_Keys = list[tuple[str, str, str, bool]]
_COLUMNS, _ROWS = 60, 16  # below this a screen cannot be read


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


class KeyFooter(Footer):
    """Textual's footer, which is built anew, at 1 ms a key, whenever bindings may have changed;
    this one only if any of its keys has: opening a form says four times that they may."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._built: _Keys | None = None

    def _keys(self) -> _Keys:
        return [
            (binding.key, binding.description, binding.action, enabled)
            for _, binding, enabled, _ in self.screen.active_bindings.values()
            if binding.show
        ]

    async def recompose(self) -> None:
        """Build the keys anew where they are others than before."""
        if not self.is_attached:
            return
        keys = self._keys()
        if keys != self._built:
            self._built = keys
            await super().recompose()


class TooSmall(Static):
    """Covers its screen while the window is too small; the screen goes on beneath, unchanged."""

    DEFAULT_CSS = """
    TooSmall {
        display: none; position: absolute; overlay: screen; width: 100vw; height: 100vh;
        background: $background; content-align: center middle; text-align: center;
    }
    TooSmall.-shown { display: block; }
    """

    def measure(self, window: Size) -> None:
        """Appear or disappear, as the window's size demands."""
        small = window.width < _COLUMNS or window.height < _ROWS
        if small:
            now = f"{window.width} x {window.height} now"
            self.update(f"make the window larger\n80 x 24 is enough\n{now}")
        self.set_class(small, "-shown")
