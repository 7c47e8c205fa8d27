"""Talk to a model, or let it go on with a text."""

from functools import partial
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from app.tui.chat.connection import Link
from app.tui.chat.conversation import Block, Conversation, default_mode
from app.tui.chat.message_log import ChatLog
from app.tui.chat.panels import ChatSide, Talk, View
from app.tui.chat.prompt import PromptArea
from app.tui.chat.session import Asking, Begin, Desk
from app.tui.chat.storage import ChatStore
from app.tui.chat.wording import HELP, facts, hint, status
from app.tui.forms import config_file
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.screen import HatcheryScreen
from utils.errors import HatcheryError, UsageError

_REPAINT = 1 / 30  # seconds between two looks at what has come
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
        #talk { width: 1fr; height: 1fr; }
        &.-narrow .fold { display: block; }
        &.-narrow ChatSide { display: none; }
        &.-narrow.-side ChatSide { display: block; width: 1fr; }
        &.-narrow.-side #talk { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__("chat")
        self._wanted: str | None = None
        self._begun = False
        self._link = Link(self._show)
        self._chose = False  # once the user has chosen a mode, no model changes it

    def content(self) -> ComposeResult:
        store = ChatStore(self.hatchery.config.paths.logs_dir)
        self._desk = Desk(store, partial(self.app.call_from_thread, self.hatchery.tell))
        self._draft = Draft([])
        config_file.reread(self._draft)
        self._asking = Asking(self, self._desk, self._link, self._draft, self._ended)
        with Horizontal(id="chat"):
            with Vertical(id="talk"):
                yield Talk()
                yield PromptArea()
            yield ChatSide(self._draft, store)

    def on_mount(self) -> None:
        self.hatchery.server_changed.subscribe(self, self._link.heard)
        self._timer = self.set_interval(_REPAINT, self._flush, pause=True)
        self._prompt.focus()
        self._show()
        self._begun = True
        self._connect(self._wanted)

    def want(self, model: str | None) -> None:
        """Let a model answer from now on, named by its id or run; without one, whoever did."""
        self._wanted = model
        if not self._begun:
            return  # it connects when it is there
        if self._desk.answer is None:
            self._connect(model)
        elif model is not None:
            self.hatchery.note(_BUSY)

    def on_screen_resume(self) -> None:
        if config_file.reread(self._draft):
            self._side.refill()
            self._tell()

    @property
    def _talk(self) -> Talk:
        return self.query_one(Talk)

    @property
    def _log(self) -> ChatLog:
        return self._talk.texts

    @property
    def _prompt(self) -> PromptArea:
        return self.query_one(PromptArea)

    @property
    def _side(self) -> ChatSide:
        return self.query_one(ChatSide)

    # The server and its models.

    @work(group="connect", exclusive=True, exit_on_error=False)
    async def _connect(self, wanted: str | None) -> None:
        await self._link.connect(self.hatchery.serving, wanted)
        model = self._link.model
        if model is not None and wanted not in (None, model.id, model.run):
            self.hatchery.note(f"{wanted} is not offered: {model.id} answers")

    def action_restart(self) -> None:
        self._connect(self._link.model.id if self._link.model else self._wanted)

    @on(ChatSide.Picked)
    def _picked(self, event: ChatSide.Picked) -> None:
        self._link.model = event.model
        self.action_done()
        if self._desk.answer is None:
            self._connect(event.model.id)

    # Asking.

    @on(PromptArea.Sent)
    def _sent(self, event: PromptArea.Sent) -> None:
        if self._start(lambda desk, model, sampling: desk.send(event.text, model, sampling)):
            self._prompt.fill("")

    @on(PromptArea.Left)
    def _prompt_left(self) -> None:
        if self._desk.talk.turns:
            self._log.focus()
        else:
            self.focus_next()

    @on(PromptArea.Unread)
    def _unread(self, event: PromptArea.Unread) -> None:
        self.hatchery.tell(event.error)

    def _start(self, begin: Begin) -> bool:
        """Begin an answer, if one can be asked for now; says why not."""
        try:
            self._asking.start(begin, self.hatchery.serving)
        except UsageError as error:
            self.hatchery.tell(error)
            return False
        self._log.show(self._desk.talk.blocks, follow=True)
        self._show(log=False)
        self._timer.resume()
        return True

    def _ended(self) -> None:
        if self.is_attached:
            self._timer.pause()
            self._show()

    def _flush(self) -> None:
        """Show what has come since the last look."""
        if self._desk.answer is not None:
            text, spans = self._desk.answer.fresh()
            if text or spans:
                self._log.extend(text, spans)
                self._tell()

    # Showing.

    def _show(self, *, log: bool = True) -> None:
        """Draw everything that may have changed."""
        if not self.is_mounted:
            return
        if log and self._desk.answer is None:  # what is written shows itself
            self._log.show(self._desk.talk.blocks)
        talk, model = self._desk.talk, self._link.model
        if model is not None and not talk.turns and not self._chose:
            self._desk.mode = default_mode(model)
        mode = self._desk.mode
        self._talk.show(self._desk, self._link.models, model)
        self._prompt.border_title = "Begin a text" if mode == "complete" else "Message"
        self._prompt.placeholder = hint(mode, talk)
        self._side.show_models(self._link.models or [], model.id if model else "")
        self.header.place("chat", *([talk.title] if talk.title else []))
        self.header.fact(facts(model))
        self._tell()
        self.refresh_bindings()

    @on(ChatLog.Moved)
    @on(FieldPanel.Changed)
    def _tell(self) -> None:
        """Say what goes on."""
        if not self.is_mounted:
            return
        log = self._log
        token = log.chosen_token if log.shaded and log.has_focus else None
        words = status(
            self._desk.answer,
            self._link.fault,
            self._link.waits,
            self._desk.editing,
            token or log.shaded,
        )
        self._talk.say(words, self._asking.sampling)

    # Keys.

    def action_back(self) -> None:
        """Stop what goes on, else close what is open, else leave."""
        if self._asking.stop():
            return
        if self._desk.editing is not None:
            self._desk.editing = None
            self._prompt.fill("")
            self._tell()
        elif self._side.has_cursor:
            self.action_done()
        else:
            super().action_back()

    def action_interrupt(self) -> None:
        if self._desk.answer is None and self._prompt.selected_text:
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
        self._desk.mode = "chat" if self._desk.mode == "complete" else "complete"
        self._show(log=False)

    @property
    def _chosen(self) -> Block | None:
        """The text under the cursor, or the last one while the cursor is elsewhere."""
        blocks = self._desk.talk.blocks
        if self._log.has_focus:
            return self._log.chosen
        return blocks[-1] if blocks else None

    def action_again(self) -> None:
        block = self._chosen
        if block is not None:
            self._start(lambda desk, model, sampling: desk.again(block, model, sampling))

    def action_more(self) -> None:
        self._start(lambda desk, model, sampling: desk.more(model, sampling))

    def action_edit(self) -> None:
        block = self._chosen
        if block is not None and self._desk.answer is None:
            self._prompt.fill(self._desk.edit(block))
            self.action_done()

    def action_variant(self, by: int) -> None:
        block = self._chosen
        if block is not None and self._desk.answer is None:
            self._desk.switch(block, by)
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
        if self._desk.answer is None:
            self._open(ChatStore.new_name(), Conversation())

    def _open(self, name: str, talk: Conversation) -> None:
        self._desk.open(name, talk)
        self._log.show(talk.blocks, follow=True)
        self._show(log=False)
        self.action_done()

    @on(ChatSide.Opened)
    def _opened(self, event: ChatSide.Opened) -> None:
        if self._desk.answer is not None:
            self.hatchery.note(_BUSY)
        else:
            self._open(event.name, event.talk)

    @work(thread=True, group="save", exclusive=True, exit_on_error=False)
    def action_save(self) -> None:
        if not self._desk.talk.turns:
            self.app.call_from_thread(self.hatchery.note, "There is nothing to save yet")
            return
        try:
            path = self._desk.store.save(self._desk.name, self._desk.talk)
        except HatcheryError as error:
            self.app.call_from_thread(self.hatchery.tell, error)
        else:
            self.app.call_from_thread(self.hatchery.note, f"Saved {path}")
