"""The windows of a training step, one at a time."""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.tui.data.documents import View
from app.tui.data.wording import window_text
from app.tui.widgets.text import MUTED, joined, plain

if TYPE_CHECKING:
    from pipeline.inspection.windows import Window
    from pipeline.sources.documents import Document


class WindowsView(View):
    """The windows of a batch at the left, the text of one at the right."""

    DEFAULT_CSS = """
    WindowsView {
        #batch-of { height: auto; padding: 0 2; }
        #batch { height: 1fr; }
        #numbers { width: 26; height: 1fr; }
        #window { width: 1fr; height: 1fr; }
        #window:focus { border: round $accent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n,right", "screen.step(1)", "Next step", key_display="n"),
        Binding("p,left", "screen.step(-1)", "Step before", key_display="p"),
        Binding("g", "screen.ask('step')", "Step"),
        Binding("v", "screen.validation", "Validation"),
        Binding("u", "screen.next_run", "Other run"),
    ]

    class Pointed(Message):
        """The cursor is on window `place` of the batch, from 0."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def __init__(self) -> None:
        super().__init__(id="windows")

    def compose(self) -> ComposeResult:
        yield Static(plain("reading …", "italic"), id="batch-of")
        with Horizontal(id="batch"):
            with Vertical(id="numbers", classes="panel") as numbers:
                numbers.border_title = "Batch"
                yield OptionList(id="window-list", compact=True)
            with VerticalScroll(id="window", classes="panel") as window:
                window.border_title = "Window"
                yield Static(id="window-text")

    def focus_text(self) -> None:
        self.query_one("#window-list").focus()

    def show_batch(self, about: Content, numbers: list[int], place: int) -> None:
        """Show which windows a batch holds."""
        self.query_one("#batch-of", Static).update(about)
        listed = self.query_one("#window-list", OptionList)
        with self.prevent(OptionList.OptionHighlighted):
            listed.clear_options()
            listed.add_options(
                [Option(joined((f"{n:>3}  ", MUTED), f"{w:,}")) for n, w in enumerate(numbers, 1)]
            )
            listed.highlighted = place if numbers else None

    def show_window(self, window: "Window", titles: "dict[int, Document]", size: int) -> None:
        """Show a window; `size` is the training context."""
        end = window.start + window.tokens
        note = "" if window.tokens > size else f" · short, {window.tokens - 1:,} of {size:,} scored"
        title = (
            f"Window {window.number:,} · shard {window.shard}, tokens {window.start:,} to {end:,}"
        )
        self.query_one("#window").border_title = plain(title + note)
        self.query_one("#window-text", Static).update(window_text(window, titles))
        self.query_one("#window").scroll_home(animate=False)

    def say(self, text: Content) -> None:
        """Show a message in place of a batch."""
        self.show_batch(text, [], 0)
        self.query_one("#window-text", Static).update()

    @on(OptionList.OptionHighlighted, "#window-list")
    def _pointed(self, event: OptionList.OptionHighlighted) -> None:
        self.post_message(self.Pointed(event.option_index))
