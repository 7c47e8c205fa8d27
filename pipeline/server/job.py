"""What is to be written: a request's job, its texts, and the desk of the model that writes them.

The engine thread changes them; what it tells goes through the job's queue in the event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from model.batch import Batch
from model.sampling import NewToken, SamplingSettings
from pipeline.continuation import Continuation
from pipeline.generation import Writer
from pipeline.server.errors import ApiError


@dataclass(frozen=True)
class Piece:
    """What a step added to the text `index` of a job: certain text, and the tokens that begin in
    it with their places in the whole."""

    index: int
    text: str
    tokens: tuple[tuple[NewToken, int], ...]
    finish: str | None


@dataclass(eq=False)
class Desk:
    """A model and the texts that it writes or is to write; only the engine thread changes it.

    `broken` says that a step failed, after which its memory is not to be trusted.
    """

    writer: Writer
    batch: Batch
    texts: dict[int, "Text"] = field(default_factory=dict)
    waiting: "deque[Text]" = field(default_factory=deque)
    broken: bool = False


@dataclass(eq=False)
class Text:
    """One text of a job."""

    job: "Job"
    index: int
    ids: Sequence[int]
    settings: SamplingSettings
    body: Continuation
    sent: int = 0

    def piece(self, said: str) -> Piece | None:
        """What has become certain since the last one; None where that is nothing."""
        first, starts = self.sent, self.body.starts
        while self.sent < len(starts) and starts[self.sent] < len(self.body.text):
            self.sent += 1
        if not said and self.body.finish is None:
            return None
        tokens = zip(self.body.tokens[first : self.sent], starts[first : self.sent], strict=True)
        return Piece(self.index, said, tuple(tokens), self.body.finish)


Delivery = list[Piece] | ApiError


@dataclass(eq=False)
class Job:
    """The texts of one request. The engine thread writes; `told` is filled in the event loop.

    `cancelled` is set by whoever no longer waits; `began` and `ended` are times of the clock.
    """

    desk: Desk
    clock: Callable[[], float] = time.perf_counter
    texts: list[Text] = field(default_factory=list)
    told: "asyncio.Queue[Delivery]" = field(default_factory=asyncio.Queue)
    on_begin: Callable[[], None] = lambda: None
    cancelled: bool = False
    new_tokens: int = 0
    began: float | None = None

    def add(self, index: int, ids: Sequence[int], settings: SamplingSettings,
            stop: Sequence[str]) -> None:  # fmt: skip
        """One more text to write."""
        body = Continuation(self.desk.writer.tokenizer, ids, stop)
        self.texts.append(Text(self, index, ids, settings, body))
