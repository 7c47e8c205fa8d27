"""A conversation on the screen: only the rows in sight are drawn, and of an answer that grows
only its last row is laid out again, so a long one is as quick as a short one."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from app.tui.chat.conversation import Block
from app.tui.chat.layout import BlockLayout, ConversationLayout
from app.tui.widgets.text import MUTED, joined
from app.tui.widgets.token_colours import CLASSES, Span, shade
from pipeline.runs.folders import short_name
from utils.text import safe

_MARGIN = 2  # cells left of everything
_STEP = 3  # rows that an arrow key scrolls inside a long block


class MessageLog(ScrollView, can_focus=True):
    """↑ and ↓ choose a block; with `shaded` on, ← and → choose a token of it."""

    DEFAULT_CSS = """
    MessageLog {
        height: 1fr; width: 1fr; background: transparent; overflow-x: hidden;
        & > .chat--given { color: $foreground 65%; }
        & > .chat--text { color: $foreground; }
        & > .chat--likely { color: $foreground; background: $success 18%; }
        & > .chat--open { color: $foreground; background: $warning 20%; text-style: underline; }
        & > .chat--unlikely {
            color: $foreground; background: $warning 45%; text-style: underline italic;
        }
        & > .chat--surprising {
            color: $foreground; background: $error 45%; text-style: bold underline;
        }
        & > .chat--token { text-style: reverse bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chat--given",
        "chat--text",
        "chat--token",
        *(f"chat--{name}" for _, name, _ in CLASSES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "screen.edit", "Edit"),
        Binding("y", "screen.copy", "Copy"),
        Binding("p", "screen.shade", "Probabilities"),
        Binding("left_square_bracket", "screen.variant(-1)", "What was tried before", show=False),
        Binding("right_square_bracket", "screen.variant(1)", "What was tried next", show=False),
        Binding("r", "screen.again", "Again", show=False),
        Binding("g", "screen.more", "Go on with the text", show=False),
        Binding("up", "choose(-1)", "The text above", show=False),
        Binding("down", "choose(1)", "The text below", show=False),
        Binding("left", "token(-1)", "The token before", show=False),
        Binding("right", "token(1)", "The next token", show=False),
        Binding("home", "edge(False)", "To the beginning", show=False),
        Binding("end", "edge(True)", "To the end", show=False),
    ]

    class Moved(Message):
        """Another block or token is chosen."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shaded = False
        self.at = 0
        self.token: int | None = None
        self._rows = ConversationLayout()
        self._blocks: list[Block] = []
        self._at_end = True

    @property
    def chosen(self) -> Block | None:
        """The block under the cursor."""
        return self._blocks[self.at] if self.at < len(self._blocks) else None

    @property
    def chosen_token(self) -> tuple[str, float | None] | None:
        """The token under the cursor and its log-probability in nats."""
        if self.token is None or self.at >= len(self._rows.blocks):
            return None
        layout = self._rows.blocks[self.at]
        if self.token >= len(layout.spans):
            return None
        begin, (length, logprob) = layout.begins[self.token], layout.spans[self.token]
        return layout.wrapped.text[begin : begin + length], logprob

    def show(self, blocks: Sequence[Block], *, follow: bool = False) -> None:
        """Take other blocks; `follow` goes to the last of them."""
        self._blocks = [_shown(block) for block in blocks]
        self.at = max(0, min(self.at, len(blocks) - 1))
        self._layout()
        if follow:
            self.at, self.token, self._at_end = max(0, len(blocks) - 1), None, True
            self._follow()
        self.post_message(self.Moved())

    def extend(self, text: str, spans: Sequence[Span]) -> None:
        """More of the last block, as it is written."""
        if self._blocks:
            self._rows.extend(safe(text), spans)
            self._grow()

    def shade(self, on: bool) -> None:
        """Colour tokens by their probability, or stop it."""
        self.shaded = on
        self.token = None
        if on:
            self.action_token(1)
        self.post_message(self.Moved())
        self.refresh()

    def on_resize(self) -> None:
        if self._blocks:  # with what has been written since they were shown
            last = self._rows.blocks[-1]
            text, spans = last.wrapped.text, tuple(last.spans)
            self._blocks[-1] = replace(self._blocks[-1], text=text, spans=spans)
        self._layout()

    def _layout(self) -> None:
        width = self.scrollable_content_region.width - _MARGIN - 1
        self._rows.set(self._blocks, max(8, width))
        self._grow()

    def _grow(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self._rows.height)
        self._follow()
        self.refresh()

    def _follow(self) -> None:
        if self._at_end:  # by force: the scrollbar that allows it may not have been laid out yet
            self.scroll_end(animate=False, immediate=True, force=True, x_axis=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._at_end = new_value >= self.max_scroll_y

    # Drawing.

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        line = self._rows.line(self.scroll_offset.y + y)
        if line is None or line.part == "gap":
            return Strip.blank(width, self.rich_style)
        layout = self._rows.blocks[line.number]
        bar = self._bar(line.number)
        if line.part == "text":
            strip = Strip([bar, *self._text(line.number, layout, line.row)])
            return strip.adjust_cell_length(width, self.rich_style)
        content = _header(layout) if line.part == "header" else None
        content = content or joined((layout.figures, MUTED))
        content = content.truncate(width - _MARGIN, ellipsis=True)
        style = self.visual_style
        inner = Visual.to_strips(self, content, width - _MARGIN, 1, style, pad=True)[0]
        return Strip.join([Strip([bar]), inner])

    def _bar(self, number: int) -> Segment:
        on = number == self.at and self.has_focus
        style = self.get_visual_style("chat--text").rich_style if on else self.rich_style
        return Segment("▌ " if on else "  ", style)

    def _text(self, number: int, layout: BlockLayout, row: int) -> Iterator[Segment]:
        """The segments of a row: what was given, what was written, and how likely it was."""
        begin, end = layout.wrapped.rows[row]
        given = min(max(layout.block.given, begin), end)
        text = layout.wrapped.text
        if given > begin:
            yield _segment(text[begin:given], self._style("chat--given"))
        plain = self._style("chat--text")
        if not self.shaded or not layout.spans:
            yield _segment(text[given:end], plain)
            return
        at = given
        while at < end:
            token = layout.token_at(at)
            if token is None:
                following = [b for b in layout.begins[:1] if b > at]
                stop = min(end, following[0]) if following else end
                yield _segment(text[at:stop], plain)
            else:
                stop = min(end, layout.begins[token] + layout.spans[token][0])
                name = shade(layout.spans[token][1])
                style = self._style(f"chat--{name}") if name else plain
                if number == self.at and token == self.token:
                    style += self._style("chat--token", partial=True)
                yield _segment(text[at:stop], style)
            at = max(stop, at + 1)

    def _style(self, name: str, *, partial: bool = False) -> Style:
        return self.get_component_rich_style(name, partial=partial)

    # Moving.

    def action_choose(self, by: int) -> None:
        if not self._blocks:
            return
        top, bottom = self._rows.top(self.at), self._rows.top(self.at + 1) - 1
        view = self.scrollable_content_region.height
        hidden = top < self.scroll_offset.y if by < 0 else bottom > self.scroll_offset.y + view
        if hidden:
            self.scroll_relative(y=by * _STEP, animate=False)
            return
        self._choose(max(0, min(self.at + by, len(self._blocks) - 1)), above=by < 0)

    def _choose(self, number: int, *, above: bool = False) -> None:
        if number == self.at:
            return
        self.at, self.token = number, None
        first, last = self._rows.top(number), self._rows.top(number + 1) - 1
        view = self.scrollable_content_region.height
        top = self.scroll_offset.y
        if first < top or last >= top + view:
            self.scroll_to(y=max(first, last - view + 1) if above else first, animate=False)
        self.post_message(self.Moved())
        self.refresh()

    def action_edge(self, end: bool) -> None:
        self._choose(len(self._blocks) - 1 if end else 0)
        (self.scroll_end if end else self.scroll_home)(animate=False)

    def action_token(self, by: int) -> None:
        if not self.shaded or self.at >= len(self._rows.blocks):
            return
        layout = self._rows.blocks[self.at]
        if layout.spans:
            before = -1 if self.token is None else self.token
            self._point(max(0, min(before + by, len(layout.spans) - 1)))

    def _point(self, token: int) -> None:
        self.token = token
        layout = self._rows.blocks[self.at]
        row = self._rows.top(self.at) + 1 + layout.wrapped.row_at(layout.begins[token])
        view = self.scrollable_content_region.height
        if not self.scroll_offset.y <= row < self.scroll_offset.y + view:
            self.scroll_to(y=row - view // 2, animate=False)
        self.post_message(self.Moved())
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        line = self._rows.line(self.scroll_offset.y + event.y)
        if line is None:
            return
        self._choose(line.number)
        layout = self._rows.blocks[line.number]
        if self.shaded and line.part == "text":
            place = layout.wrapped.place_at(line.row, event.x - _MARGIN)
            token = None if place is None else layout.token_at(place)
            if token is not None:
                self._point(token)


def _header(layout: BlockLayout) -> Content:
    block = layout.block
    turn = block.turn
    if block.first.mode == "complete":
        who = short_name(turn.model) or "prompt"
    else:
        who = "you" if turn.role == "user" else short_name(turn.model)
    parts: list[str | tuple[object, str]] = [(who, "bold $accent")]
    if block.variants > 1:
        parts.append((f"  ‹ {block.variant} of {block.variants} ›", MUTED))
    return joined(*parts)


def _shown(block: Block) -> Block:
    """A block whose text no terminal obeys; one character stays one character."""
    return replace(block, text=safe(block.text))


def _segment(text: str, style: Style) -> Segment:
    return Segment(text.replace("\t", "    "), style)
