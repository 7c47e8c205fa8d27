"""Conversations as trees: what was asked, what was answered, and what was tried instead. Knows no
widgets.

A turn never changes. Editing a message or asking again adds a sibling beside it, and the path from
the root to `leaf` is what is shown and sent.
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from app.client.client import Ask, Model, Piece, Sampling
from app.tui.widgets.token_colours import Span, Spans

Mode: TypeAlias = Literal["complete", "chat"]
Role: TypeAlias = Literal["user", "assistant"]
STOPPED, FAILED = "stopped", "failed"

_TITLE = 60  # characters
_ENDS = {
    "stop": "the model ended it",
    "length": "full length",
    STOPPED: "stopped",
    FAILED: "broken off",
}


class Turn(msgspec.Struct, frozen=True):
    """A message, a prompt, or an answer. `time` is seconds since 1970; `spans` are the lengths of
    the answer's tokens in characters with their log-probabilities in nats, None where unknown."""

    id: int
    parent: int | None
    role: Role
    text: str
    mode: Mode
    time: float = 0.0
    model: str = ""
    finish: str = ""
    figures: dict[str, float] = {}
    sampling: dict[str, Any] = {}
    spans: tuple[tuple[int, float | None], ...] = ()


@dataclass(frozen=True)
class Block:
    """What the screen shows as one: a message, or a document that a model goes on writing.

    The first `given` characters are what the model went on from. `first` and `turn` are the first
    and the last turn in it; `variant` counts from 1 among `variants` alternatives.
    """

    first: Turn
    turn: Turn
    text: str
    given: int
    spans: tuple[tuple[int, float | None], ...]
    variant: int = 1
    variants: int = 1


class Conversation:
    """All turns, and the one that the shown path ends with."""

    def __init__(self, turns: Iterable[Turn] = ()) -> None:
        self.turns: dict[int, Turn] = {}
        self.leaf: int | None = None
        for turn in turns:
            self.add(turn)

    def add(self, turn: Turn) -> None:
        """A new turn, which the path then ends with; one whose parent is lost begins anew."""
        if turn.parent is not None and turn.parent not in self.turns:
            turn = msgspec.structs.replace(turn, parent=None)
        self.turns[turn.id] = turn
        self.leaf = turn.id

    @property
    def next_id(self) -> int:
        """A number that no turn has."""
        return max(self.turns, default=0) + 1

    @property
    def path(self) -> list[Turn]:
        """The turns that are shown, oldest first."""
        found: list[Turn] = []
        at = self.leaf
        while at is not None:
            found.append(self.turns[at])
            at = self.turns[at].parent
        return found[::-1]

    @property
    def title(self) -> str:
        """The beginning of what was first asked."""
        text = next((t.text for t in self.turns.values() if t.role == "user"), "")
        words = " ".join(text.split())
        return words[:_TITLE] or ("a new document" if self.turns else "")

    def siblings(self, turn: Turn) -> list[Turn]:
        """What was tried in the same place, `turn` among it, oldest first."""
        return [t for t in self.turns.values() if (t.parent, t.role) == (turn.parent, turn.role)]

    def switch(self, turn: Turn, by: int) -> None:
        """Show the alternative `by` places further, with the newest of what followed it."""
        beside = self.siblings(turn)
        at = beside[(beside.index(turn) + by) % len(beside)].id
        while below := [t.id for t in self.turns.values() if t.parent == at]:
            at = below[-1]
        self.leaf = at

    def replace(self, turn: Turn) -> None:
        """The whole of a turn that was there in part."""
        self.turns[turn.id] = turn

    def drop(self, turn: Turn) -> None:
        """Forget a turn that nothing follows."""
        del self.turns[turn.id]
        if self.leaf == turn.id:
            self.leaf = turn.parent

    @property
    def blocks(self) -> list[Block]:
        """The path as it is shown."""
        groups: list[list[Turn]] = []
        for turn in self.path:
            flows = turn.mode == "complete" and turn.role == "assistant" and groups
            if flows and groups[-1][-1].mode == "complete":
                groups[-1].append(turn)
            else:
                groups.append([turn])
        return [self._block(group) for group in groups]

    def _block(self, group: Sequence[Turn]) -> Block:
        last = group[-1]
        own = last.role == "user"
        given = sum(len(t.text) for t in (group if own else group[:-1]))
        beside = self.siblings(last)
        choice = last
        if len(beside) == 1:
            choice, beside = group[0], self.siblings(group[0])
        return Block(
            group[0],
            last,
            "".join(t.text for t in group),
            given,
            last.spans,
            beside.index(choice) + 1,
            len(beside),
        )

    def choice_of(self, block: Block) -> Turn:
        """The turn of a block that has alternatives."""
        return block.turn if len(self.siblings(block.turn)) > 1 else block.first


