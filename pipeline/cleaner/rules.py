"""The rules that clean a text: small, named, in a fixed order, every removal counted.

A rule is a pattern, what replaces it, and the cheap literal triggers without which it cannot
match, so that clean text costs a few substring searches. Three ordered sets: CODE leaves all that
could mean something to a program, PLAIN adds what is safe in any prose, and WIKI removes the
debris that rendering an encyclopedia leaves. No quantifier is open, so no text makes them slow.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Removed: TypeAlias = dict[str, list[int]]
"""By rule: spans changed, characters fewer."""

VERSION = 1
"""Raise it when a rule changes what it does: clean documents are then stale."""

PASSES = 8


class Watched(dict[str, list[int]]):
    """`Removed` of someone who is to hear of every change while it happens."""

    def changed(self, rule: "Rule | None", before: str) -> None:
        """`rule`, or where it is None the composition to NFC, has changed the text `before`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rule:
    """`pattern` becomes `replacement`, tried only when one of the triggers is in the text.

    `pair` is the bit of `_pairs_in` that the triggers set, 0 when they are single characters,
    which are cheap to look for. Without triggers the rule is tried on any text that holds a
    character no printer would print.
    """

    name: str
    pair: int
    triggers: tuple[str, ...]
    pattern: re.Pattern[str] | str
    replacement: str | Callable[[re.Match[str]], str] = ""

    def applies(self, text: str) -> bool:
        """Whether the pattern could match."""
        for trigger in self.triggers:  # noqa: SIM110 (any() costs three times as much)
            if trigger in text:
                return True
        return False

    def apply(self, text: str, removed: Removed) -> str:
        """`text` with the rule applied; what it did is added to `removed`."""
        if isinstance(self.pattern, str):  # a plain string is replaced ten times faster
            assert isinstance(self.replacement, str)
            around = text.split(self.pattern)
            cleaned, spans = self.replacement.join(around), len(around) - 1
        else:
            cleaned, spans = self.pattern.subn(self.replacement, text)
        if not spans or cleaned == text:
            return text
        count(removed, self.name, spans, len(text) - len(cleaned))
        if isinstance(removed, Watched):
            removed.changed(self, text)
        return cleaned


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
    **dict.fromkeys(("empty_parentheses", "empty_brackets"), 32),
    **dict.fromkeys(("phonetics", "coordinates"), 64),
    "listen": 128,
}


def _pairs_in(text: str) -> int:
    """The groups whose triggers may be in `text`, one bit each."""
    data = text.encode(errors="surrogatepass")
    first = np.frombuffer(data.translate(_FIRST), np.uint8)
    second = np.frombuffer(data.translate(_SECOND), np.uint8)
    return int(np.bitwise_or.reduce(first[:-1] & second[1:]))


def _rule(
    name: str,
    triggers: str,
    pattern: str,
    replacement: str | Callable[[re.Match[str]], str] = "",
) -> Rule:
    """A rule whose triggers are separated by `~`."""
    found = tuple(triggers.split("~"))
    pair = 0
    if name != "blank_lines" and all(len(trigger.encode()) > 1 for trigger in found):
        pair = _GROUPS.get(name, 1)
        for trigger in found:
            first, second = trigger.encode()[:2]
            _FIRST[first] |= pair
            _SECOND[second] |= pair
    return Rule(name, pair, found, re.compile(pattern), replacement)


def _chars(name: str, characters: str, replacement: str = "") -> Rule:
    return Rule(name, 0, (), re.compile(f"[{re.escape(characters)}]"), replacement)


_C0 = "".join(map(chr, [*range(9), *range(0x0E, 0x20), 0x7F]))
_C1 = "".join(map(chr, [*range(0x80, 0x85), *range(0x86, 0xA0)]))
# Zero-width joiners (200C, 200D) stay: they spell Persian, Indic scripts and emoji.
_INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063"
    "\u2064\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f"

_LINE_ENDS = Rule("line_ends", 0, (), re.compile(r"\r\n?"), "\n")
_BREAKS = _chars("line_breaks", "\x0b\x0c\x85\u2028\u2029", "\n")
_TRAILING = _rule("trailing_space", " \n~\t\n", r"[ \t]{1,1000}(?=\n)")
_BLANK_LINES = _rule("blank_lines", "\n\n\n", r"\n\n\n+", "\n\n")

