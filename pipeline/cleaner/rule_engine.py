"""Rules over a text: each applied in turn, again until nothing changes, every removal counted.

Clean text costs a few substring searches. The time grows with the length of a text and no faster,
whatever stands in it, as long as no rule looks at the same place again and again. What the rules
are is in `pipeline.cleaner.rules`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import numpy as np

Removed: TypeAlias = dict[str, list[int]]
"""By rule: spans changed, characters fewer."""

Edit: TypeAlias = tuple[int, int, str]
"""Where a text is changed, [begin, end), and what is there then."""

PASSES = 8
"""After the first, until a text must be stable."""

SPANNING = frozenset({"tables", "blank_lines"})
"""Rules that look beyond a line; what they remove are whole lines."""

# Looking for thirty strings one after the other costs more than everything else. So each byte is
# mapped to the groups of triggers it may begin and those it may continue, and two neighbours with
# a group in common call for a closer look. Eight groups fit a byte; rules share them so that
# ordinary prose has few false alarms.
_FIRST, _SECOND = bytearray(256), bytearray(256)
_GROUPS = {
    **dict.fromkeys(("double_spaces", "punctuation_space", "trailing_space"), 2),
    "close_parentheses": 4,
    "leading_space": 8,
    "hyphen_space": 16,
    **dict.fromkeys(("open_parentheses", "empty_parentheses", "empty_brackets"), 32),
    **dict.fromkeys(("phonetics", "coordinates"), 64),
    "listen": 128,
    "possessive_space": 0,  # a blank is too common as a first byte
}

# No combining mark is a word character, so a run of marks is in a run of this kind.
_LONG_MARKS = re.compile(r"[^\w\x00-\u02ff](?<![^\w\x00-\u02ff]{2})[^\w\x00-\u02ff]{99,}+")


class UnstableMarkupError(ValueError):
    """Debris nested so deep that removing it layer by layer does not end."""


class RemovalObserver(dict[str, list[int]]):
    """`Removed` that also receives every change as it is made."""

    def changed(self, rule: "Rule | None", before: str) -> None:
        """`rule`, or where it is None the composition to NFC, has changed the text `before`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rule:
    """`pattern` becomes `replacement`, tried only when one of the triggers is in the text.

    A pattern that a regular expression would look for more than once in the same place is a scan
    instead: a function from a text to its edits, in order.

    `pair` is the bit of `_pairs_in` that the triggers set, 0 when they are single characters,
    which are cheap to look for. Without triggers the rule is tried on any text that holds a
    character no printer would print. Where `evidence` is given, it must say yes to the text too.
    A replacement that is a function may leave a match as it is.
    """

    name: str
    pair: int
    triggers: tuple[str, ...]
    pattern: re.Pattern[str] | str | Callable[[str], Iterator[Edit]]
    replacement: str | Callable[[re.Match[str]], str] = ""
    evidence: Callable[[str], bool] | None = None

    def applies(self, text: str) -> bool:
        """Whether the pattern could match."""
        for trigger in self.triggers:
            if trigger in text:
                return self.evidence is None or self.evidence(text)
        return False

    def apply(self, text: str, removed: Removed) -> str:
        """`text` with the rule applied; what it did is added to `removed`."""
        if isinstance(self.pattern, str):  # a plain string is replaced ten times faster
            assert isinstance(self.replacement, str)
            around = text.split(self.pattern)
            cleaned, spans = self.replacement.join(around), len(around) - 1
        elif isinstance(self.pattern, re.Pattern) and isinstance(self.replacement, str):
            cleaned, spans = self.pattern.subn(self.replacement, text)
        else:
            edits = list(self.edits(text))
            cleaned, spans = _edited(text, edits) if edits else text, len(edits)
        if not spans or cleaned == text:
            return text
        count(removed, self.name, spans, len(text) - len(cleaned))
        if isinstance(removed, RemovalObserver):
            removed.changed(self, text)
        return cleaned

    def edits(self, text: str) -> Iterator[Edit]:
        """Every span of `text` that the rule changes, in order."""
        if isinstance(self.pattern, str):
            pattern, new = re.compile(re.escape(self.pattern)), self.replacement
        elif isinstance(self.pattern, re.Pattern):
            pattern, new = self.pattern, self.replacement
        else:
            yield from self.pattern(text)
            return
        for match in pattern.finditer(text):
            became = match.expand(new) if isinstance(new, str) else new(match)
            if became != match.group():
                yield match.start(), match.end(), became


def _edited(text: str, edits: list[Edit]) -> str:
    pieces, done = [], 0
    for begin, end, became in edits:
        pieces += [text[done:begin], became]
        done = end
    return "".join([*pieces, text[done:]])


def _pairs_in(text: str) -> int:
    """The groups whose triggers may be in `text`, one bit each."""
    data = text.encode(errors="surrogatepass")
    first = np.frombuffer(data.translate(_FIRST), np.uint8)
    second = np.frombuffer(data.translate(_SECOND), np.uint8)
    return int(np.bitwise_or.reduce(first[:-1] & second[1:]))


