"""Conversations as trees of turns, and the answer that is being streamed. Knows no widgets.

A turn never changes. Editing a message or asking again adds a sibling, and the path from the root
to `leaf` is what is shown and sent.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from app.client.client import Piece, Request, Sampling
from app.tui.widgets.token_colours import Span, Spans

Mode: TypeAlias = Literal["complete", "chat"]
Role: TypeAlias = Literal["user", "assistant"]
STOPPED, FAILED = "stopped", "failed"
"""Why an answer ended where the server did not say."""
WITHDRAWN = "withdrawn"
"""The end of a question that the server refused: its turn is none."""

_TITLE = 60  # characters


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
        self.name = ""  # given by the user
        self.leaf: int | None = None
        for turn in turns:
            self.add(turn)

    def add(self, turn: Turn) -> None:
        """A new turn, which the path then ends with; one whose parent is lost begins anew, and a
        withdrawn one takes away the turn of its number."""
        if turn.finish == WITHDRAWN:
            if turn.id in self.turns:
                self.drop(self.turns[turn.id])
            return
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
        """What the user named it, else the beginning of what was first asked."""
        if self.name:
            return self.name
        text = next((t.text for t in self.turns.values() if t.role == "user"), "")
        words = " ".join(text.split())
        return words[:_TITLE] or ("a new document" if self.turns else "")

    def siblings(self, turn: Turn) -> list[Turn]:
        """What was tried in the same place, `turn` among it, oldest first."""
        return [t for t in self.turns.values() if (t.parent, t.role) == (turn.parent, turn.role)]

    def switch(self, turn: Turn, by: int) -> None:
        """Show the alternative `by` places further, with the newest of what followed it."""
        siblings = self.siblings(turn)
        at = siblings[(siblings.index(turn) + by) % len(siblings)].id
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
        siblings = self.siblings(last)
        choice = last
        if len(siblings) == 1:
            choice, siblings = group[0], self.siblings(group[0])
        return Block(
            group[0],
            last,
            "".join(t.text for t in group),
            given,
            last.spans,
            siblings.index(choice) + 1,
            len(siblings),
        )

    def choice_of(self, block: Block) -> Turn:
        """The turn of a block that has alternatives."""
        return block.turn if len(self.siblings(block.turn)) > 1 else block.first


def request_for(path: Sequence[Turn], model: str, sampling: Sampling) -> Request:
    """What to send so that a model goes on after the last turn of `path`."""
    if path[-1].mode == "complete":
        begin = max((n for n, turn in enumerate(path) if turn.role == "user"), default=0)
        prompt = "".join(turn.text for turn in path[begin:])
        return Request(model, prompt=prompt, sampling=sampling, logprobs=True)
    begin = max((n + 1 for n, turn in enumerate(path) if turn.mode == "complete"), default=0)
    messages = tuple({"role": turn.role, "content": turn.text} for turn in path[begin:])
    return Request(model, messages=messages, sampling=sampling, logprobs=True)


class StreamedAnswer:
    """What a model has written of turn `turn` so far, and what of it is not shown yet."""

    def __init__(self, turn: int, parent: int, mode: Mode, request: Request) -> None:
        self.request = request
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
            self.request.model,
            self.finish or finish,
            self.figures or {"new_tokens": float(self.tokens)},
            asdict(self.request.sampling) | {"stop": list(self.request.sampling.stop)},
            tuple(self._spans) if known else (),
        )