_TAGS = (
    "abbr|b|big|blockquote|br|center|cite|code|dd|del|div|dl|dt|em|font|gallery|h[1-6]|hr|i|ins|"
    "includeonly|kbd|li|math|nobr|noinclude|nowiki|ol|onlyinclude|p|poem|pre|q|ref|references|s|"
    "samp|section|small|source|span|strike|strong|sub|sup|syntaxhighlight|table|tbody|td|th|tr|tt|"
    "u|ul|var|wbr"
)
_MARKS = (
    r"\d{1,3}|(?:note|nb|N|n|Note|fn|upper-alpha|lower-alpha|Fn) ?\d{1,3}|"
    r"(?:citation|clarification|page|verification|quantify|year|dates?|attribution|full citation|"
    r"better source|additional citation\(s\)|non-primary source|original research|importance)"
    r"(?: \(s\))? ?(?:needed|missing)[^\]\n]{0,30}|who\?|when\?|where\?|which\?|why\?|how\?|"
    r"by whom\?|according to whom\?|(?:original )?research\?|dubious[^\]\n]{0,20}|vague|specify|"
    r"failed verification|unreliable source\?|dead link|permanent dead link|"
    r"neutrality is disputed|not in citation given|clarify|edit|update\]? ?"
)
# Letters that occur in phonetic transcriptions and hardly elsewhere in slashes or brackets.
_PHONETIC = "ˈːəɪʊɔɛɑʁʃʒŋ"
_SAID = (
    rf"/[^/\n]{{0,60}}[{_PHONETIC}][^/\n]{{0,60}}/"
    rf"|\[[^\[\]\n]{{0,60}}[{_PHONETIC}][^\[\]\n]{{0,60}}\]"
)
# A transcription with the language named before it and the respelling after it.
_SPOKEN = re.compile(
    rf"(?:\b[A-Z][\w.]{{0,14}}(?: [A-Z][\w.]{{0,14}}){{0,2}}: ?)?(?:{_SAID})"
    r"(?: [A-Z]{2,12}(?: ?-[A-Za-z]{1,12}){0,6}(?!\w))?"
)
_DEGREES = (
    r"\d{1,3}(?:\.\d{1,8})?°(?: ?\d{1,2}(?:\.\d{1,6})?[′'])?(?: ?\d{1,2}(?:\.\d{1,6})?[″\"])? ?"
)
_PAIR = rf"{_DEGREES}[NS],? {_DEGREES}[EW]"
_OPENERS = (
    "The|This|These|That|It|Its|In|He|She|They|His|Her|As|At|On|After|During|While|For|From|When|"
    "By|However|Although|According"
)


def _without_speech(match: re.Match[str]) -> str:
    return _SPOKEN.sub("", match.group())


def _entity(match: re.Match[str]) -> str:
    return html.unescape(match.group())


WIKI_RULES = (
    _rule("comments", "<", r"<!--[^>\n]{0,5000}-->"),
    _rule(
        "references", "<ref", r"<ref\b[^<>\n]{0,500}/>|<ref\b[^<>\n]{0,500}>[^<\n]{0,5000}</ref>"
    ),
    _rule("tags", "<", rf"(?i)</?(?:{_TAGS})(?:\s[^<>\n]{{0,500}})?/?>"),
    _rule("templates", "{{", r"\{\{[^{}\n]{0,5000}\}\}"),
    _rule("media_links", "[[", r"\[\[(?:File|Image|Category|Media):[^\[\]\n]{0,1000}\]\]"),
    _rule("links", "[[", r"\[\[(?:[^\[\]|\n]{0,300}\|)?([^\[\]|\n]{0,500})\]\]", r"\1"),
    _rule("web_links", "[", r"\[https?://[^\s\]]{1,1000} ?([^\]\n]{0,500})\]", r"\1"),
    _rule("tables", "|", r"(?m)^(?:\{\||\|[-}+]|\|\|?|!)(?=[ \w|\-\n]|$)[^\n]{0,2000}$"),
    _rule("magic_words", "__", r"__[A-Z]{3,24}__"),
    _rule(
        "emphasis",
        "''",
        r"'{3,5}|(?<!')''(?!')([^'\n]{1,300})(?<!')''(?!')",
        r"\1",
    ),
    _rule("entities", "&", r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8}\d{0,2});", _entity),
    _rule(
        "citations",
        "[",
        rf" ?\[(?:{_MARKS})\]"
        r"|\[(?<=[.,;:!?\"”’)%]\[)[a-z]{1,2}\](?!\w)|\[(?<=\w\[)[a-h]\](?!\w)",
    ),
    _rule("listen", "(listen)~(help~ⓘ", r" ?\((?:listen|help·info)\)| ?ⓘ"),
    _rule(
        "phonetics",
        "~".join(_PHONETIC),
        rf"\((?=[^()\n]{{0,400}}[{_PHONETIC}])[^()\n]{{1,400}}\)",
        _without_speech,
    ),
    _rule(
        "coordinates",
        "°",
        rf" ?\((?:coordinates:? ?)?{_PAIR}\)|Coordinates:? ?{_PAIR}(?: ?/ ?[^\n]{{0,80}})?",
    ),
    _rule("open_parentheses", "(", r"\([ ;,:]{1,20}(?=[^ ;,:\n])", "("),
    _rule("close_parentheses", " )~;)~,)", r"[ ;,]{1,20}\)", ")"),
    _rule("empty_parentheses", "()", r" ?\(\)"),
    _rule("empty_brackets", "[]", r" ?\[\]"),
    _rule("double_spaces", "  ", r"  (?<=[^\n ]  ) *", " "),
    _rule("leading_space", "\n ", r"(?m)^ {1,1000}(?!-|\s)"),
    _rule("punctuation_space", " ,~ .", r" {1,9}([,.])(?=\s|$)", r"\1"),
    Rule("possessive_space", 0, (" 's ",), " 's ", "'s "),
    _rule(
        "spaced_quotes",
        '"',
        r'" (?<![^\s(\[]" )([^"\n]{1,150})(?<= )"(?![^\s,.;:!?)\]])',
        lambda match: f'"{match[1][:-1]}"',
    ),
    _rule(
        "quote_space",
        '"',
        r'"(?<=[\s(\[]")(?=\S)([^"\n]{1,150})(?<= )"(?=[\s,.;:!?)\]])',
        lambda match: f'"{match[1][:-1]}"',
    ),
    _rule("hyphen_space", " -", r" -(?<=[a-z] -)(?=[a-z]{3})", "-"),
    _rule(
        "glued_sentences",
        ".",
        r"\.(?=[A-Z])(?:(?<=\)\.)(?=[A-Z][a-z]{1,20} )"
        rf"|(?<=[a-z\d]\.)(?=(?:{_OPENERS}) ))",
        ". ",
    ),
)