def rule(
    name: str,
    triggers: str,
    pattern: str | Callable[[str], Iterator[Edit]],
    replacement: str | Callable[[re.Match[str]], str] = "",
    evidence: Callable[[str], bool] | None = None,
) -> Rule:
    """A rule of a regular expression or a scan, whose triggers are separated by `~`."""
    found = tuple(triggers.split("~"))
    pair = 0
    # Two line ends are in nearly every text: as a pair they would only raise false alarms.
    if name != "blank_lines" and all(len(trigger.encode()) > 1 for trigger in found):
        pair = _GROUPS.get(name, 1)
        for trigger in found:
            first, second = trigger.encode()[:2]
            _FIRST[first] |= pair
            _SECOND[second] |= pair
    compiled = re.compile(pattern) if isinstance(pattern, str) else pattern
    return Rule(name, pair, found, compiled, replacement, evidence)


def character_rule(name: str, characters: str, replacement: str = "", kept: str = "") -> Rule:
    """A rule of single characters, tried only on a text that holds one no printer would print;
    `kept` are lookarounds that must hold behind the character."""
    return Rule(name, 0, (), re.compile(f"[{re.escape(characters)}]{kept}"), replacement)


@dataclass(frozen=True)
class RuleSet:
    """Rules in the order in which they are applied.

    `by_line` says that none but those named in `SPANNING` looks beyond a line.
    """

    rules: tuple[Rule, ...]
    by_line: bool = False

    @property
    def spanning(self) -> list[Rule]:
        """The rules that look beyond a line."""
        return [rule for rule in self.rules if rule.name in SPANNING]


class NextMatch:
    """The next match of a pattern at increasing positions; the text is searched once in all."""

    def __init__(self, pattern: re.Pattern[str], text: str) -> None:
        self._pattern, self._text, self._match = pattern, text, -1

    def at(self, start: int) -> int:
        """The first match at or behind `start`, the length of the text where there is none."""
        if self._match < start:
            found = self._pattern.search(self._text, start)
            self._match = found.start() if found else len(self._text)
        return self._match


def clean(text: str, rules: RuleSet, removed: Removed) -> str:
    """`text` in NFC with `rules` applied until nothing changes, without outer blank lines.

    What was removed is added to `removed`. Clean text comes back as it is.

    Raises:
        UnstableMarkupError: it still changes after eight passes.
    """
    cleaned = one_pass(opened(text, rules), rules, removed)
    if cleaned == text:
        return text
    if not rules.by_line:
        return _settle(cleaned, rules, removed)
    # Only the lines that changed are looked at again, first all together: mostly they are clean
    # by now.
    known = set(text.split("\n"))
    lines = cleaned.split("\n")
    changed = [number for number, line in enumerate(lines) if line not in known and line]
    again = "\n\n".join([lines[number] for number in changed])
    if one_pass(f"\n{again}\n", rules, {}) != again:
        for number in changed:
            lines[number] = _settle(lines[number], rules, removed)
    joined = "\n".join(lines)
    for rule in rules.spanning:
        before = joined
        joined = rule.apply(before, removed) if rule.applies(before) else before
        if joined != before and rule is not rules.rules[-1]:
            return _settle(joined, rules, removed)
    return joined.strip("\n").rstrip()


def opened(text: str, rules: RuleSet) -> str:
    """`text` behind a line end where it begins with a blank, so that a line begins there too."""
    return f"\n{text}" if rules.by_line and text.startswith(" ") else text


def _settle(text: str, rules: RuleSet, removed: Removed) -> str:
    for _ in range(PASSES):
        before = text
        text = one_pass(f"\n{text}\n", rules, removed)  # a line begins at the very start too
        if text == before.strip("\n").rstrip():
            return text
    raise UnstableMarkupError(f"still changing after {PASSES} passes")


def one_pass(text: str, rules: RuleSet, removed: Removed) -> str:
    """`text` with each rule applied once, in order, then NFC, without outer blank lines."""
    printable = text.replace("\n", "").isprintable()
    pairs = _pairs_in(text)
    for rule in rules.rules:
        if not rule.triggers:
            if not printable:
                text = rule.apply(text, removed)
        elif (not rule.pair or pairs & rule.pair) and rule.applies(text):
            text = rule.apply(text, removed)
    if not unicodedata.is_normalized("NFC", text):
        composed = nfc(text)
        count(removed, "nfc", 1, len(text) - len(composed))
        if isinstance(removed, RemovalObserver):
            removed.changed(None, text)
        text = composed
    return text.strip("\n").rstrip()


def nfc(text: str) -> str:
    """`text` in NFC. `unicodedata` sorts the marks on a letter by insertion, which takes hours for
    a megabyte of them; so long runs come to it sorted."""
    return unicodedata.normalize("NFC", _LONG_MARKS.sub(_sorted_marks, text))


def _sorted_marks(match: re.Match[str]) -> str:
    """A run of marks decomposed and in canonical order (Unicode 16.0, section 3.11)."""
    decomposed = "".join([unicodedata.normalize("NFD", mark) for mark in match.group()])
    groups = groupby(decomposed, key=lambda mark: unicodedata.combining(mark) > 0)
    return "".join(
        ["".join(sorted(run, key=unicodedata.combining) if marks else run) for marks, run in groups]
    )


def count(removed: Removed, rule: str, spans: int = 1, characters: int = 0) -> None:
    """Note that `rule` changed `spans` places and took away `characters`."""
    entry = removed.setdefault(rule, [0, 0])
    entry[0] += spans
    entry[1] += characters