def ask(path: Sequence[Turn], model: str, sampling: Sampling) -> Ask:
    """What to send so that a model goes on after the last turn of `path`."""
    if path[-1].mode == "complete":
        begin = max((n for n, turn in enumerate(path) if turn.role == "user"), default=0)
        prompt = "".join(turn.text for turn in path[begin:])
        return Ask(model, prompt=prompt, sampling=sampling, logprobs=True)
    begin = max((n + 1 for n, turn in enumerate(path) if turn.mode == "complete"), default=0)
    messages = tuple({"role": turn.role, "content": turn.text} for turn in path[begin:])
    return Ask(model, messages=messages, sampling=sampling, logprobs=True)


def figures_line(turn: Turn) -> str:
    """'83 tokens/s · first 41 ms · 62 tokens · full length · seed 7'."""
    facts, parts = turn.figures, []
    if speed := facts.get("tokens_per_second"):
        parts.append(f"{speed:,.0f} tokens/s" if speed >= 10 else f"{speed:.1f} tokens/s")
    if "first_token_ms" in facts and facts.get("new_tokens"):
        parts.append(f"first {facts['first_token_ms']:,.0f} ms")
    if "new_tokens" in facts:
        count = int(facts["new_tokens"])
        parts.append(f"{count:,} token{'' if count == 1 else 's'}")
    if turn.finish:
        parts.append(_ENDS.get(turn.finish, turn.finish))
    if turn.sampling.get("seed") is not None and turn.sampling.get("temperature"):
        parts.append(f"seed {turn.sampling['seed']}")
    return " · ".join(parts)


def sampling_line(sampling: Sampling) -> str:
    """The settings that matter, in one line."""
    parts = [f"temperature {sampling.temperature:g}"]
    if sampling.temperature:
        parts += [f"top-k {sampling.top_k}"] if sampling.top_k else []
        parts += [f"top-p {sampling.top_p:g}"] if sampling.top_p < 1 else []
        parts += [f"min-p {sampling.min_p:g}"] if sampling.min_p else []
        parts += [f"seed {sampling.seed}"] if sampling.seed is not None else []
    if sampling.repetition_penalty != 1:
        parts.append(f"penalty {sampling.repetition_penalty:g}")
    return " · ".join([*parts, f"{sampling.max_tokens:,} tokens"])


def as_markdown(conversation: Conversation, date: str) -> str:
    """The shown path as a document that any editor opens; texts are quoted as they are."""
    lines = [f"# {conversation.title or 'Conversation'}", "", date, ""]
    for turn in conversation.path:
        who = ("Prompt" if turn.mode == "complete" else "You") if turn.role == "user" else "Answer"
        lines += [f"## {who}{f' of {turn.model}' if turn.model else ''}", ""]
        fence = "`" * max(3, _longest_fence(turn.text) + 1)
        lines += [f"{fence}text", turn.text, fence, ""]
        if line := figures_line(turn):
            lines += [line, ""]
    return "\n".join(lines)


def _longest_fence(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


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