CODE = (
    _LINE_ENDS,
    _chars("controls", _C0 + _C1 + "\x0b\x0c"),
    _TRAILING,
    _rule("blank_lines", "\n\n\n\n", r"\n\n\n\n+", "\n\n\n"),
)
PLAIN = (
    _LINE_ENDS,
    _BREAKS,
    _chars("controls", _C0 + _C1),
    _chars("invisible", _INVISIBLE),
    _chars("spaces", _SPACES, " "),
    _TRAILING,
    _BLANK_LINES,
)
WIKI = (
    *PLAIN[:4],
    _chars("spaces", _SPACES + "\u3000\t", " "),
    *WIKI_RULES,
    _TRAILING,
    _BLANK_LINES,
)


class UnstableMarkupError(ValueError):
    """Debris nested so deep that removing it layer by layer does not end."""


def clean(text: str, rules: tuple[Rule, ...], removed: Removed) -> str:
    """`text` in NFC with `rules` applied until nothing changes, without outer blank lines.

    What was removed is added to `removed`. Clean text comes back as it is.

    Raises:
        UnstableMarkupError: it still changes after eight passes.
    """
    cleaned = one_pass(text, rules, removed)
    if cleaned == text:
        return text
    if rules is not WIKI:
        return _settle(cleaned, rules, removed)
    # No rule of WIKI looks across a line, so only the lines that changed are looked at again,
    # first all together: mostly they are clean by now.
    known = set(text.split("\n"))
    lines = cleaned.split("\n")
    changed = [number for number, line in enumerate(lines) if line not in known and line]
    again = "\n\n".join([lines[number] for number in changed])
    if one_pass(f"\n{again}\n", rules, {}) != again:
        for number in changed:
            lines[number] = _settle(lines[number], rules, removed)
    joined = "\n".join(lines)
    if _BLANK_LINES.applies(joined):
        joined = _BLANK_LINES.apply(joined, removed)
    return joined.strip("\n").rstrip()


def _settle(text: str, rules: tuple[Rule, ...], removed: Removed) -> str:
    for _ in range(PASSES):
        before = text
        text = one_pass(f"\n{text}\n", rules, removed)  # a line begins at the very start too
        if text == before.strip("\n").rstrip():
            return text
    raise UnstableMarkupError(f"still changing after {PASSES} passes")


def one_pass(text: str, rules: tuple[Rule, ...], removed: Removed) -> str:
    """`text` with each rule applied once, in order, then NFC, without outer blank lines."""
    printable = text.replace("\n", "").isprintable()
    pairs = _pairs_in(text)
    for rule in rules:
        if not rule.triggers:
            if not printable:
                text = rule.apply(text, removed)
        elif (not rule.pair or pairs & rule.pair) and rule.applies(text):
            text = rule.apply(text, removed)
    if not unicodedata.is_normalized("NFC", text):
        composed = unicodedata.normalize("NFC", text)
        count(removed, "nfc", 1, len(text) - len(composed))
        if isinstance(removed, Watched):
            removed.changed(None, text)
        text = composed
    return text.strip("\n").rstrip()


def count(removed: Removed, rule: str, spans: int = 1, characters: int = 0) -> None:
    """Note that `rule` changed `spans` places and took away `characters`."""
    entry = removed.setdefault(rule, [0, 0])
    entry[0] += spans
    entry[1] += characters
