"""What is to be generated: a request with its texts, and the queue of the model that writes them.

Only the engine thread changes them; its results reach the event loop through the request's
`deliveries`.
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

PlacedToken: TypeAlias = tuple[NewToken | Scored, int]
"""A token and where it begins in its text, in characters."""


@dataclass(frozen=True)
class Piece:
    """What a step added to the text `index` of a request: text that is final, and the tokens that
    begin in it with their offsets in the whole."""

    index: int
    text: str
    tokens: tuple[PlacedToken, ...]
    finish: str | None


@dataclass(eq=False)
class Prompt:
    """Ids that texts continue. The first `added` of them nobody sent: a text begins a document.

    Where texts are to begin with it, `text` is what was sent, and `offsets` are the places of its
    tokens in that. `scored` are all ids but the first, once the engine has read them.
    """

    ids: Sequence[int]
    added: int = 0
    text: str = ""
    offsets: Sequence[int] = ()
    scored: list[Scores] = field(default_factory=list)

    @property
    def tokens(self) -> tuple[PlacedToken, ...]:
        """Those of the text; none where they were not asked for."""
        every = [Scored(self.ids[0], None), *chain(*self.scored)]
        return tuple(zip(every[self.added :], self.offsets, strict=True)) if self.offsets else ()


@dataclass(eq=False)
class ModelQueue:
    """A model with the `texts` in its batch and those `waiting` for a free row.

    `unscored` are requests whose prompts are scored before their texts join; `scoring` is the
    `GenerationRequest.score` of the first one. `broken` says that a step failed, after which the
    state of the model cannot be trusted.
    """

    writer: Writer
    batch: BatchScheduler
    texts: dict[int, "Text"] = field(default_factory=dict)
    waiting: "deque[Text]" = field(default_factory=deque)
    unscored: "deque[GenerationRequest]" = field(default_factory=deque)
    scoring: Iterator[Scores] | None = None
    broken: bool = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.texts or self.waiting or self.unscored)


@dataclass(eq=False)
class Text:
    """One text of a request; `sent` of its tokens have been delivered."""

    request: "GenerationRequest"
    index: int
    ids: Sequence[int]
    settings: SamplingSettings
    body: Continuation
    sent: int = 0

    def piece(self, new_text: str) -> Piece | None:
        """What has become final since the last one; None where that is nothing.

        The tokens are those of the text, without EOS. Only
        a request whose prompts are scored gets a token for each that was decided.
        """
        first, offsets = self.sent, self.body.offsets
        every = self.request.prompts and self.body.finish and not self.body.cut
        while self.sent < len(offsets) and (every or offsets[self.sent] < len(self.body.text)):
            self.sent += 1
        if not new_text and self.body.finish is None:
            return None
        tokens = zip(self.body.tokens[first : self.sent], offsets[first : self.sent], strict=True)
        return Piece(self.index, new_text, tuple(tokens), self.body.finish)


Delivery = list[Piece] | ApiError


@dataclass(eq=False)
class GenerationRequest:
    """The texts of one request. The engine thread writes; `deliveries` is filled in the event loop.

    `prompts` are those to be scored with so many `alternatives`, `began` is the time of `clock` at
    which the first text got a row. `cancelled` is set once no client waits any more.
    """

    queue: ModelQueue
    clock: Callable[[], float] = time.perf_counter
    texts: list[Text] = field(default_factory=list)
    prompts: Sequence[Prompt] = ()
    alternatives: int = 0
    deliveries: "asyncio.Queue[Delivery]" = field(default_factory=asyncio.Queue)
    on_begin: Callable[[], None] = lambda: None
    cancelled: bool = False
    new_tokens: int = 0
    began: float | None = None

    def add(self, index: int, ids: Sequence[int], settings: SamplingSettings,
            stop: Sequence[str]) -> None:  # fmt: skip
        """One more text to write."""
        body = Continuation(self.queue.writer.tokenizer, ids, stop)
        self.texts.append(Text(self, index, ids, settings, body))

    def score(self) -> Iterator[Scores]:
        """Score the prompts, a piece of one at a time."""
        writer = self.queue.writer
        runner, vocabulary = writer.runner, writer.tokenizer.vocab_size
        for prompt in self.prompts:
            if len(prompt.ids) > 1:
                logits = runner.logits_along(prompt.ids[:-1])
                named = self.alternatives
                pieces = score(logits, prompt.ids, vocabulary, named, writer.counts_padding)
                for piece in pieces:
                    prompt.scored.append(piece)
                    yield piece
