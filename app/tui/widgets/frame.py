"""What frames every screen: the line on top, the keys at the bottom, and what is shown where the
window has no room."""

from typing import Any

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Footer, Static
from textual.widgets._footer import FooterKey

from app.tui.widgets.text import MUTED, joined, plain

_Keys = list[tuple[str, str, str, bool]]
_ALWAYS = ("back", "app.quit", "help", "app.help")  # actions whose keys are shown at any width
_MARGINS, _BETWEEN = 2, 1  # columns of the footer's padding, and between two keys
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
    """The keys that work now, of which those that lead out or to help are always shown: where the
    window is too narrow for all, the last of the others are left out.

    Textual's own is built anew, at 1 ms a key, whenever bindings may have changed; this one only
    if any of its keys has: opening a form says four times that they may."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._built: _Keys | None = None

    def _fitting(self) -> list[ActiveBinding]:
        """What fits, in its order."""
        active = [each for each in self.screen.active_bindings.values() if each.binding.show]
        seen = list({each.binding.action: each for each in reversed(active)}.values())[::-1]
        room = self.app.size.width - _MARGINS
        for each in reversed(seen[:]):
            if sum(map(self._width, seen)) <= room:
                break
            if each.binding.action not in _ALWAYS:
                seen.remove(each)
        return seen

    def _width(self, each: ActiveBinding) -> int:
        shown = f"{self.app.get_key_display(each.binding)} {each.binding.description}"
        return cell_len(shown) + _BETWEEN

    def compose(self) -> ComposeResult:
        for _, binding, enabled, tooltip in self._fitting():
            yield FooterKey(
                binding.key,
                self.app.get_key_display(binding),
                binding.description,
                binding.action,
                disabled=not enabled,
                tooltip=tooltip,
            ).data_bind(compact=Footer.compact)

    def _keys(self) -> _Keys:
        return [
            (binding.key, binding.description, binding.action, enabled)
            for _, binding, enabled, _ in self._fitting()
        ]

    def bindings_changed(self, screen: Screen[Any]) -> None:
        """Also before the window has the focus, which in a browser it has only after a click."""
        if self.is_attached and screen is self.screen:
            self.call_after_refresh(self.recompose)

    def on_resize(self) -> None:
        self.call_after_refresh(self.recompose)

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
