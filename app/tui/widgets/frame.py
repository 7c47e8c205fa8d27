"""What frames every screen: the line on top, the keys at the bottom, and what is shown where the
window has no room."""

from typing import Any, NamedTuple

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding
from textual.containers import Horizontal
from textual.content import Content
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Static

from app.tui.widgets.text import MUTED, joined, plain

_ALWAYS = ("back", "app.quit", "help", "app.help")  # actions whose keys are shown at any width
_MARGINS = 2  # columns of the footer's padding
_APART, _CLOSE = 3, 1  # columns between two keys, and where not all would fit
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


class _Key(NamedTuple):
    """A key in the footer: where it begins and ends, and what pressing it is called."""

    begin: int
    end: int
    key: str
    enabled: bool


class KeyFooter(Static):
    """The keys that work now, of which those that lead out or to help are always shown: where the
    window is too narrow for all, the last of the others are left out. A click presses a key."""

    DEFAULT_CSS = """
    KeyFooter {
        dock: bottom; height: 1; padding: 0 1; scrollbar-size: 0 0;
        background: $footer-background; color: $footer-foreground; text-wrap: nowrap;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._places: list[_Key] = []
        self._under: str | None = None  # the key below the mouse

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Screen[Any]) -> None:
        """Also before the window has the focus, which in a browser it has only after a click."""
        if self.is_attached and screen is self.screen:
            self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _fitting(self) -> tuple[list[ActiveBinding], int]:
        """What fits, in its order, and the columns between two keys."""
        active = [each for each in self.screen.active_bindings.values() if each.binding.show]
        seen = list({each.binding.action: each for each in reversed(active)}.values())[::-1]
        room = self.app.size.width - _MARGINS
        widths = {each.binding.action: cell_len(" ".join(self._words(each))) for each in seen}
        if sum(widths.values()) + _APART * (len(seen) - 1) <= room:
            return seen, _APART
        for each in reversed(seen[:]):
            if sum(widths[one.binding.action] + _CLOSE for one in seen) - _CLOSE <= room:
                break
            if each.binding.action not in _ALWAYS:
                seen.remove(each)
        return seen, _CLOSE

    def _words(self, each: ActiveBinding) -> tuple[str, str]:
        return self.app.get_key_display(each.binding), each.binding.description

    def _draw(self) -> None:
        """Show the keys as they are now."""
        if not self.is_attached:
            return
        seen, between = self._fitting()
        parts: list[Content] = []
        self._places, at = [], 0
        for each in seen:
            key, description = self._words(each)
            width = cell_len(f"{key} {description}")
            self._places.append(_Key(at, at + width, each.binding.key, each.enabled))
            at += width + between
            dim = "" if each.enabled else " dim"
            below = " on $block-hover-background" * (each.binding.key == self._under)
            parts.append(
                joined(
                    (key, f"bold $footer-key-foreground{dim}{below}"),
                    (f" {description}", f"$footer-description-foreground{dim}{below}"),
                )
            )
        self.update(Content(" " * between).join(parts), layout=False)

    def _at(self, column: int) -> _Key | None:
        inside = column - 1  # its padding
        return next((one for one in self._places if one.begin <= inside < one.end), None)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._hover(self._at(event.x))

    def on_leave(self) -> None:
        self._hover(None)

    def _hover(self, found: _Key | None) -> None:
        under = found.key if found is not None else None
        if under != self._under:
            self._under = under
            self._draw()

    def on_click(self, event: events.Click) -> None:
        found = self._at(event.x)
        if found is None:
            return
        if found.enabled:
            self.app.simulate_key(found.key)
        else:
            self.app.bell()


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
