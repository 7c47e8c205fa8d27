"""What a task is: how a row of its data becomes an item, and what an item's likelihoods are worth.

Four kinds are here. A task derives from one of them in a file of its own and says how its rows are
read; `pipeline.evaluation.tasks` lists them.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pipeline.evaluation import metrics
from pipeline.evaluation.metrics import CorpusMetric, Metric, Ratio

if TYPE_CHECKING:  # torch, which the app's lists of tasks need not load
    from model.generation.batch_scoring import Likelihood, ScoredText
    from pipeline.evaluation.encoding import TextEncoder

Row: TypeAlias = Mapping[str, Any]
Ratios: TypeAlias = dict[str, Ratio]

_WHOLE = re.compile(r"-?[0-9]{1,9}")
_LONGEST_SHOWN = 40  # characters of a value in a refusal
Kind: TypeAlias = Literal["documents", "items", "completions"]


class RowError(ValueError):
    """A row that is none of the task's; says what is wrong with it."""


@dataclass(frozen=True)
class HubSet:
    """A data set of the Hugging Face hub: the evaluated `split`, at a pinned `revision` where one
    is known. The `config` "*" means all of them."""

    repository: str
    config: str | None
    split: str
    revision: str | None = None


@dataclass(frozen=True)
class Item:
    """One question. `requests` are pairs of a context and a continuation to score, `gold` the index
    of the right one where there are several, `answers` their texts by whose length likelihoods are
    normalised. `group` is the part of the task that it belongs to, `text` a document as published
    and `name` what that document is called, which tells it from no other.
    """

    requests: tuple[tuple[str, str], ...]
    gold: int = 0
    answers: tuple[str, ...] = ()
    group: str = ""
    text: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """Tells items apart by all that they hold: 16 hexadecimal digits."""
        parts = [*(part for pair in self.requests for part in pair), *self.answers, self.text]
        joined = "\0".join([str(self.gold), self.group, *parts])
        return hashlib.sha256(joined.encode(errors="surrogatepass")).hexdigest()[:16]


class Task(ABC):
    """A set of items and how they are scored.

    `about` says in a sentence what it asks, `join` how context and continuation are put together.
    `files` are names of local files that hold it, `hub` where it is published, `embedded` the set
    of our own that it asks; `of_own_text` says that it asks what the user names. `chance` is what
    guessing gets of the first metric, the main one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    join: ClassVar[str]
    kind: ClassVar[Kind] = "items"
    files: ClassVar[tuple[str, ...]] = ()
    hub: ClassVar[HubSet | None] = None
    embedded: ClassVar[str | None] = None
    of_own_text: ClassVar[bool] = False
    chance: ClassVar[float | None] = None
    metrics: ClassVar[tuple[Metric, ...]]
    ranks: ClassVar[bool] = False

    def gathered(self, rows: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
        """Rows with their places, put together where an item takes several."""
        return rows

    @abstractmethod
    def item(self, row: Row) -> Item:
        """The item of a row.

        Raises:
            RowError: a field is missing, or its value is none that the task can have.
        """

    def texts(self, item: Item, encoder: "TextEncoder") -> "list[ScoredText]":
        """What has to be scored for an item.

        Raises:
            ValueError: it cannot be scored; says why.
        """
        return [encoder.continuation(*request) for request in item.requests]

    @property
    def corpus_metrics(self) -> tuple[CorpusMetric, ...]:
        """Numbers of the whole set that are no ratios of sums."""
        return ()

    @property
    def recipe(self) -> dict[str, str]:
        """What else decides the metrics: programs and their settings."""
        return {}

    @abstractmethod
    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        """What an item adds to every metric, by the likelihoods of its texts."""


class ChoiceTask(Task):
    """One of several continuations is right: the likeliest is taken to be the model's answer.

    Accuracies take the sum of the log-likelihoods as it is, by the characters of the answer without
    the blank before it, and by its UTF-8 bytes; equal likelihoods share the point.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.ACC,
        metrics.ACC_NORM,
        metrics.ACC_BYTES,
        metrics.GOLD_BITS,
    )
    join = "context, a blank, the answer"

    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        sums = [likelihood.logprob for likelihood in found]
        characters = [len(answer) for answer in item.answers]
        sizes = [len(answer.encode(errors="surrogatepass")) for answer in item.answers]
        return {
            "acc": Ratio(_share(sums, item.gold)),
            "acc_norm": Ratio(_share(_each(sums, characters), item.gold)),
            "acc_bytes": Ratio(_share(_each(sums, sizes), item.gold)),
            "gold_bits_per_byte": Ratio(sums[item.gold], sizes[item.gold]),
        }

    @staticmethod
    def asked(context: str, answers: Sequence[str], gold: int, group: str = "") -> Item:
        """An item that asks which of `answers` goes on with `context`.

        Raises:
            RowError: fewer than two answers, an empty one, or a gold that is none of them.
        """
        if len(answers) < 2 or not all(answers):
            raise RowError("fewer than two answers, or an empty one")
        check_gold(gold, len(answers))
        requests = tuple((context, f" {answer}") for answer in answers)
        return Item(requests, gold, tuple(answers), group)


