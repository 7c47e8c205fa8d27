"""The two panels of the chat: the conversation, and beside it the settings of sampling, the models
or earlier conversations."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Static

from app.client.client import Model, Sampling
from app.tui.chat.message_log import MessageLog
from app.tui.chat.saved_list import ChatList
from app.tui.chat.session import ChatSession
from app.tui.chat.storage import ChatStore
from app.tui.chat.wording import sampling_line, welcome
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.sampling import sampling_fields
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, joined, plain
from app.tui.widgets.virtual_list import RowList
from pipeline.runs.folders import short_name
from utils.units import human_bytes, human_count

View: TypeAlias = Literal["sampling", "models", "chats"]

_TITLES: dict[View, str] = {
    "sampling": "Sampling",
    "models": "Models",
    "chats": "Conversations",
}


class SidePanel(Vertical):
    """One of three panels; posts what was chosen."""

    DEFAULT_CSS = """
    SidePanel {
        width: 42; height: 1fr;
        & ContentSwitcher { height: 1fr; }
        & Vertical { height: 1fr; }
        & RowList { height: 1fr; }
        & .facts { height: auto; max-height: 9; border-top: solid $panel; color: $text-muted; }
        & FieldPanel .field { padding: 0 0 0 21; }
    }
    """

    class Picked(Message):
        """A model."""

        def __init__(self, model: Model) -> None:
            super().__init__()
            self.model = model

    def __init__(self, draft: Draft, store: ChatStore) -> None:
        super().__init__(classes="panel")
        self._draft, self._store = draft, store
        self._models: dict[str, Model] = {}
        self._current = ""
        self.view: View = "sampling"

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="sampling"):
            with Vertical(id="sampling"):
                yield FieldPanel(self._draft, [("Sampling", sampling_fields())])
            with Vertical(id="models"):
                yield RowList(self._model_line, id="model-list")
                yield Static(classes="facts")
            yield ChatList(self._store, id="chats")

    def on_mount(self) -> None:
        self.turn("sampling")

    @property
    def has_cursor(self) -> bool:
        """Whether what is focused is in here."""
        focused = self.screen.focused
        return focused is not None and self in focused.ancestors

    def mark(self, name: str, *, busy: bool) -> None:
        """The conversation that is open, and whether a model writes in it."""
        saved = self.query_one(ChatList)
        saved.current, saved.busy = name, busy

    def turn(self, view: View) -> None:
        """Show one of the panels."""
        self.view = view
        if view == "chats":
            self.query_one(ChatList).look()
        self.border_title = _TITLES[view]
        self.query_one(ContentSwitcher).current = view

    def enter(self) -> None:
        """Put the cursor into the panel that is shown."""
        if self.view == "sampling":
            self.query_one(FieldPanel).focus_first()
        else:
            self.query_one(f"#{self.view} RowList").focus()

    def refill(self) -> None:
        """Show the settings as they are now."""
        self.query_one(FieldPanel).refill()

    def show_models(self, models: Sequence[Model], current: str) -> None:
        """The models there are, and which one answers."""
        self._models = {model.id: model for model in models}
        self._current = current
        self.query_one("#model-list", RowList).show(list(self._models))
        self._describe()

    def _model_line(self, key: str, width: int) -> Content:
        model = self._models[key]
        chosen = ("▸ ", "bold $accent") if key == self._current else "  "
        mark = ("▲ ", "$success") if model.best else ("● ", "$secondary") if model.latest else "  "
        loss = f"{model.val_loss:.3f}" if model.val_loss is not None else ""
        size = human_bytes(model.bytes) if model.bytes is not None else ""
        name = joined(chosen, mark, (short_name(key), "" if model.loaded else MUTED))
        return columns([name, plain(loss), plain(size, MUTED)], [max(8, width - 5 - 8 - 4), -5, -8])

    @on(RowList.Moved)
    def _describe(self) -> None:
        model = self._models.get(self.query_one("#model-list", RowList).current or "")
        if model is not None:
            self.query_one(".facts", Static).update(_facts(model))

    @on(RowList.Chosen)
    def _chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        key = self.query_one(f"#{self.view} RowList", RowList).current or ""
        if self.view == "models" and key in self._models:
            self.post_message(self.Picked(self._models[key]))


def _facts(model: Model) -> Content:
    """What is known of a model."""
    parts = [f"step {model.step:,}"] if model.step is not None else []
    parts += [f"{human_count(model.parameters)} parameters"] if model.parameters else []
    parts += [f"{model.context:,} tokens of context"] if model.context else []
    roles: list[tuple[object, str]] = [("▲ best", "$success")] if model.best else []
    roles += [("● latest", "$secondary")] if model.latest else []
    memory = f"{human_bytes(model.bytes)} " if model.bytes is not None else ""
    lines = [plain(model.id, "bold"), plain(" · ".join(parts))]
    if model.val_loss is not None:
        lines.append(joined(f"validation loss {model.val_loss:.4f}"))
    lines.append(plain(f"{memory}in memory" if model.loaded else f"{memory}to be loaded"))
    if roles:
        lines.append(joined(*(part for role in roles for part in (role, "  "))))
    return Content("\n").join(line for line in lines if line.plain)


class ConversationPanel(Vertical):
    """A greeting while there is nothing, then the texts; a line that says what goes on, and the
    sampling in one line where there is no room for its panel."""

    DEFAULT_CSS = """
    ConversationPanel {
        height: 1fr;
        & .texts { height: 1fr; }
        & .welcome { padding: 1 2; height: 1fr; }
        & .status { height: auto; min-height: 1; max-height: 6; padding: 0 2; }
        & .sampling-line { display: none; height: 1; padding: 0 2; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._one_line = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel texts"):
            yield Static(classes="welcome")
            yield MessageLog()
        yield Static(classes="status")
        yield Static(classes="sampling-line")

    @property
    def texts(self) -> MessageLog:
        """The texts themselves."""
        return self.query_one(MessageLog)

    def show(
        self, session: ChatSession, models: Sequence[Model] | None, model: Model | None
    ) -> None:
        """Show the conversation of `session`."""
        welcome_text = self.query_one(".welcome", Static)
        welcome_text.display = not session.conversation.turns
        self.texts.display = bool(session.conversation.turns)
        welcome_text.update(welcome(models, model, session.mode))
        self.query_one(".texts").border_title = "Complete" if session.mode == "complete" else "Chat"

    def say(self, words: Content, sampling: Sampling) -> None:
        """What goes on, and how tokens are chosen."""
        status = self.query_one(".status", Static)
        # Laid out again only where its height may change: while a model writes it does not.
        one_line = "\n" not in words.plain and words.cell_length < status.size.width
        status.update(words, layout=not (one_line and self._one_line))
        self._one_line = one_line
        settings = joined((sampling_line(sampling), MUTED), ("  ^o", "$accent"))
        self.query_one(".sampling-line", Static).update(settings, layout=False)
