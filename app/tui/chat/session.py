"""What a person does with a conversation: ask, ask again, edit, go on, open another. Everything
is kept as it happens. Knows no widgets and no network."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

from app.client.client import Sampling
from app.tui.chat.conversation import FAILED, STOPPED, Block, Conversation, Mode, Turn, ask
from app.tui.chat.merge_chat_answer import Answer
from app.tui.chat.storage import ChatStore
from utils.errors import HatcheryError, UsageError

_SEEDS = 1_000_000  # as many as are easy to read and to type again


class Desk:
    """One conversation at a time. `answer` is the one that is being written, `editing` the turn
    that the next one is to replace; `complain` is told, from any thread, what cannot be kept."""

    def __init__(self, store: ChatStore, complain: Callable[[HatcheryError], None]) -> None:
        self.store = store
        self.mode: Mode = "complete"
        self.answer: Answer | None = None
        self._complain = complain
        self.open(store.new_name(), Conversation())

    def open(self, name: str, talk: Conversation) -> None:
        """Put another conversation on the desk."""
        self.name, self.talk = name, talk
        self.editing: Turn | None = None
        if talk.turns:
            self.mode = talk.path[-1].mode

    def send(self, text: str, model: str, sampling: Sampling) -> Answer:
        """Add what was written, as it is or in place of what is edited, and ask.

        Raises:
            UsageError: it is an empty message.
        """
        mode = self.editing.mode if self.editing is not None else self.mode
        if mode == "chat" and not text.strip():
            raise UsageError("Write a message first.", remedy="Ctrl+B lets the model write alone")
        if self.editing is not None:
            self.talk.leaf, self.editing = self.editing.parent, None
        turn = Turn(self.talk.next_id, self.talk.leaf, "user", text, mode, time.time())
        self.talk.add(turn)
        self._keep(turn)
        return self._ask(model, sampling)

    def again(self, block: Block, model: str, sampling: Sampling) -> Answer:
        """Another answer, with another seed, beside the one of a block or after a message."""
        turn = block.turn
        self.talk.leaf = turn.parent if turn.role == "assistant" else turn.id
        return self._ask(model, replace(sampling, seed=None))

    def more(self, model: str, sampling: Sampling) -> Answer:
        """Let the model go on with its own text.

        Raises:
            UsageError: there is no text that could go on.
        """
        path = self.talk.path
        if not path or path[-1].mode != "complete":
            raise UsageError("Only a text can go on.", remedy="in a chat, write the next message")
        return self._ask(model, replace(sampling, seed=None))

    def edit(self, block: Block) -> str:
        """Begin to edit what was asked in a block; its text."""
        turn = block.first
        if turn.role == "assistant" and turn.parent is not None:
            turn = self.talk.turns[turn.parent]
        self.editing = turn
        return turn.text

    def switch(self, block: Block, by: int) -> None:
        """Show the alternative `by` places further."""
        if block.variants > 1:
            self.talk.switch(self.talk.choice_of(block), by)

    def _ask(self, model: str, sampling: Sampling) -> Answer:
        if sampling.seed is None:
            sampling = replace(sampling, seed=secrets.randbelow(_SEEDS))
        last = self.talk.path[-1]
        question = ask(self.talk.path, model, sampling)
        self.answer = Answer(self.talk.next_id, last.id, last.mode, question)
        self.talk.add(self.answer.turn(""))
        return self.answer

    def ended(self, answer: Answer, finish: str) -> None:
        """The answer is over, `finish` being why where the server did not say; one that never
        began leaves no trace."""
        turn = answer.turn(finish)
        self.answer = None
        if turn.text or turn.finish not in (FAILED, STOPPED):
            self.talk.replace(turn)
            self._keep(turn)
        else:
            self.talk.drop(turn)

    def _keep(self, turn: Turn) -> None:
        def done(kept: "Future[None]") -> None:
            error = kept.exception()
            if isinstance(error, HatcheryError):
                self._complain(error)

        self.store.append(self.name, turn).add_done_callback(done)
