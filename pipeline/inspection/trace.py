"""Which rule of cleaning changed which characters of a raw text.

The real rules run; beside them every character still there remembers where in the raw text it
came from, so that a change made in a late pass is found again in the text as it was read.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.cleaner.rule_engine import (
    PASSES,
    Edit,
    RemovalObserver,
    Rule,
    RuleSet,
    nfc,
    one_pass,
    opened,
)

Offsets = npt.NDArray[np.int64]

_EXCERPT = 60  # characters
_GAP = re.compile(r"([ \n])")  # nothing composes across one


class Mark(NamedTuple):
    """Characters [start, end) of the raw text that `rule` replaced by `became`."""

    start: int
    end: int
    rule: str
    became: str = ""


class Use(NamedTuple):
    """What a rule did in one text: places, characters fewer, and the first of them."""

    rule: str
    places: int
    characters: int
    excerpt: str


class Trace(NamedTuple):
    """A raw text, what became of it, and how; `origin` (len(text),) is where in the raw text each
    character of the clean one came from."""

    raw: str
    text: str
    marks: list[Mark]
    origin: Offsets


def traced(raw: str, rules: RuleSet) -> Trace:
    """What `rule_engine.clean` does to `raw`, span by span."""
    record = _Recorder(raw)
    if opened(raw, rules) != raw:
        record.wrap()
        text = one_pass(f"\n{raw}\n", rules, record)
    else:
        text = one_pass(raw, rules, record)
    record.trim(text)
    for _ in range(PASSES):
        before = text
        if text == raw:
            break
        record.wrap()
        text = one_pass(f"\n{text}\n", rules, record)
        record.trim(text)
        if text == before:
            break
    return Trace(raw, text, sorted(record.marks), record.start)


def uses(raw: str, marks: Iterable[Mark]) -> list[Use]:
    """What each rule did, the one that took most away first."""
    found: dict[str, Use] = {}
    for mark in marks:
        size = mark.end - mark.start - len(mark.became)
        excerpt = raw[mark.start : min(mark.end, mark.start + _EXCERPT)]
        if mark.became:
            excerpt += f" → {mark.became[:_EXCERPT]}"
        use = found.get(mark.rule, Use(mark.rule, 0, 0, excerpt))
        found[mark.rule] = use._replace(places=use.places + 1, characters=use.characters + size)
    return sorted(found.values(), key=lambda use: (-use.characters, use.rule))


class _Recorder(RemovalObserver):
    """Follows one text through the rules: `start` and `end` say for each of its characters which
    raw ones it stands for."""

    def __init__(self, raw: str) -> None:
        super().__init__()
        self.marks: list[Mark] = []
        self._text = raw
        self.start = np.arange(len(raw), dtype=np.int64)
        self.end = self.start + 1

    def changed(self, rule: Rule | None, before: str) -> None:
        name = "nfc" if rule is None else rule.name
        edits = _composed(before) if rule is None else rule.edits(before)
        pieces = [p for edit in edits for p in _reduced(before, *edit)]
        texts: list[str] = []
        starts: list[Offsets] = []
        ends: list[Offsets] = []
        done = 0
        for begin, end, became in pieces:
            low, high = self._raw(begin, end)
            if low < high or became:
                self.marks.append(Mark(low, high, name, became))
            texts += [before[done:begin], became]
            starts += [self.start[done:begin], np.full(len(became), low)]
            ends += [self.end[done:begin], np.full(len(became), high)]
            done = end
        self._text = "".join([*texts, before[done:]])
        self.start = np.concatenate([*starts, self.start[done:]])
        self.end = np.concatenate([*ends, self.end[done:]])

    def _raw(self, begin: int, end: int) -> tuple[int, int]:
        """The raw characters that [begin, end) of the text stands for."""
        if begin == end:
            place = int(self.start[begin]) if begin < len(self.start) else self._last()
            return place, place
        return int(self.start[begin:end].min()), int(self.end[begin:end].max())

    def _last(self) -> int:
        return int(self.end[-1]) if len(self.end) else 0

    def wrap(self) -> None:
        """Put a line end around the text, as a second pass does."""
        last = self._last()
        first = int(self.start[0]) if len(self.start) else 0
        self._text = f"\n{self._text}\n"
        self.start = np.concatenate(([first], self.start, [last]))
        self.end = np.concatenate(([first], self.end, [last]))

    def trim(self, text: str) -> None:
        """Drop the blank characters outside `text`, which is what a pass ended with."""
        begin = len(self._text) - len(self._text.lstrip("\n")) if text else 0
        end = begin + len(text)
        for low, high in ((0, begin), (end, len(self._text))):
            if low < high:
                place = self._raw(low, high)
                if place[0] < place[1]:
                    self.marks.append(Mark(*place, "outer_blank"))
        self._text = text
        self.start, self.end = self.start[begin:end], self.end[begin:end]


def _composed(text: str) -> Iterator[Edit]:
    """Each word of `text` that composition to NFC changes."""
    at = 0
    for word in _GAP.split(text):
        composed = nfc(word)
        if composed != word:
            yield at, at + len(word), composed
        at += len(word)


def _reduced(text: str, begin: int, end: int, became: str) -> Iterator[Edit]:
    """The parts of a change that are one: what is alike before, behind or amid it is left out."""
    old = text[begin:end]
    most = min(len(old), len(became))
    prefix = next((i for i in range(most) if old[i] != became[i]), most)
    most -= prefix
    suffix = next((i for i in range(most) if old[-1 - i] != became[-1 - i]), most)
    begin, end = begin + prefix, end - suffix
    became = became[prefix : len(became) - suffix]
    kept = text.find(became, begin, end) if became else -1
    if kept >= 0:  # a link that leaves its label
        behind = kept + len(became)
        yield from ((a, b, "") for a, b in ((begin, kept), (behind, end)) if a < b)
    elif begin < end or became:
        yield begin, end, became
