"""The screen Chat: messages to a model, or a text that it continues."""

from functools import partial
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.worker import Worker

from app.client.client import Sampling
from app.tui.chat.connection import ModelConnection, default_mode
from app.tui.chat.conversation import Block, Conversation, StreamedAnswer
from app.tui.chat.message_log import MessageLog
from app.tui.chat.panels import ConversationPanel, SidePanel, View
from app.tui.chat.saved_list import ChatList
from app.tui.chat.session import Action, ChatSession
from app.tui.chat.storage import ChatStore
from app.tui.chat.wording import HELP, facts, hint, length, status
from app.tui.forms import config_file
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.screen import HatcheryScreen
from app.tui.widgets.prompt_area import PromptArea
from utils.errors import HatcheryError, UsageError

_REPAINT = 1 / 30  # seconds between two looks at what has come
_COUNT = 0.3  # seconds without a key until a text's tokens are counted
_THEN_SENT = ", then your text is sent"
_BUSY = "The model still writes: Esc stops it"


class ChatScreen(HatcheryScreen):
    """A conversation, where to write, and beside them sampling, models or conversations; one comes
    back to it as one left it."""

    HELP = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "Stop or copy", show=False, priority=True),
        Binding("ctrl+l", "side('models')", "Model", id="chat.model"),
        Binding("ctrl+r", "again", "Again", id="chat.again"),
        Binding("ctrl+b", "mode", "Chat or complete", show=False, id="chat.mode"),
        Binding("ctrl+o", "side('sampling')", "Sampling", show=False, id="chat.sampling"),
        Binding("ctrl+g", "more", "Go on with the text", show=False, id="chat.more"),
        Binding("ctrl+n", "fresh", "A new conversation", show=False, id="chat.new"),
        Binding("ctrl+s", "save", "Save as Markdown", show=False, id="chat.save"),
        Binding("f2", "side('chats')", "Conversations", show=False, id="chat.list"),
        Binding("f5", "restart", "Start the server again", show=False, id="chat.restart"),
    ]
    DEFAULT_CSS = """
    ChatScreen {
        #chat { height: 1fr; }
        #conversation { width: 1fr; height: 1fr; }
        &.-narrow .sampling-line { display: block; }
        &.-narrow SidePanel { display: none; }
        &.-narrow.-side SidePanel { display: block; width: 1fr; }
        &.-narrow.-side #conversation { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__("chat")
        self._requested: str | None = None
        self._begun = False
        self._answering: Worker[None] | None = None
        self._connection = ModelConnection(self._show)
        self._counting: Timer | None = None
        self._unsent: tuple[str, str] | None = None  # a text, and what the prompt held, until ready
        self._chose = False  # once the user has chosen a mode, no model changes it

    def content(self) -> ComposeResult:
        store = ChatStore(self.hatchery.config.paths.logs_dir)
        self._session = ChatSession(store, partial(self.app.call_from_thread, self.hatchery.tell))
        self._draft = Draft([])
        config_file.reread(self._draft)
        with Horizontal(id="chat"):
            with Vertical(id="conversation"):
                yield ConversationPanel()
                yield PromptArea()
            yield SidePanel(self._draft, store)

    def on_mount(self) -> None:
        self.hatchery.server_changed.subscribe(self, self._connection.server_changed)
        self._timer = self.set_interval(_REPAINT, self._flush, pause=True)
        self._prompt.focus()
        self._show()
        self._begun = True
        self._connect(self._requested)

    def request_model(self, model: str | None) -> None:
        """Let a model answer from now on, named by its id or run; without one, whoever did."""
        self._requested = model
        if not self._begun:
            return  # it connects when it is there
        if self._session.answer is None:
            self._connect(model)
        elif model is not None:
            self.hatchery.note(_BUSY)

    def on_screen_resume(self) -> None:
        if config_file.reread(self._draft):
            self._side.refill()
            self._tell()

    @property
    def _panel(self) -> ConversationPanel:
        return self.query_one(ConversationPanel)

    @property
    def _log(self) -> MessageLog:
        return self._panel.texts

    @property
    def _prompt(self) -> PromptArea:
        return self.query_one(PromptArea)

    @property
    def _side(self) -> SidePanel:
        return self.query_one(SidePanel)

    # The server and its models.

    @work(group="connect", exclusive=True, exit_on_error=False)
    async def _connect(self, requested: str | None) -> None:
        await self._connection.connect(self.hatchery.serving, requested)
        model = self._connection.model
        self._send_unsent()
        if model is not None and requested not in (None, model.id, model.run):
            self.hatchery.note(f"{requested} is not offered: {model.id} answers")

    def action_restart(self) -> None:
        self._connect(self._connection.model.id if self._connection.model else self._requested)

    @on(SidePanel.Picked)
    def _picked(self, event: SidePanel.Picked) -> None:
        self._connection.model = event.model
        self.action_done()
        if self._session.answer is None:
            self._connect(event.model.id)

    # Asking.

    @on(PromptArea.Sent)
    def _sent(self, event: PromptArea.Sent) -> None:
        if self._connection.model is None and self._connection.waiting_for:
            self._unsent = event.text, self._prompt.text
            self._tell()
        else:
            self._send(event.text)

    def _send(self, text: str) -> None:
        if self._start(lambda session, model, sampling: session.send(text, model, sampling)):
            self._prompt.fill("")

    def _send_unsent(self) -> None:
        """Send what was to be sent before there was a model."""
        unsent, self._unsent = self._unsent, None
        if unsent is not None and self._connection.model is not None:
            self._send(unsent[0])

    @on(PromptArea.Changed)
    def _typed(self) -> None:
        if self._unsent is not None and self._prompt.text != self._unsent[1]:
            self._unsent = None  # it is written on
            self._tell()
        if self._counting is not None:
            self._counting.stop()
        self._counting = self.set_timer(_COUNT, self._count)

    def _count(self) -> None:
        """Say how long the text in the prompt is."""
        model, text = self._connection.model, self._prompt.text
        tokens = self._session.tokens_with(text, model.id) if model is not None and text else 0
        self._prompt.border_subtitle = length(tokens, model.context if model else None)

    @on(PromptArea.Left)
    def _prompt_left(self) -> None:
        if self._session.conversation.turns:
            self._log.focus()
        else:
            self.focus_next()

    @on(PromptArea.Unread)
    def _unread(self, event: PromptArea.Unread) -> None:
        self.hatchery.tell(event.error)

    def _start(self, action: Action) -> bool:
        """Begin an answer, if one can be asked for now; says why not."""
        try:
            answer = self._session.begin(action, self._connection, self._draft)
        except UsageError as error:
            self.hatchery.tell(error)
            return False
        self._answering = self._stream(answer)
        self._log.show(self._session.conversation.blocks, follow=True)
        self._show(log=False)
        self._timer.resume()
        return True

    @work(group="answer", exclusive=True, exit_on_error=False)
    async def _stream(self, answer: StreamedAnswer) -> None:
        try:
            await self._session.stream(answer, self._connection, self.hatchery.serving)
        finally:
            self._answering = None
            if self.is_attached:
                self._timer.pause()
                self._take_back()
                self._show()

    def _take_back(self) -> None:
        """Put a text that the server refused back into the prompt, before what was typed since."""
        text = self._session.take_back()
        if text is not None:
            since = self._prompt.text
            self._prompt.fill(f"{text}\n{since}" if since else text)

    def _flush(self) -> None:
        """Show what has come since the last look."""
        if self._session.answer is not None:
            text, spans = self._session.answer.fresh()
            if text or spans:
                self._log.extend(text, spans)
                self._tell()

    # Showing.

    def _show(self, *, log: bool = True) -> None:
        """Draw everything that may have changed."""
        if not self.is_mounted:
            return
        if log and self._session.answer is None:  # what is written shows itself
            self._log.show(self._session.conversation.blocks)
        conversation, model = self._session.conversation, self._connection.model
        if model is not None and not conversation.turns and not self._chose:
            self._session.mode = default_mode(model)
        mode = self._session.mode
        self._panel.show(self._session, self._connection.models, model)
        self._prompt.border_title = "Begin a text" if mode == "complete" else "Message"
        self._prompt.placeholder = hint(mode, conversation)
        self._side.mark(self._session.name, busy=self._session.answer is not None)
        self._side.show_models(self._connection.models or [], model.id if model else "")
        self.header.place("chat", *([conversation.title] if conversation.title else []))
        self.header.fact(facts(model))
        self._tell()
        self.refresh_bindings()

    @on(MessageLog.Moved)
    @on(FieldPanel.Changed)
    def _tell(self) -> None:
        """Say what goes on."""
        if not self.is_mounted:
            return
        log = self._log
        token = log.chosen_token if log.shaded and log.has_focus else None
        words = status(
            self._session.answer,
            self._connection.fault,
            f"{self._connection.waiting_for}{_THEN_SENT * (self._unsent is not None)}",
            self._session.editing,
            token or log.shaded,
        )
        self._panel.say(words, Sampling.from_options(self._draft.config.inference))

    # Keys.

    def action_back(self) -> None:
        """Stop what goes on, else close what is open, else leave."""
        if self._answering is not None:
            self._answering.cancel()
        elif self._unsent is not None:
            self._unsent = None
            self._tell()
        elif self._session.editing is not None:
            self._session.editing = None
            self._prompt.fill("")
            self._tell()
        elif self._side.has_cursor:
            self.action_done()
        else:
            super().action_back()

    def action_interrupt(self) -> None:
        if self._session.answer is None and self._prompt.selected_text:
            self.app.copy_to_clipboard(self._prompt.selected_text)
        else:
            self.action_back()

    def action_done(self) -> None:
        """Back to writing."""
        self.remove_class("-side")
        self._prompt.focus()
        self._tell()

    async def action_side(self, view: View) -> None:
        if self._side.has_cursor and self._side.view == view:
            self.action_done()
            return
        self.add_class("-side")
        self._side.turn(view)
        self.call_after_refresh(self._side.enter)

    def action_mode(self) -> None:
        self._chose = True
        self._session.mode = "chat" if self._session.mode == "complete" else "complete"
        self._show(log=False)

    @property
    def _chosen(self) -> Block | None:
        """The text under the cursor, or the last one while the cursor is elsewhere."""
        blocks = self._session.conversation.blocks
        if self._log.has_focus:
            return self._log.chosen
        return blocks[-1] if blocks else None

    def action_again(self) -> None:
        block = self._chosen
        if block is not None:
            self._start(lambda session, model, sampling: session.again(block, model, sampling))

    def action_more(self) -> None:
        self._start(lambda session, model, sampling: session.more(model, sampling))

    def action_edit(self) -> None:
        block = self._chosen
        if block is not None and self._session.answer is None:
            self._prompt.fill(self._session.edit(block))
            self.action_done()

    def action_variant(self, by: int) -> None:
        block = self._chosen
        if block is not None and self._session.answer is None:
            self._session.switch(block, by)
            self._show()

    def action_shade(self) -> None:
        self._log.shade(not self._log.shaded)

    def action_copy(self) -> None:
        block = self._chosen
        if block is not None:
            self.app.copy_to_clipboard(block.turn.text)
            self.hatchery.note(f"Copied {len(block.turn.text):,} characters")

    # Conversations.

    def action_fresh(self) -> None:
        if self._session.answer is None:
            self._open(ChatStore.new_name(), Conversation())

    def _open(self, name: str, conversation: Conversation) -> None:
        self._session.open(name, conversation)
        self._log.show(conversation.blocks, follow=True)
        self._show(log=False)
        self.action_done()

    @on(ChatList.Renamed)
    def _renamed(self, event: ChatList.Renamed) -> None:
        if event.name == self._session.name:
            self._session.conversation.name = event.title
            self._show(log=False)

    @on(ChatList.Removed)
    def _removed(self, event: ChatList.Removed) -> None:
        if event.name == self._session.name:
            self._session.open(ChatStore.new_name(), Conversation())
            self._show()

    @on(ChatList.Opened)
    def _opened(self, event: ChatList.Opened) -> None:
        if self._session.answer is not None:
            self.hatchery.note(_BUSY)
        else:
            self._open(event.name, event.conversation)

    @work(thread=True, group="save", exclusive=True, exit_on_error=False)
    def action_save(self) -> None:
        if not self._session.conversation.turns:
            self.app.call_from_thread(self.hatchery.note, "There is nothing to save yet")
            return
        try:
            path = self._session.store.save(self._session.name, self._session.conversation)
        except HatcheryError as error:
            self.app.call_from_thread(self.hatchery.tell, error)
        else:
            self.app.call_from_thread(self.hatchery.note, f"Saved {path}")
