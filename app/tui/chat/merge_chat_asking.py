"""From a conversation to its next answer: whether one can be asked for now, and taking it in until
it ends, however that comes. Knows of widgets only that they have workers."""

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias

from textual.dom import DOMNode
from textual.worker import Worker

from app.client.client import Sampling
from app.tui.chat.connection import Link
from app.tui.chat.conversation import FAILED, STOPPED
from app.tui.chat.merge_chat_answer import Answer
from app.tui.chat.session import Desk
from app.tui.forms.draft import Draft
from app.tui.forms.sampling import sampling_of
from utils.errors import HatcheryError, UsageError

if TYPE_CHECKING:
    from app.client.server_process import Serving

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
