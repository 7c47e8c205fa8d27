"""A set of examples, looked at: what a model reads of each, what it learns, what was left out."""

from collections.abc import Callable
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.conversations.conversation import Conversation, Preference
from pipeline.conversations.encoding import marked_parts
from pipeline.conversations.example_set import Example, ExampleMetadata, open_examples
from pipeline.inspection.rejected import Reason, read_rejected
from pipeline.sources.items import as_input
from pipeline.sources.lines import Damage
from pipeline.sources.raw import read_items
from pipeline.sources.rejection import Rejection
from pipeline.tokenizer.load import load_tokenizer
from utils.files import printable_name

_OPENING = 200  # characters of what was asked, for the line of a list


class Stretch(NamedTuple):
    """Tokens in a row that are all learned, or all only read."""

    text: str
    learned: bool
    tokens: int


class InspectedItem(NamedTuple):
    """A conversation or a pair of answers: `origin` is the rule or the shape that it came by;
    `examples` are what the model is given, by a name that is empty where there is only one."""

    number: int
    where: str
    origin: str
    turns: int
    held_out: bool
    examples: list[tuple[str, list[Stretch]]]

    @property
    def tokens(self) -> int:
        return sum(part.tokens for _, parts in self.examples for part in parts)

    @property
    def learned(self) -> int:
        return sum(part.tokens for _, parts in self.examples for part in parts if part.learned)


class Line(NamedTuple):
    """An item in a list: its tokens, whether it is held out, and how it opens."""

    tokens: int
    held_out: bool
    opening: str


class InspectedSet:
    """An open set with the tokenizer that encoded it.

    Raises:
        HatcheryError: either cannot be read, or the tokenizer is another one by now.
    """

    def __init__(self, folder: Path, tokenizers_dir: Path) -> None:
        self._set = open_examples(folder, check="sizes")
        record = self._set.metadata.tokenizer
        self._tokenizer = load_tokenizer(record.path, tokenizers_dir)
        self._set.check_tokenizer(self._tokenizer)
        self._held_out = frozenset(self._set.metadata.held_out)
        self.folder, self.fingerprint = folder, self._set.fingerprint
        self.line = lru_cache(maxsize=1000)(self._line)

    @property
    def metadata(self) -> ExampleMetadata:
        return self._set.metadata

    def item(self, number: int) -> InspectedItem:
        """Item `number`, counted from 0, cut where learning begins and ends."""
        said = self._set.texts(number)
        names = ("chosen", "not chosen") if isinstance(said, Preference) else ("",)
        turns = len(said.prompt) + 1 if isinstance(said, Preference) else len(said.turns)
        rule = said.rule if isinstance(said, Conversation) else ""
        examples = [
            (name, self._stretches(at))
            for name, at in zip(names, self._examples_of(number), strict=True)
        ]
        return InspectedItem(
            number, said.where, rule or ", ".join(self.metadata.shapes), turns,
            number in self._held_out, examples,
        )  # fmt: skip

    def _examples_of(self, number: int) -> tuple[int, ...]:
        paired = self.metadata.kind == "preferences"
        return self._set.pair(number) if paired else (number,)

    def _stretches(self, at: int) -> list[Stretch]:
        learned = self._set.learned(at)
        parts = marked_parts(self._tokenizer, Example(self._set.ids(at), learned.view(np.uint8)))
        sizes = [len(list(run)) for _, run in groupby(learned.tolist())]
        return [
            Stretch(part.text, part.learned, size) for part, size in zip(parts, sizes, strict=True)
        ]

    def _line(self, number: int) -> Line:
        said = self._set.texts(number)
        turns = said.prompt if isinstance(said, Preference) else said.turns
        asked = next((turn.content for turn in turns if turn.role == "user"), "")
        lengths = self._set.lengths
        tokens = sum(int(lengths[at]) for at in self._examples_of(number))
        return Line(tokens, number in self._held_out, " ".join(asked[:_OPENING].split()))

    def left_out(self) -> list[Reason]:
        """What is not in the set, by reason, the commonest first."""
        return read_rejected(self.folder)

    def row_of(self, left_out: Rejection, go_on: Callable[[], bool]) -> str:
        """The row that was left out, as it stands in its file; empty where it has none, is gone,
        or `go_on` said no on the way to it."""
        file, _, number = left_out.where.rpartition(":")
        path = next((Path(p) for p in self.metadata.sources if printable_name(p) == file), None)
        if path is None or not number.isdecimal() or not path.is_file():
            return ""
        for item in read_items(as_input(path, file)):
            if not go_on():
                return ""
            if not isinstance(item, Damage) and item.number == int(number):
                content = item.content
                return (
                    content.decode(errors="replace")
                    if isinstance(content, bytes)
                    else (str(content))
                )
        return ""
