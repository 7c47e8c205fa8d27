"""What is shown in place of a screen that has no room."""

from textual.geometry import Size
from textual.widgets import Static

_COLUMNS, _ROWS = 60, 16  # below this a screen cannot be read


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
