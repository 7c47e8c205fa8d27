"""The rules that clean a text: small, named, in a fixed order.

A rule is a pattern, what replaces it, and the cheap literal triggers without which it cannot
match. Three ordered sets: CODE leaves all that could mean something to a program, PLAIN adds what
is safe in any prose, and WIKI removes the debris of an encyclopedia, which is in
`pipeline.cleaner.markup` and `pipeline.cleaner.rendering`; here are the rules of single characters
and blanks. WIKI is for articles in English, WIKI_ANY_LANGUAGE for all others.
"""

import re

import msgspec

from pipeline.cleaner.markup import MARKUP_RULES
from pipeline.cleaner.rendering import ENGLISH_RULES, RENDERING_RULES
from pipeline.cleaner.rule_engine import (
    Removed,
    Rule,
    RuleSet,
    UnstableMarkupError,
    character_rule,
    clean,
    rule,
)
from pipeline.cleaner.steps import RawDocument, Rejection

VERSION = 11
"""Raise it when a rule changes what it does: clean documents are then stale."""

_C0 = "".join(map(chr, [*range(9), *range(0x0E, 0x20), 0x7F]))
_C1 = "".join(map(chr, [*range(0x80, 0x85), *range(0x86, 0xA0)]))
# Variation selectors and zero-width joiners (200C, 200D) stay: they spell Persian, the scripts of
# India, Mongolian and emoji.
_INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063"
    "\u2064\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f"
_MONGOLIAN, _OGHAM = r"[\u1800-\u18af]", r"[\u1681-\u169c]"
# Thai, Lao, Tibetan, Burmese, Khmer, Tai, Balinese, Javanese: a zero-width space parts words.
_UNSPACED = r"[\u0e00-\u109f\u1780-\u17ff\u1950-\u1b7f\ua980-\ua9ff\uaa60-\uaadf]"
# What is kept of both: the vowel separator and the narrow space before a suffix of Mongolian, the
# stroke that is a space in Ogham.
_NEEDED = (
    rf"(?<!{_MONGOLIAN}[\u180e\u202f](?={_MONGOLIAN}))(?<!{_OGHAM}\u1680)"
    rf"(?<!{_UNSPACED}\u200b(?={_UNSPACED}))"
)

_LINE_ENDS = Rule("line_ends", 0, (), re.compile(r"\r\n?"), "\n")
_BREAKS = character_rule("line_breaks", "\x0b\x0c\x85\u2028\u2029", "\n")
_TRAILING = rule("trailing_space", " \n~\t\n", r"[ \t](?<![ \t]{2})[ \t]*+(?=\n)")
_BLANK_LINES = rule("blank_lines", "\n\n\n", r"\n\n\n+", "\n\n")

CODE = RuleSet(
    (
        _LINE_ENDS,
        character_rule("controls", _C0 + _C1 + "\x0b\x0c"),
        _TRAILING,
        rule("blank_lines", "\n\n\n\n", r"\n\n\n\n+", "\n\n\n"),
    ),
)
PLAIN = RuleSet(
    (
        _LINE_ENDS,
        _BREAKS,
        character_rule("controls", _C0 + _C1),
        character_rule("invisible", _INVISIBLE, kept=_NEEDED),
        character_rule("spaces", _SPACES, " ", kept=_NEEDED),
        _TRAILING,
        _BLANK_LINES,
    ),
)
WIKI = RuleSet(
    (
        *PLAIN.rules[:4],
        character_rule("spaces", _SPACES + "\t", " ", kept=_NEEDED),
        *MARKUP_RULES,
        *RENDERING_RULES,
        _TRAILING,
        _BLANK_LINES,
    ),
    by_line=True,
)
WIKI_ANY_LANGUAGE = RuleSet(
    tuple(rule for rule in WIKI.rules if rule.name not in ENGLISH_RULES), by_line=True
)


class ApplyRules:
    """The step that applies the rules of a document's kind; what goes is counted in `removed`."""

    def __init__(self, removed: Removed) -> None:
        self._removed = removed

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        try:
            text = clean(document.text, document.rules, self._removed)
        except UnstableMarkupError as error:
            return Rejection("unstable_markup", detail=str(error))
        title = document.title
        if document.titled and "\n" in text:
            title = text[: text.find("\n")]
        return msgspec.structs.replace(document, title=title, text=text)