class PairTask(Task):
    """Two whole texts of which one is acceptable: the likelier one is taken to be."""

    metrics = (metrics.ACC,)
    chance = 0.5
    join = "the sentence alone, behind BOS or else EOS"

    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        return {"acc": Ratio(_share([one.logprob for one in found], item.gold))}


class LastWordTask(Task):
    """The last word of a passage: right where each of its tokens is the likeliest."""

    metrics = (metrics.ACC, metrics.PERPLEXITY)
    chance = 0.0
    join = "context, a blank, the word"

    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        [likelihood] = found
        return {
            "acc": Ratio(float(likelihood.greedy)),
            "perplexity": Ratio(likelihood.logprob),
        }


class DocumentTask(Task):
    """Whole documents, read in windows: how well each next token is foretold.

    Words and bytes are those of the document as published, words what white space separates, empty
    ones at its ends included, as lm-evaluation-harness counts them.
    """

    kind = "documents"
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.BITS_PER_BYTE,
        metrics.WORD_PERPLEXITY,
        metrics.BYTE_PERPLEXITY,
        metrics.TOKEN_PERPLEXITY,
    )
    join = "whole documents behind BOS or else EOS, in windows that do not overlap"

    def texts(self, item: Item, encoder: "TextEncoder") -> "list[ScoredText]":
        windows = encoder.windows(item.requests[0][1])
        if not windows:
            raise ValueError("there is nothing to score: the text has too few tokens")
        return windows

    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        total = sum(likelihood.logprob for likelihood in found)
        words = len(re.split(r"\s+", item.text))
        size = len(item.text.encode(errors="surrogatepass"))
        return {
            "bits_per_byte": Ratio(total, size),
            "word_perplexity": Ratio(total, words),
            "byte_perplexity": Ratio(total, size),
            "token_perplexity": Ratio(total, sum(likelihood.tokens for likelihood in found)),
        }

    @staticmethod
    def document(text: str, published: str | None = None) -> Item:
        """An item that scores `text`, `published` being how it was before it was made readable."""
        return Item((("", text),), text=text if published is None else published)


class NextTokenTask(DocumentTask):
    """Whole documents: how often the next token is among the likeliest."""

    metrics = (metrics.TOP_1, metrics.TOP_5, metrics.TOP_10)
    ranks = True

    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        ranks = [rank for likelihood in found for rank in likelihood.ranks]
        return {
            f"top_{most}": Ratio(sum(rank < most for rank in ranks), len(ranks))
            for most in (1, 5, 10)
        }


@dataclass(frozen=True)
class Fields:
    """A row's fields, checked as they are taken."""

    row: Row

    def text(self, name: str) -> str:
        """A text that is not empty.

        Raises:
            RowError: there is none.
        """
        value = self._value(name)
        if not isinstance(value, str):
            raise RowError(f"{name} is {_shown(value)}, not a text")
        if not value.strip():
            raise RowError(f"{name} is empty")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts.

        Raises:
            RowError: there is none.
        """
        value = self._value(name)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise RowError(f"{name} is {_shown(value)}, not a list of texts")
        return list(value)

    def question(self) -> tuple[str, list[str], int]:
        """Query, answers and the right one of a row with `query`, `choices` and `gold`.

        Raises:
            RowError: it is none.
        """
        answers = self.texts("choices")
        return self.text("query"), answers, self.index("gold", len(answers))

    def index(self, name: str, of: int) -> int:
        """A whole number from 0 to `of` - 1, also where it was written as a text.

        Raises:
            RowError: it is another one, or none.
        """
        value = self._value(name)
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise RowError(f"{name} is {_shown(value)}, not a whole number")
        check_gold(value, of)
        return value

    def _value(self, name: str) -> Any:
        if self.row.get(name) is None:
            raise RowError(f"there is no {name}, only {', '.join(map(str, self.row)) or 'nothing'}")
        return self.row[name]


def check_gold(gold: int, count: int) -> None:
    """Refuse the index of an answer that there is not.

    Raises:
        RowError: it is none of 0 ... count - 1.
    """
    if not 0 <= gold < count:
        raise RowError(f"the right answer is number {gold}, of 0 to {count - 1}")


def _shown(value: Any) -> str:
    """A value as a refusal names it."""
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


def _each(sums: Sequence[float], lengths: Sequence[int]) -> list[float]:
    return [total / length for total, length in zip(sums, lengths, strict=True)]


def _share(scores: Sequence[float], gold: int) -> float:
    """1 where gold alone is best, a part of it where others are as good, else 0."""
    best = max(scores)
    return 1 / scores.count(best) if scores[gold] == best else 0.0
