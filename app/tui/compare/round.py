"""A round of a comparison: one prompt, the answers of all models as they are streamed, who was
fastest, and the vote. Knows no widgets and no servers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from typing import Literal, NamedTuple, TypeAlias

from app.client.client import Piece, Request, Sampling
from app.client.responses import RequestRefusedError
from app.tui.compare.selection import Candidate, labels
from app.tui.widgets.token_colours import Span, Spans
from pipeline.evaluation.votes import Vote, text_hash
from utils.errors import HatcheryError

State: TypeAlias = Literal["empty", "loading", "waiting", "writing", "done", "stopped", "failed"]
BUSY = ("loading", "waiting", "writing")


@dataclass(eq=False)
class Answer:
    """What one model has written; `spans` are the lengths of its tokens in characters with their
    log-probabilities in nats, `tokens` counts them while they come, `concurrent` is how many others
    wrote at the same time."""

    candidate: Candidate
    text: str = ""
    spans: list[Span] = field(default_factory=list)
    tokens: int = 0
    concurrent: int = 0
    state: State = "empty"
    finish: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    error: HatcheryError | None = None
    _spans: Spans = field(default_factory=Spans)

    @property
    def busy(self) -> bool:
        return self.state in BUSY

    @property
    def retriable(self) -> bool:
        return self.state == "failed" and not isinstance(self.error, RequestRefusedError)

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
    def retriable(self) -> bool:
        """Whether any answer has failed that may come when it is asked for again."""
        return any(answer.retriable for answer in self.answers)

    @property
    def hidden(self) -> bool:
        """Whether the names are not shown yet."""
        return self.blind and not self.decided

    @property
    def eligible(self) -> list[Answer]:
        """The answers that a vote is about: those that were not lost to a failure."""
        return [a for a in self.answers if a.state in ("done", "stopped")]

    @property
    def votable(self) -> bool:
        return self.asked and not self.busy and not self.decided and len(self.eligible) > 1

    def names(self) -> list[str]:
        """What stands above the panes."""
        if self.hidden:
            return [letter(place) for place in range(len(self.answers))]
        return labels([answer.candidate for answer in self.answers])

    def ask(self, candidate: Candidate) -> Request:
        """The question for one model, with the same seed for every one."""
        messages = ({"role": "user", "content": self.prompt},) if self.chat else None
        text = None if self.chat else self.prompt
        return Request(candidate.model.id, text, messages, self.sampling, logprobs=True)

    def ballot(self, winner: Answer | None, *, time: float) -> Vote:
        """The record of a vote; None says that no answer is better."""
        voted = self.eligible
        return Vote(
            prompt=self.prompt,
            models=tuple(answer.candidate.name for answer in voted),
            texts=tuple(text_hash(answer.text) for answer in voted),
            winner=winner.candidate.name if winner else None,
            sampling=settings(self.sampling),
            seed=self.sampling.seed,
            blind=self.blind,
            time=time,
            chat=self.chat,
            answers=tuple(answer.text for answer in voted),
        )

    def decide(self, winner: Answer | None) -> None:
        """The vote is recorded: names may be shown."""
        self.decided, self.winner = True, winner

    def change(self, answers: list[Answer]) -> None:
        """Other models stand here from now on, whose names are known."""
        self.answers = answers
        self.blind, self.decided, self.winner = False, False, None


def new_round(
    candidates: Sequence[Candidate],
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
    order = shuffled(candidates, random.getrandbits(32)) if blind else list(candidates)
    answers = [Answer(candidate, state="waiting") for candidate in order]
    return Round(answers, prompt, chat, seeded, blind, asked=True)


def shuffled(candidates: Sequence[Candidate], seed: int) -> list[Candidate]:
    """The candidates in an order that only the seed tells."""
    return Random(seed).sample(candidates, len(candidates))


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
    speeds compare only between answers that wrote while
    equally many others did."""

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
    """Whether these wrote while equally many others did."""
    return len({answer.concurrent for answer in done}) < 2
