"""What a person does with a conversation: ask, ask again, edit, go on, open another. Everything
is kept as it happens. Knows no widgets and no network."""

import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from textual.dom import DOMNode
from textual.worker import Worker

from app.client.client import Sampling
from app.tui.chat.connection import Link
from app.tui.chat.conversation import FAILED, STOPPED, Answer, Block, Conversation, Mode, Turn, ask
from app.tui.chat.storage import ChatStore
from app.tui.forms.draft import Draft
from app.tui.forms.sampling import sampling_of
from utils.errors import HatcheryError, UsageError

if TYPE_CHECKING:
    from app.client.server_process import Serving


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


Begin: TypeAlias = Callable[[Desk, str, Sampling], Answer]
"""What of a desk is asked, of the model of an id."""


class Asking:
    """Its worker is one of `host`, where `ended` is called when there is no answer any more."""

    def __init__(
        self, host: DOMNode, desk: Desk, link: Link, draft: Draft, ended: Callable[[], None]
    ) -> None:
        self._host, self._desk, self._link = host, desk, link
        self._draft, self._over = draft, ended
        self._writing: Worker[None] | None = None

    @property
    def sampling(self) -> Sampling:
        """How the next answer is sampled."""
        return sampling_of(self._draft.config.inference)

    def start(self, begin: Begin, serving: "Serving") -> None:
        """Begin an answer.

        Raises:
            UsageError: none can be asked for now.
        """
        faults = [fault for path, fault in self._draft.faults.items() if "inference" in path]
        if self._desk.answer is not None:
            raise UsageError("The model still writes.", remedy="Esc stops it")
        if self._link.model is None:
            raise UsageError("There is no model to ask yet.")
        if faults:
            raise UsageError(f"A setting of the sampling {faults[0]}.", remedy="Ctrl+O")
        answer = begin(self._desk, self._link.model.id, self.sampling)
        self._link.fault = None
        self._writing = self._host.run_worker(
            self._write(answer, serving), group="answer", exclusive=True, exit_on_error=False
        )

    def stop(self) -> bool:
        """End the answer that is being written; whether there was one."""
        if self._writing is None:
            return False
        self._writing.cancel()
        return True

    async def _write(self, answer: Answer, serving: "Serving") -> None:
        finish = STOPPED
        try:
            client = await serving.client()
            async with aclosing(client.stream(answer.ask)) as pieces:
                async for piece in pieces:
                    answer.take(piece)
        except HatcheryError as error:
            self._link.failed(serving, error)
            finish = FAILED
        finally:
            self._desk.ended(answer, finish)
            self._writing = None
            self._over()
