"""One prompt and what every model makes of it: the answers as they come, who was fastest, and the
vote. Knows no widgets and no servers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Literal, NamedTuple, TypeAlias

from app.client.client import Ask, Client, Piece, Sampling
from app.tui.compare.selection import LOCAL, Contender, labels
from app.tui.widgets.token_colours import Span, Spans
from pipeline.benchmark.votes import Vote, text_hash
from utils.errors import HatcheryError

State: TypeAlias = Literal["empty", "loading", "waiting", "writing", "done", "stopped", "failed"]
BUSY = ("loading", "waiting", "writing")

Key: TypeAlias = tuple[tuple[str, str], str, bool, Sampling]
"""What decides an answer: server and model, the prompt, whether it is a chat, the settings."""


@dataclass(eq=False)
class Answer:
    """What one model has written; `spans` are the lengths of its tokens in characters with their
    log-probabilities in nats, `tokens` counts them while they come, `beside` is how many others
    wrote at the same time."""

    contender: Contender
    text: str = ""
    spans: list[Span] = field(default_factory=list)
    tokens: int = 0
    beside: int = 0
    state: State = "empty"
    finish: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    error: HatcheryError | None = None
    _spans: Spans = field(default_factory=Spans)

    @property
    def busy(self) -> bool:
        return self.state in BUSY

    def take(self, piece: Piece) -> None:
        """Add what came."""
        self.state = "writing"
        self.text += piece.text
        self.spans += self._spans.take(piece.text, piece.tokens)
        self.tokens += len(piece.tokens) or bool(piece.text)
        self.finish = piece.finish or self.finish
        self.figures |= piece.figures or {}

    def end(self, state: State, error: HatcheryError | None = None) -> None:
        """Nothing more comes, in case of a failure for a reason; what was written stays."""
        self.spans += self._spans.end()
        self._spans = Spans()
        self.state, self.error = state, error


@dataclass
class Round:
    """A prompt, put to all. `answers` are in the order of the panes; while it is `blind` and
    undecided, nothing may tell which model wrote which."""

    answers: list[Answer]
    prompt: str = ""
    chat: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    blind: bool = False
    asked: bool = False
    decided: bool = False
    winner: Answer | None = None

    @property
    def busy(self) -> bool:
        return any(answer.busy for answer in self.answers)

    @property
    def failed(self) -> bool:
        return any(answer.state == "failed" for answer in self.answers)

    @property
    def hidden(self) -> bool:
        """Whether the names are kept back."""
        return self.blind and not self.decided

    @property
    def candidates(self) -> list[Answer]:
        """The answers that a vote is about: those that were not lost to a failure."""
        return [a for a in self.answers if a.state in ("done", "stopped")]

    @property
    def votable(self) -> bool:
        return self.asked and not self.busy and not self.decided and len(self.candidates) > 1

    def names(self) -> list[str]:
        """What stands above the panes."""
        if self.hidden:
            return [letter(place) for place in range(len(self.answers))]
        return labels([answer.contender for answer in self.answers])

    def ask(self, contender: Contender) -> Ask:
        """The question for one model, with the same seed for every one."""
        said = ({"role": "user", "content": self.prompt},) if self.chat else None
        text = None if self.chat else self.prompt
        return Ask(contender.model.id, text, said, self.sampling, logprobs=True)

    def ballot(self, winner: Answer | None, *, time: float) -> Vote:
        """The record of a vote; None says that no answer is better."""
        voted = self.candidates
        return Vote(
            prompt=self.prompt,
            models=tuple(answer.contender.name for answer in voted),
            texts=tuple(text_hash(answer.text) for answer in voted),
            winner=winner.contender.name if winner else None,
            sampling=settings(self.sampling),
            seed=self.sampling.seed,
            blind=self.blind,
            time=time,
            chat=self.chat,
        )

    def decide(self, winner: Answer | None) -> None:
        """The vote is kept: names may be told."""
        self.decided, self.winner = True, winner

    def change(self, answers: list[Answer]) -> None:
        """Other models stand here from now on, whose names are known."""
        self.answers = answers
        self.blind, self.decided, self.winner = False, False, None


def begun(
    sides: Sequence[Contender],
    prompt: str,
    sampling: Sampling,
    *,
    chat: bool,
    blind: bool,
    random: Random,
) -> Round:
    """A round in which nobody has answered yet: without a seed in the settings, one is drawn that
    all share; a blind one has a new order."""
    seeded = sampling
    if sampling.seed is None:
        seeded = replace(sampling, seed=random.randrange(1, 1_000_000))
    order = shuffled(sides, random.getrandbits(32)) if blind else list(sides)
    answers = [Answer(side, state="waiting") for side in order]
    return Round(answers, prompt, chat, seeded, blind, asked=True)


def shuffled(sides: Sequence[Contender], seed: int) -> list[Contender]:
    """The sides in an order that only the seed tells."""
    return Random(seed).sample(sides, len(sides))


def letter(place: int) -> str:
    """A, B, ... Z, A2, B2, ..."""
    turn, at = divmod(place, 26)
    return f"{chr(ord('A') + at)}{turn + 1 if turn else ''}"


def settings(sampling: Sampling) -> dict[str, float | int | str | list[str] | None]:
    """The settings by name, without the seed."""
    named = asdict(sampling) | {"stop": list(sampling.stop)}
    return {name: value for name, value in named.items() if name != "seed"}


class Summary(NamedTuple):
    """Who alone stands out of the answers that came to an end; None where nobody does. Times and
    speeds compare only between answers that had equally many beside them."""

    quickest: Answer | None = None
    longest: Answer | None = None
    fastest: Answer | None = None


def summary(answers: Sequence[Answer]) -> Summary:
    """The shortest time in seconds, the most tokens, the highest speed in tokens per second, of
    two finished answers and more."""
    done = [answer for answer in answers if answer.state == "done"]
    if len(done) < 2:
        return Summary()

    def top(figure: str, *, least: bool = False) -> Answer | None:
        known = [answer for answer in done if figure in answer.figures]
        ranked = sorted(known, key=lambda answer: answer.figures[figure], reverse=not least)
        alone = len({answer.figures[figure] for answer in ranked[:2]}) == 2
        return ranked[0] if alone else None

    if not together(done):
        return Summary(longest=top("new_tokens"))
    return Summary(top("seconds", least=True), top("new_tokens"), top("tokens_per_second"))


def together(done: Sequence[Answer]) -> bool:
    """Whether these had equally many beside them."""
    return len({answer.beside for answer in done}) < 2


Connect: TypeAlias = Callable[[str], Awaitable[Client]]
"""The client of a server by its address; raises HatcheryError where there is none."""


async def answer_all(
    found: Round, answers: Sequence[Answer], connect: Connect, *, after: float = 0.0
) -> None:
    """After a number of seconds load every model, so that none has a head start, then let all
    write.

    Cancelled, it ends the requests and marks what was not finished as stopped.
    """
    try:
        await asyncio.sleep(after)
        await asyncio.gather(*(_load(answer, connect) for answer in answers))
        ready = [answer for answer in answers if answer.state == "waiting"]
        for answer in ready:
            answer.beside = len(ready) - 1
        await asyncio.gather(*(_write(found, one, connect) for one in ready))
    finally:
        for answer in answers:
            if answer.busy:
                answer.end("stopped")


async def _load(answer: Answer, connect: Connect) -> None:
    answer.state = "loading"
    try:
        client = await connect(answer.contender.where)
        if answer.contender.where == LOCAL:
            await client.load(answer.contender.model.id)
    except HatcheryError as error:
        answer.end("failed", error)
    else:
        answer.state = "waiting"


async def _write(found: Round, answer: Answer, connect: Connect) -> None:
    try:
        client = await connect(answer.contender.where)
        async with aclosing(client.stream(found.ask(answer.contender))) as pieces:
            async for piece in pieces:
                answer.take(piece)
    except HatcheryError as error:
        answer.end("failed", error)
    else:
        answer.end("done")
