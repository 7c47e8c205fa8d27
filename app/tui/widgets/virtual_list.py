"""A list of one-line rows of which only those in sight are drawn, however many there are."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual


class RowList(ScrollView, can_focus=True):
    """`draw(key, width)` gives the line of a row. The cursor stays on its key when rows come, go
    or move."""

    DEFAULT_CSS = """
    RowList {
        height: 1fr; width: 1fr; overflow-x: hidden; background: transparent;
        & > .rows--cursor { color: $block-cursor-foreground; background: $block-cursor-background; }
        & > .rows--cursor-blurred { background: $block-cursor-blurred-background; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", "rows--cursor-blurred"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "move(-1000000)", show=False),
        Binding("end", "move(1000000)", show=False),
        Binding("enter", "choose", "Open"),
    ]

    class Moved(Message):
        """The cursor is on another row."""

    class Chosen(Message):
        """Enter, or a second click."""

    def __init__(self, draw: Callable[[str, int], Content], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._draw = draw
        self._keys: Sequence[str] = ()
        self._at = 0

    @property
    def current(self) -> str | None:
        """The key of the row under the cursor."""
        return self._keys[self._at] if self._at < len(self._keys) else None

    def show(self, keys: Sequence[str]) -> None:
        """Take other rows; those that stay are drawn anew."""
        before = self.current
        self._keys = keys
        self._at = keys.index(before) if before in keys else max(0, min(self._at, len(keys) - 1))
        self.virtual_size = Size(self.size.width, len(keys))
        if self.current != before:
            self._reveal()
            self.post_message(self.Moved())
        self.refresh()

    def render_line(self, y: int) -> Strip:
        number = self.scroll_offset.y + y
        width = self.scrollable_content_region.width
        if number >= len(self._keys):
            return Strip.blank(width, self.rich_style)
        style = self.visual_style
        if number == self._at:
            part = "rows--cursor" if self.has_focus else "rows--cursor-blurred"
            style = self.get_visual_style(part)
        line = self._draw(self._keys[number], width)
        return Visual.to_strips(self, line, width, 1, style, pad=True)[0]

    def _reveal(self) -> None:
        self.scroll_to_region(Region(0, self._at, 1, 1), animate=False, force=True)

    def action_move(self, rows: int) -> None:
        at = max(0, min(self._at + rows, len(self._keys) - 1))
        if at != self._at:
            self.refresh_line(self._at)
            self._at = at
            self.refresh_line(at)
            self._reveal()
            self.post_message(self.Moved())

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(1, self.size.height - 1))

    def action_choose(self) -> None:
        if self.current is not None:
            self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        number = self.scroll_offset.y + event.y
        if number < len(self._keys):
            again = number == self._at
            self.action_move(number - self._at)
            if again:
                self.action_choose()
