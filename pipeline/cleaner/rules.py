"""The rules that clean a text: small, named, in a fixed order.

A rule is a pattern, what replaces it, and the cheap literal triggers without which it cannot
match. Three ordered sets: CODE leaves all that could mean something to a program, PLAIN adds what
is safe in any prose, and WIKI removes the debris that rendering an encyclopedia leaves.

No text may make a rule slow: a pattern with a closing mark either stops at the next opening one
or is written as a scan, which looks once for each mark.
"""

import html
import re
from collections.abc import Iterator

import msgspec

from pipeline.cleaner.rule_engine import (
    Edit,
    NextMatch,
    Removed,
    Rule,
    RuleSet,
    UnstableMarkupError,
    character_rule,
    clean,
    rule,
)
from pipeline.cleaner.steps import RawDocument, Rejection

VERSION = 2
"""Raise it when a rule changes what it does: clean documents are then stale."""

ENGLISH_RULES = frozenset({"possessive_space", "hyphen_space", "glued_sentences"})
"""Rules that are right for English alone: Dutch writes "gaat 's morgens", German "und -handel"."""

_LONGEST_COMMENT = 5000  # characters, as all of these
_LONGEST_ADDRESS = 1000
_LONGEST_LABEL = 500
_COMMENT_END = re.compile(r"[>\n]")
_WEB_LINK, _WEB_LINK_END = re.compile(r"\[https?://"), re.compile(r"[\]\n]")
_SPACE = re.compile(r"\s")

_C0 = "".join(map(chr, [*range(9), *range(0x0E, 0x20), 0x7F]))
_C1 = "".join(map(chr, [*range(0x80, 0x85), *range(0x86, 0xA0)]))
# Zero-width joiners (200C, 200D) stay: they spell Persian, Indic scripts and emoji.
_INVISIBLE = (
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063"
    "\u2064\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff\ufff9\ufffa\ufffb"
)
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f"

