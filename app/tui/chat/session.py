"""What a person does with a conversation: send, ask again, edit, go on, open another; and the
answer that streams in. Every turn is saved as soon as it is complete. Knows no widgets."""

import math
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from msgspec.structs import replace as replace_struct

from app.client.client import Request, Sampling
from app.client.responses import RequestRefusedError
from app.tui.chat.connection import ModelConnection
from app.tui.chat.conversation import (
    FAILED,
    STOPPED,
    WITHDRAWN,
    Block,
    Conversation,
    Mode,
    StreamedAnswer,
    Turn,
    request_for,
)
from app.tui.chat.storage import ChatStore
from app.tui.forms.draft import Draft
from utils.errors import HatcheryError, UsageError

if TYPE_CHECKING:
    from app.client.server_process import ServerProcess

_BYTES_PER_TOKEN = 3.5  # of a model that has not read anything yet
_COUNTED = 64  # bytes of a prompt that tell how many a model reads as one token
_SEEDS = 1_000_000  # as many as are easy to read and to type again


class Question(NamedTuple):
    """A turn of the user that waits for its answer, and what was there before it."""

    turn: Turn
    leaf: int | None
    editing: Turn | None


class ChatSession:
    """One conversation at a time. `answer` is the one that is being streamed, `editing` the turn
    that the next one is to replace, `returned` the text of a question that the server refused;
    `report` is called, from any thread, with what could not be saved."""

    def __init__(self, store: ChatStore, report: Callable[[HatcheryError], None]) -> None:
        self.store = store
        self.mode: Mode = "complete"
        self.answer: StreamedAnswer | None = None
        self.returned: str | None = None
        self._report = report
        self._question: Question | None = None
        self._sizes: dict[str, float] = {}
        self.open(store.new_name(), Conversation())

    def open(self, name: str, conversation: Conversation) -> None:
        """Go to another conversation."""
        self.name, self.conversation = name, conversation
        self.editing: Turn | None = None
        if conversation.turns:
            self.mode = conversation.path[-1].mode

    # What is asked.

    def begin(self, action: "Action", connection: ModelConnection, draft: Draft) -> StreamedAnswer:
        """Begin an answer of the connected model, sampled as the form `draft` says.

        Raises:
            UsageError: none can be asked for now.
        """
        faults = [fault for path, fault in draft.faults.items() if "inference" in path]
        if self.answer is not None:
            raise UsageError("The model still writes.", remedy="Esc stops it")
        if connection.model is None:
            raise UsageError("There is no model to ask yet.")
        if faults:
            raise UsageError(f"A setting of the sampling {faults[0]}.", remedy="Ctrl+O")
        answer = action(self, connection.model.id, Sampling.from_options(draft.config.inference))
        connection.fault = None
        return answer

    def send(self, text: str, model: str, sampling: Sampling) -> StreamedAnswer:
        """Add a message or a prompt, in place of the edited one where there is one, and ask.

        Raises:
            UsageError: it is an empty message.
        """
        mode = self.editing.mode if self.editing is not None else self.mode
        if mode == "chat" and not text.strip():
            raise UsageError("Write a message first.", remedy="Ctrl+B lets the model write alone")
        conversation, before = self.conversation, (self.conversation.leaf, self.editing)
        if self.editing is not None:
            conversation.leaf, self.editing = self.editing.parent, None
        turn = Turn(conversation.next_id, conversation.leaf, "user", text, mode, time.time())
        conversation.add(turn)
        self._question = Question(turn, *before)
        self._save(turn)
        return self._ask(model, sampling)

    def again(self, block: Block, model: str, sampling: Sampling) -> StreamedAnswer:
        """Another answer, with another seed: a sibling of a block's, or one to its message."""
        turn = block.turn
        self.conversation.leaf = turn.parent if turn.role == "assistant" else turn.id
        return self._ask(model, replace(sampling, seed=None))

    def more(self, model: str, sampling: Sampling) -> StreamedAnswer:
        """Let the model go on with its own text.

        Raises:
            UsageError: there is no text that could go on.
        """
        path = self.conversation.path
        if not path or path[-1].mode != "complete":
            raise UsageError("Only a text can go on.", remedy="in a chat, write the next message")
        return self._ask(model, replace(sampling, seed=None))

    def edit(self, block: Block) -> str:
        """Begin to edit what was asked in a block; its text."""
        turn = block.first
        if turn.role == "assistant" and turn.parent is not None:
            turn = self.conversation.turns[turn.parent]
        self.editing = turn
        return turn.text

    def switch(self, block: Block, by: int) -> None:
        """Show the alternative `by` places further."""
        if block.variants > 1:
            self.conversation.switch(self.conversation.choice_of(block), by)

    def _ask(self, model: str, sampling: Sampling) -> StreamedAnswer:
        if sampling.seed is None:
            sampling = replace(sampling, seed=secrets.randbelow(_SEEDS))
        conversation = self.conversation
        last = conversation.path[-1]
        request = request_for(conversation.path, model, sampling)
        self.answer = StreamedAnswer(conversation.next_id, last.id, last.mode, request)
        conversation.add(self.answer.turn(""))
        return self.answer

    # The answer.

    async def stream(
        self, answer: StreamedAnswer, connection: ModelConnection, server: "ServerProcess"
    ) -> None:
        """Receive an answer to its end; cancelled, it keeps what has come."""
        finish, refused = STOPPED, False
        try:
            client = await server.client()
            async with aclosing(client.stream(answer.request)) as pieces:
                async for piece in pieces:
                    answer.take(piece)
        except HatcheryError as error:
            connection.failed(server, error)
            finish, refused = FAILED, isinstance(error, RequestRefusedError)
        finally:
            self._measure(answer)
            self.end(answer, finish)
            if refused and self._question is not None:
                self._withdraw(self._question)
            self._question = None

    def end(self, answer: StreamedAnswer, finish: str) -> None:
        """The answer is over, `finish` being why where the server did not say; one that never
        began leaves no trace."""
        turn = answer.turn(finish)
        self.answer = None
        if turn.text or turn.finish not in (FAILED, STOPPED):
            self.conversation.replace(turn)
            self._save(turn)
        else:
            self.conversation.drop(turn)

    def _withdraw(self, question: Question) -> None:
        """Take back a question that was refused, as if it had not been sent."""
        turn, conversation = question.turn, self.conversation
        if any(other.parent == turn.id for other in conversation.turns.values()):
            return
        self._save(replace_struct(turn, text="", finish=WITHDRAWN))
        conversation.drop(turn)
        conversation.leaf, self.editing = question.leaf, question.editing
        self.returned = turn.text

    def take_back(self) -> str | None:
        """The text of a question that was refused, once."""
        text, self.returned = self.returned, None
        return text

    # How long a text is.

    def _measure(self, answer: StreamedAnswer) -> None:
        """Remember how many bytes this model reads as one token, from what the server counted."""
        size, tokens = _size(answer.request), answer.figures.get("prompt_tokens", 0.0)
        if size >= _COUNTED and tokens >= 1:
            self._sizes[answer.request.model] = size / tokens

    def tokens_with(self, text: str, model: str) -> int:
        """About how many tokens a model would read if this was asked, by the size of all of it."""
        turn = Turn(0, None, "user", text, self.mode)
        before = self.conversation.path if self.mode == "chat" else []
        size = _size(request_for([*before, turn], model, Sampling()))
        return math.ceil(size / self._sizes.get(model, _BYTES_PER_TOKEN))

    def _save(self, turn: Turn) -> None:
        def done(saved: "Future[None]") -> None:
            error = saved.exception()
            if isinstance(error, HatcheryError):
                self._report(error)

        self.store.append(self.name, turn).add_done_callback(done)


def _size(request: Request) -> int:
    """Bytes of UTF-8 that a request asks a model to read."""
    messages = (str(message["content"]) for message in request.messages or ())
    return sum(len(text.encode("utf-8", "replace")) for text in (request.prompt or "", *messages))


Action: TypeAlias = Callable[[ChatSession, str, Sampling], StreamedAnswer]
"""What begins an answer: a method of the session, of the model of an id."""
