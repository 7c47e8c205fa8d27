"""What is to be written: a request's job, its texts, and the desk of the model that writes them.

The engine thread changes them; what it tells goes through the job's queue in the event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from model.generation.batch import BatchScheduler
from model.generation.sampling import NewToken, SamplingSettings
from model.generation.scoring import Scored, Scores, score
from pipeline.inference.stop_strings import Continuation
from pipeline.inference.writer import Writer
from pipeline.server.errors import ApiError

Placed: TypeAlias = tuple[NewToken | Scored, int]
"""A token and where it begins in its text, in characters."""


@dataclass(frozen=True)
class Piece:
    """What a step added to the text `index` of a job: certain text, and the tokens that begin in
    it with their places in the whole."""

    index: int
    text: str
    tokens: tuple[Placed, ...]
    finish: str | None


@dataclass(eq=False)
class Prompt:
    """Ids that texts continue. The first `added` of them nobody sent: a text begins a document.

    Where texts are to begin with it, `text` is what was sent, and `starts` are the places of its
    tokens in that. `scored` are all ids but the first, once the engine has read them.
    """

    ids: Sequence[int]
    added: int = 0
    text: str = ""
    starts: Sequence[int] = ()
    scored: list[Scores] = field(default_factory=list)

    @property
    def tokens(self) -> tuple[Placed, ...]:
        """Those of the text; none where they were not asked for."""
        every = [Scored(self.ids[0], None), *chain(*self.scored)]
        return tuple(zip(every[self.added :], self.starts, strict=True)) if self.starts else ()


@dataclass(eq=False)
class Desk:
    """A model and the texts that it writes or is to write; only the engine thread changes it.

    `unscored` are jobs whose prompts are to be scored before their texts join; `scoring` is the
    first one's `Job.score`. `broken` says that a step failed, after which the model's memory is not
    to be trusted.
    """

    writer: Writer
    batch: BatchScheduler
    texts: dict[int, "Text"] = field(default_factory=dict)
    waiting: "deque[Text]" = field(default_factory=deque)
    unscored: "deque[Job]" = field(default_factory=deque)
    scoring: Iterator[Scores] | None = None
    broken: bool = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.texts or self.waiting or self.unscored)


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
        """What has become certain since the last one; None where that is nothing.

        The tokens are those of the text, without EOS. Only whoever has prompts scored counts
        tokens, and gets one for each that was decided.
        """
        first, starts = self.sent, self.body.starts
        every = self.job.prompts and self.body.finish and not self.body.cut
        while self.sent < len(starts) and (every or starts[self.sent] < len(self.body.text)):
            self.sent += 1
        if not said and self.body.finish is None:
            return None
        tokens = zip(self.body.tokens[first : self.sent], starts[first : self.sent], strict=True)
        return Piece(self.index, said, tuple(tokens), self.body.finish)


Delivery = list[Piece] | ApiError


@dataclass(eq=False)
class Job:
    """The texts of one request. The engine thread writes; `told` is filled in the event loop.

    `prompts` are those to be scored with so many `alternatives`, `began` is a time of the clock.
    `cancelled` is set by whoever no longer waits.
    """

    desk: Desk
    clock: Callable[[], float] = time.perf_counter
    texts: list[Text] = field(default_factory=list)
    prompts: Sequence[Prompt] = ()
    alternatives: int = 0
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

    def score(self) -> Iterator[Scores]:
        """Score the prompts, a piece of one at a time."""
        runner, vocabulary = self.desk.writer.runner, self.desk.writer.tokenizer.vocab_size
        for prompt in self.prompts:
            if len(prompt.ids) > 1:
                logits = runner.logits_along(prompt.ids[:-1])
                for piece in score(logits, prompt.ids, vocabulary, self.alternatives):
                    prompt.scored.append(piece)
                    yield piece