_LINE_ENDS = Rule("line_ends", 0, (), re.compile(r"\r\n?"), "\n")
_BREAKS = character_rule("line_breaks", "\x0b\x0c\x85\u2028\u2029", "\n")
_TRAILING = rule("trailing_space", " \n~\t\n", r"[ \t](?<![ \t]{2})[ \t]*+(?=\n)")
_BLANK_LINES = rule("blank_lines", "\n\n\n", r"\n\n\n+", "\n\n")

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
_TRANSCRIPTION = (
    rf"/[^/\n]{{0,60}}[{_PHONETIC}][^/\n]{{0,60}}/"
    rf"|\[[^\[\]\n]{{0,60}}[{_PHONETIC}][^\[\]\n]{{0,60}}\]"
)
# A transcription with the language named before it and the respelling after it.
_SPOKEN_FORM = re.compile(
    rf"(?:\b[A-Z][\w.]{{0,14}}(?: [A-Z][\w.]{{0,14}}){{0,2}}: ?)?(?:{_TRANSCRIPTION})"
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


def _without_transcriptions(match: re.Match[str]) -> str:
    return _SPOKEN_FORM.sub("", match.group())


def _entity(match: re.Match[str]) -> str:
    return html.unescape(match.group())


def _comments(text: str) -> Iterator[Edit]:
    """`<!--[^>\\n]{0,5000}-->`: every opening mark before a `>` or line end shares that end."""
    begin = text.find("<!--")
    ends = NextMatch(_COMMENT_END, text)
    while begin >= 0:
        end = ends.at(begin)
        if text.startswith("-->", end - 2):
            opening = text.find("<!--", max(begin, end - _LONGEST_COMMENT - 6), end - 2)
            if opening >= 0:
                yield opening, end + 1, ""
        begin = text.find("<!--", end)


def _web_links(text: str) -> Iterator[Edit]:
    r"""`\[https?://[^\s\]]{1,1000} ?([^\]\n]{0,500})\]`, which leaves the group."""
    spaces, ends, done = NextMatch(_SPACE, text), NextMatch(_WEB_LINK_END, text), 0
    for opening in _WEB_LINK.finditer(text):
        begin = opening.end()
        end = ends.at(begin)
        address = min(spaces.at(begin), end, begin + _LONGEST_ADDRESS)
        label = address + text.startswith(" ", address)
        closed = text.startswith("]", end) and end - label <= _LONGEST_LABEL
        if opening.start() >= done and address > begin and closed:
            done = end + 1
            yield opening.start(), done, text[label:end]


WIKI_RULES = (
    rule("comments", "<", _comments),
    rule("references", "<ref", r"<ref\b[^<>\n]{0,500}/>|<ref\b[^<>\n]{0,500}>[^<\n]{0,5000}</ref>"),
    rule("tags", "<", rf"(?i)</?(?:{_TAGS})(?:\s[^<>\n]{{0,500}})?/?>"),
    rule("templates", "{{", r"\{\{[^{}\n]{0,5000}\}\}"),
    rule("media_links", "[[", r"\[\[(?:File|Image|Category|Media):[^\[\]\n]{0,1000}\]\]"),
    rule("links", "[[", r"\[\[(?:[^\[\]|\n]{0,300}\|)?([^\[\]|\n]{0,500})\]\]", r"\1"),
    rule("web_links", "[", _web_links),
    rule("tables", "|", r"(?m)^(?:\{\||\|[-}+]|\|\|?|!)(?= |$)[^\n]{0,2000}$"),
    rule("magic_words", "__", r"__[A-Z]{3,24}__"),
    rule(
        "emphasis",
        "''",
        r"'{3,5}|(?<!')''(?!')([^'\n]{1,300})(?<!')''(?!')",
        r"\1",
    ),
    rule("entities", "&", r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8}\d{0,2});", _entity),
    rule(
        "citations",
        "[",
        rf" ?\[(?:{_MARKS})\]"
        r"|\[(?<=[.,;:!?\"”’)%]\[)[a-z]{1,2}\](?!\w)|\[(?<=\w\[)[a-h]\](?!\w)",
    ),
    rule("listen", "(listen)~(help~ⓘ", r" ?\((?:listen|help·info)\)| ?ⓘ"),
    rule(
        "phonetics",
        "~".join(_PHONETIC),
        rf"\((?=[^()\n]{{0,400}}[{_PHONETIC}])[^()\n]{{1,400}}\)",
        _without_transcriptions,
    ),
    rule(
        "coordinates",
        "°",
        rf" ?\((?:coordinates:? ?)?{_PAIR}\)|Coordinates:? ?{_PAIR}(?: ?/ ?[^\n]{{0,80}})?",
    ),
    rule("open_parentheses", "(", r"\([ ;,:]{1,20}(?=[^ ;,:\n])", "("),
    rule("close_parentheses", " )~;)~,)", r"[ ;,]{1,20}\)", ")"),
    rule("empty_parentheses", "()", r" \(\)|(?<![\w)\]])\(\)"),
    rule("empty_brackets", "[]", r" \[\]|(?<![\w)\]])\[\]"),
    rule("double_spaces", "  ", r"  (?<=[^\n ]  ) *", " "),
    rule("leading_space", "\n ", r"(?m)^ ++(?!-|\s)"),
    rule("punctuation_space", " ,~ .", r" {1,9}([,.])(?=\s|$)", r"\1"),
    Rule("possessive_space", 0, (" 's ",), " 's ", "'s "),
    rule(
        "spaced_quotes",
        '"',
        r'" (?<![^\s(\[]" )([^"\n]{1,150})(?<= )"(?![^\s,.;:!?)\]])',
        lambda match: f'"{match[1][:-1]}"',
    ),
    rule(
        "quote_space",
        '"',
        r'"(?<=[\s(\[]")(?=\S)([^"\n]{1,150})(?<= )"(?=[\s,.;:!?)\]])',
        lambda match: f'"{match[1][:-1]}"',
    ),
    rule("hyphen_space", " -", r" -(?<=[a-z] -)(?=[a-z]{3})", "-"),
    rule(
        "glued_sentences",
        ".",
        r"\.(?=[A-Z])(?:(?<=\)\.)(?=[A-Z][a-z]{1,20} )"
        rf"|(?<=[a-z\d]\.)(?=(?:{_OPENERS}) ))",
        ". ",
    ),
)

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
        character_rule("invisible", _INVISIBLE),
        character_rule("spaces", _SPACES, " "),
        _TRAILING,
        _BLANK_LINES,
    ),
)
WIKI = RuleSet(
    (
        *PLAIN.rules[:4],
        character_rule("spaces", _SPACES + "\u3000\t", " "),
        *WIKI_RULES,
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
