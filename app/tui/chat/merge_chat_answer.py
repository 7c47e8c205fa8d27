"""An answer while it is written, and what the lists beside a conversation say. Knows no widgets."""

import re
import time
from collections.abc import Sequence
from dataclasses import asdict

from app.client.client import Ask, Model, Piece
from app.tui.chat.conversation import Mode, Turn
from app.tui.widgets.token_colours import Span, Spans

_STAMP = re.compile(r"^run_\d{4}(?:_\d\d){4}_(?=.)")


class Answer:
    """What has come so far, and what of it is not shown yet."""

    def __init__(self, turn: int, parent: int, mode: Mode, ask: Ask) -> None:
        self.ask = ask
        self._turn, self._parent, self._mode = turn, parent, mode
        self._texts: list[str] = []
        self._spans: list[Span] = []
        self._matching = Spans()
        self._shown = 0, 0
        self._first: float | None = None
        self._last = 0.0
        self.finish = ""
        self.figures: dict[str, float] = {}

    def take(self, piece: Piece) -> None:
        """The next piece."""
        if piece.text:
            self._texts.append(piece.text)
            self._last = time.perf_counter()
            self._first = self._last if self._first is None else self._first
        self._spans += self._matching.take(piece.text, piece.tokens)
        self.finish = piece.finish or self.finish
        self.figures = piece.figures or self.figures

    @property
    def tokens(self) -> int:
        """How many tokens, or pieces of servers that do not tell tokens, have come."""
        return max(len(self._spans), len(self._texts))

    @property
    def speed(self) -> float:
        """Tokens per second since the first one."""
        passed = self._last - (self._first or self._last)
        return (self.tokens - 1) / passed if passed else 0.0

    def fresh(self) -> tuple[str, list[Span]]:
        """Text and tokens that have come since this was last asked."""
        texts, spans = self._shown
        self._shown = len(self._texts), len(self._spans)
        return "".join(self._texts[texts:]), self._spans[spans:]

    def turn(self, finish: str) -> Turn:
        """The answer as it is kept; `finish` where the server did not say why it ended."""
        self._spans += self._matching.end()
        known = any(logprob is not None for _, logprob in self._spans)
        return Turn(
            self._turn,
            self._parent,
            "assistant",
            "".join(self._texts),
            self._mode,
            time.time(),
            self.ask.model,
            self.finish or finish,
            self.figures or {"new_tokens": float(self.tokens)},
            asdict(self.ask.sampling) | {"stop": list(self.ask.sampling.stop)},
            tuple(self._spans) if known else (),
        )


def short(model: str) -> str:
    """A model's id without the moment its run began, where the run has a name besides."""
    return _STAMP.sub("", model)


def default_mode(model: Model) -> Mode:
    """Models that were taught to answer do, base models go on with a text."""
    return "chat" if model.chat else "complete"


def choose(models: Sequence[Model], wanted: str | None) -> Model | None:
    """The model that is meant by an id or the name of a run; else the best of the first run."""
    exact = next((model for model in models if model.id == wanted), None)
    if exact is not None or not models:
        return exact
    run = next((model.run for model in models if model.run == wanted), models[0].run)
    own = [model for model in models if model.run == run]
    return max(own, key=lambda model: (model.best, model.latest))
