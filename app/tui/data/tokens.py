"""One text in the tokens of every tokenizer there is, side by side."""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalScroll, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from app.tui.data.documents import KEYS, View
from app.tui.data.wording import tokens_sums, tokens_text
from app.tui.widgets.text import MUTED, joined, plain

if TYPE_CHECKING:
    from pipeline.inspection.tokens import Tokens


class TokenColumn(VerticalScroll):
    """What one tokenizer makes of the text."""

    DEFAULT_CSS = """
    TokenColumn { width: 1fr; min-width: 36; height: 1fr; }
    TokenColumn:focus { border: round $accent; }
    TokenColumn .sums { height: auto; margin-bottom: 1; }
    """

    def __init__(self, tokens: "Tokens") -> None:
        super().__init__(classes="panel")
        self.border_title = plain(tokens.tokenizer)
        self._tokens = tokens

    def compose(self) -> ComposeResult:
        yield Static(tokens_sums(self._tokens), classes="sums")
        yield Static(classes="pieces")

    def draw(self, *, ids: bool, blanks: bool) -> None:
        """Show the tokens."""
        text = tokens_text(self._tokens, ids=ids, blanks=blanks)
        self.query_one(".pieces", Static).update(text)


class TokensView(View):
    """A column for each tokenizer; several that do not fit are scrolled."""

    DEFAULT_CSS = """
    TokensView {
        #tokens-of { height: auto; max-height: 6; padding: 0 2; }
        #columns { height: 1fr; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i", "toggle_ids", "Ids"),
        Binding("b", "toggle_blanks", "Blanks"),
        *KEYS[:2],
        *(replace(key, show=False) for key in KEYS[2:] if isinstance(key, Binding)),
    ]

    def __init__(self) -> None:
        super().__init__(id="tokens")
        self._ids, self._blanks = False, True

    def compose(self) -> ComposeResult:
        yield Static(id="tokens-of")
        yield HorizontalScroll(id="columns")

    def focus_text(self) -> None:
        column = self.query(TokenColumn)
        (column.first() if column else self.query_one("#columns")).focus()

    async def show(self, title: str, found: "list[Tokens]") -> None:
        """Show a text as each tokenizer sees it."""
        held = self.query_one("#columns")
        focused = self.has_focus_within
        await held.remove_children()
        await held.mount_all([TokenColumn(tokens) for tokens in found])
        self.query_one("#tokens-of", Static).update(
            joined((title, "bold"), ("  every other token is underlined", MUTED))
        )
        self._draw()
        if focused:
            self.focus_text()

    async def say(self, text: Content) -> None:
        """Show a message in place of tokens."""
        await self.query_one("#columns").remove_children()
        self.query_one("#tokens-of", Static).update(text)

    def _draw(self) -> None:
        for column in self.query(TokenColumn):
            column.draw(ids=self._ids, blanks=self._blanks)

    def action_toggle_ids(self) -> None:
        self._ids = not self._ids
        self._draw()

    def action_toggle_blanks(self) -> None:
        self._blanks = not self._blanks
        self._draw()
