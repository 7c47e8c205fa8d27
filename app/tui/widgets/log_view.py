"""The last lines of a log, however fast it grows: only the lines in sight are drawn."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from utils.text import safe


class LogView(ScrollView, can_focus=True):
    """Shows a sequence of lines and stays at their end until it is scrolled up."""

    DEFAULT_CSS = """
    LogView { height: 1fr; width: 1fr; background: transparent; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[str] = ()
        self._at_end = True

    def on_mount(self) -> None:
        self.styles.scrollbar_size_horizontal = 0  # the arrow keys do without

    def show(self, lines: Sequence[str]) -> None:
        """Take other lines in place of the ones before."""
        if lines is self._lines:
            return
        self._lines = lines
        self.virtual_size = Size(max(map(len, lines), default=0), len(lines))
        if self._at_end:
            self.scroll_end(animate=False)
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._at_end = new_value >= self.max_scroll_y

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        number = top + y
        if number >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        text = safe(self._lines[number], lines=False)
        strip = Strip([Segment(text, self.rich_style)], cell_len(text))
        return strip.crop_extend(left, left + self.size.width, self.rich_style)
