"""One column of the compare screen: a model, what it writes, and its figures."""

from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static


class Drawing(NamedTuple):
    """All that a pane shows; `edge` stands on its lower border, where a click votes."""

    title: Content
    ruler: Content
    body: Content
    foot: Content
    edge: Content
    won: bool


class _Text(VerticalScroll, inherit_bindings=False):
    """The answer; it only scrolls up and down, left and right are for steps."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", show=False),
        Binding("down", "scroll_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home", "scroll_home", show=False),
        Binding("end", "scroll_end", show=False),
    ]


class Pane(Vertical):
    """`show` fills it. `Step` says that a place on its ruler was clicked, `Voted` its lower edge,
    where the vote is offered."""

    DEFAULT_CSS = """
    Pane {
        width: 1fr; height: 1fr; border: round $border-blurred;
        border-title-color: $foreground;
        border-subtitle-color: $accent; border-subtitle-align: center;
        &:focus-within { border: round $accent; }
        &.-won { border: round $success; }
        & _Text { height: 1fr; padding: 0 1; }
        & .ruler { height: auto; padding: 0 1; text-wrap: nowrap; text-overflow: clip; }
        & .foot {
            height: auto; padding: 0 1; border-top: solid $border-blurred;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
    }
    """

    class Step(Message):
        """A click on the ruler at cell `x`."""

        def __init__(self, pane: "Pane", x: int) -> None:
            super().__init__()
            self.pane, self.x = pane, x

    class Voted(Message):
        """A click on the offer to vote."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self._shown: Drawing | None = None

    def compose(self) -> ComposeResult:
        yield Static(classes="ruler")
        with _Text():
            yield Static(classes="body")
        yield Static(classes="foot")

    @property
    def inner(self) -> int:
        """Cells that a line has."""
        return max(10, self.content_size.width - 2)

    def focus_text(self) -> None:
        """Take the focus."""
        self.query_one(_Text).focus()

    def show(self, drawing: Drawing) -> None:
        """Draw what has changed. A text that grows is followed to its end unless a person has
        scrolled up."""
        before, self._shown = self._shown, drawing
        if before is None or not before.title.is_same(drawing.title):
            self.border_title = drawing.title
        if before is None or not before.edge.is_same(drawing.edge):
            self.border_subtitle = drawing.edge if drawing.edge else None
        self.set_class(drawing.won, "-won")
        self._update(".ruler", before and before.ruler, drawing.ruler)
        self._update(".foot", before and before.foot, drawing.foot)
        text = self.query_one(_Text)
        follows = text.scroll_y >= text.max_scroll_y - 1
        if self._update(".body", before and before.body, drawing.body) and follows:
            text.scroll_end(animate=False)

    def _update(self, part: str, before: Content | None, now: Content) -> bool:
        """Draw a part if it looks different now, and whether it does."""
        changed = before is None or not before.is_same(now)
        if changed:
            widget = self.query_one(part, Static)
            widget.display = bool(now) or part == ".body"
            widget.update(now)
        return changed

    def to_top(self) -> None:
        """Show the beginning, as for another answer."""
        self.query_one(_Text).scroll_home(animate=False)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self and event.y == self.outer_size.height - 1:
            self.post_message(self.Voted(self.place))
        elif event.widget is not None and event.widget.has_class("ruler"):
            x = event.screen_x - event.widget.content_region.x
            if event.screen_y == event.widget.content_region.bottom - 1:
                self.post_message(self.Step(self, int(x)))
