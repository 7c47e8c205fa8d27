"""The texts of a conversation, and below them what goes on."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from app.client.client import Model, Sampling
from app.tui.chat.conversation import sampling_line
from app.tui.chat.message_log import ChatLog
from app.tui.chat.session import Desk
from app.tui.chat.wording import welcome
from app.tui.widgets.text import MUTED, joined


class Talk(Vertical):
    """A greeting while there is nothing, then the texts; a line that says what goes on, and the
    sampling in one line where there is no room for its panel."""

    DEFAULT_CSS = """
    Talk {
        height: 1fr;
        & .texts { height: 1fr; }
        & .welcome { padding: 1 2; height: 1fr; }
        & .say { height: auto; min-height: 1; max-height: 6; padding: 0 2; }
        & .fold { display: none; height: 1; padding: 0 2; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._one = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel texts"):
            yield Static(classes="welcome")
            yield ChatLog()
        yield Static(classes="say")
        yield Static(classes="fold")

    @property
    def texts(self) -> ChatLog:
        """The texts themselves."""
        return self.query_one(ChatLog)

    def show(self, desk: Desk, models: Sequence[Model] | None, model: Model | None) -> None:
        """What is on the desk now."""
        hello = self.query_one(".welcome", Static)
        hello.display = not desk.talk.turns
        self.texts.display = bool(desk.talk.turns)
        hello.update(welcome(models, model, desk.mode))
        self.query_one(".texts").border_title = "Complete" if desk.mode == "complete" else "Chat"

    def say(self, words: Content, sampling: Sampling) -> None:
        """What goes on, and how tokens are chosen."""
        say = self.query_one(".say", Static)
        # Laid out again only where its height may change: while a model writes it does not.
        one = "\n" not in words.plain and words.cell_length < say.size.width
        say.update(words, layout=not (one and self._one))
        self._one = one
        fold = joined((sampling_line(sampling), MUTED), ("  ^o", "$accent"))
        self.query_one(".fold", Static).update(fold, layout=False)
