"""A raw document beside the clean one, and the rules that made the difference; and what all views
of the data screen share."""

from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from app.tui.data.wording import clean_text, hues, parts, raw_text, uses_lines
from app.tui.widgets.text import MUTED, joined, plain

if TYPE_CHECKING:
    from pipeline.inspection.documents import InspectedDocument
    from pipeline.inspection.trace import Use

VIEWS = ("documents", "rejected", "tokens", "windows", "conversations")
KEYS: list[BindingType] = [
    Binding("n,right", "screen.document(1)", "Next", key_display="n"),
    Binding("p,left", "screen.document(-1)", "Previous", key_display="p"),
    Binding("x", "screen.random", "Random"),
    Binding("g", "screen.ask('number')", "Number"),
    Binding("slash", "screen.ask('title')", "Search", key_display="/"),
    Binding("full_stop", "screen.search_on", "Search on", show=False, key_display="."),
]


class TabBar(Static):
    """The views, each by its key or a click."""

    DEFAULT_CSS = "TabBar { height: 1; padding: 0 2; }"

    class Chosen(Message):
        """One of them was clicked."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def mark(self, current: str) -> None:
        """Show which view is open."""
        pieces = []
        for number, view in enumerate(VIEWS, 1):
            style = "bold $accent reverse" if view == current else MUTED
            pieces.append(plain(f" {number} {view.capitalize()} ", style))
        self.update(Content("  ").join(pieces))

    def on_click(self, event: events.Click) -> None:
        at = 2  # the padding
        for view in VIEWS:
            at += len(view) + 6
            if event.x < at:
                self.post_message(self.Chosen(view))
                return


class View(Vertical):
    """One of the views of the data screen."""

    def focus_text(self) -> None:
        """Give the focus to what is read first."""
        raise NotImplementedError


class DocumentsView(View):
    """Raw on the left, clean on the right, the rules below."""

    DEFAULT_CSS = """
    DocumentsView {
        #document { height: 1; padding: 0 2; text-wrap: nowrap; text-overflow: ellipsis; }
        #sides { height: 1fr; }
        #raw, #clean { width: 1fr; height: 1fr; }
        #raw:focus, #clean:focus, #uses:focus { border: round $accent; }
        #uses { height: auto; max-height: 11; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *KEYS,
        Binding("right_square_bracket", "part(1)", "Next part", show=False, key_display="]"),
        Binding("left_square_bracket", "part(-1)", "Part before", show=False, key_display="["),
    ]

    def __init__(self) -> None:
        super().__init__(id="documents")
        self._look: InspectedDocument | None = None
        self._uses: list[Use] = []
        self._part = 0

    def compose(self) -> ComposeResult:
        yield Static(id="document")
        with Horizontal(id="sides"):
            with VerticalScroll(id="raw", classes="panel") as raw:
                raw.border_title = "Raw"
                yield Static(plain("reading …", "italic"), id="raw-text")
            with VerticalScroll(id="clean", classes="panel") as clean:
                clean.border_title = "Clean"
                yield Static(id="clean-text")
        with VerticalScroll(id="uses", classes="panel") as uses:
            uses.border_title = "Removed"
            yield Static(id="uses-text")

    def on_mount(self) -> None:
        raw = self.query_one("#raw", VerticalScroll)
        clean = self.query_one("#clean", VerticalScroll)
        self.watch(raw, "scroll_y", lambda _: self._follow(raw, clean), init=False)

    def _follow(self, raw: VerticalScroll, clean: VerticalScroll) -> None:
        """The clean side goes along when the raw one is scrolled."""
        if raw.max_scroll_y:
            clean.scroll_to(y=raw.scroll_y / raw.max_scroll_y * clean.max_scroll_y, animate=False)

    def focus_text(self) -> None:
        self.query_one("#raw").focus()

    def show(self, look: "InspectedDocument", uses: "list[Use]", where: str) -> None:
        """Show a document; `where` says which."""
        self._look, self._uses, self._part = look, uses, 0
        before, after = len(look.raw), len(look.text)
        share = f"{before:,} → {after:,} characters"
        self.query_one("#document", Static).update(
            joined((look.title, "bold"), (f"  {where} · {share}", MUTED))
        )
        self._draw()

    def say(self, text: Content) -> None:
        """Show a message in place of a document."""
        self._look = None
        self.query_one("#document", Static).update()
        self.query_one("#raw-text", Static).update(text)
        self.query_one("#clean-text", Static).update()
        self.query_one("#uses-text", Static).update()

    def action_part(self, by: int) -> None:
        if self._look is not None:
            self._part = max(0, min(len(parts(self._look.raw)) - 1, self._part + by))
            self._draw()

    def on_resize(self) -> None:
        if self._look is not None:
            self.query_one("#uses-text", Static).update(uses_lines(self._uses, self.size.width - 6))

    def _draw(self) -> None:
        look = self._look
        assert look is not None
        spans = parts(look.raw)
        span = spans[self._part]
        more = f" · part {self._part + 1} of {len(spans)} ([ ])" if len(spans) > 1 else ""
        raw, clean = self.query_one("#raw"), self.query_one("#clean")
        raw.border_title = plain(f"Raw{more}")
        clean.border_title = "Clean"
        self.query_one("#raw-text", Static).update(raw_text(look, span, hues(self._uses)))
        self.query_one("#clean-text", Static).update(
            joined(("✕ left out: ", "bold $error"), (look.rejected, "$error"))
            if look.rejected
            else clean_text(look, span)
        )
        self.query_one("#uses-text", Static).update(uses_lines(self._uses, self.size.width - 6))
        raw.scroll_home(animate=False)
        clean.scroll_home(animate=False)
