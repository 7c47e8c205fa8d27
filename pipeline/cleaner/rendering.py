"""Debris of rendering: what a wiki page becomes text with that is no text.

References in brackets, pronunciations and the parentheses they leave, coordinates, and the blanks
that stand where a link or quotation ended. Each of these forms is text somewhere else (`a[0]`,
`main ()`, `ls .`), so most rules look at what stands around (`pipeline.cleaner.prose`).
"""

import re
from collections.abc import Callable, Iterator

from pipeline.cleaner.prose import closes_aside, ends_phrase, in_prose, names_code, words
from pipeline.cleaner.rule_engine import Edit, rule

ENGLISH_RULES = frozenset({"possessive_space", "hyphen_space", "glued_sentences"})
"""Rules that are right for English alone: Dutch writes "gaat 's morgens", German "und -handel"."""

_REFERENCE = (
    r"[1-9]\d{0,2}|(?:note|nb|N|n|Note|fn|upper-alpha|lower-alpha|Fn) \d{1,3}|"
    r"(?:citation|clarification|page|verification|quantify|year|dates?|attribution|full citation|"
    r"better source|additional citation\(s\)|non-primary source|original research|importance)"
    r"(?: \(s\))? ?(?:needed|missing)[^\]\n]{0,30}|who\?|when\?|where\?|which\?|why\?|how\?|"
    r"by whom\?|according to whom\?|(?:original )?research\?|dubious[^\]\n]{0,20}|vague|specify|"
    r"failed verification|unreliable source\?|dead link|permanent dead link|"
    r"neutrality is disputed|not in citation given|clarify|edit|update\]? ?"
)
# "Citation needed" and "note 1" of other languages.
_FOREIGN = (
    r"Beleg(?: fehlt)?\??|réf\. (?:nécessaire|souhaitée|à confirmer)|cita requerida|"
    r"senza fonte|bron\?|carece de fontes\??|potrzebny przypis|"
    r"источник не указан[^\]\n]{0,30}|джерело\?|要出典|"
    r"来源请求|來源請求|cal citació|zdroj\?|källa behövs|trenger referanse|kilde mangler|lähde\?|"
    r"kaynak belirtilmeli|بحاجة لمصدر|نیازمند منبع|cần dẫn nguồn|butuh rujukan|출처 필요|forrás\?|"
    r"necesită citare|דרוש מקור|erreferentzia behar|"
    r"(?:Anm\.|nota|noot|prim\.|прим\.|註|注|注釈|注释|註釋|주|К) \d{1,3}"
)
_MARK = rf"\[(?:{_REFERENCE}|{_FOREIGN}|[a-z]{{1,2}})\]"
_REFERENCES = rf" ?{_MARK}(?:[–,-]?{_MARK})*"
_SUBSCRIPTS = frozenset({*"ijklmnopqrstuvwxyz"})
_SPELLED = re.compile(
    r"\[(?:[^\]]*[ ?]|要出典|来源请求|來源請求|Beleg\])"
)  # a remark of several words needs no place of its own

# Letters that occur in phonetic transcriptions and hardly elsewhere in slashes or brackets.
_PHONETIC = "ˈːəɪʊɔɛɑʁʃʒŋ"
_TRANSCRIPTION = (
    rf"(?<![^\s(:;,])/[^/\n]{{0,60}}[{_PHONETIC}][^/\n]{{0,60}}/(?![^\s);,.])"
    rf"|(?<!\w)\[[^\[\]\n]{{0,60}}[{_PHONETIC}][^\[\]\n]{{0,60}}\](?!\w)"
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
_DUTCH_TIME = re.compile(
    r"(?:morgens|ochtends|middags|namiddags|avonds|nachts|winters|zomers|lands|werelds)\b"
)
_KEYWORDS = words(
    "IO assert call catch def echo elif elseif except fn for fun func function if input lambda let "
    "main match new operator print printf println puts return say sizeof switch template throw "
    "type typeof unit unless until val var void while yield"
)
"""Words before the parentheses of code."""
_PRINTING = words("echo print printf println puts say return throw")
"""Words before the quotations of code."""
_JOINING = words("a an and as by empty of or than the to unit")
"""Words before `()` where it is a value that is named."""
_COMMANDS = words(
    "add build cargo cd chmod chown code cp diff docker du find go grep init install ln ls make mv "
    "npm open pip push rsync run scp source tar test tree"
)
"""Words after which a dot is a folder."""
_TITLE = re.compile(
    r"(?:The|An?|(?!Then|Call|Use|Run|Type)[A-Z][\w'-]{0,60})(?: [\w'-]{1,60}){0,5}$"
)
"""A line up to the name that a pronunciation follows."""
_LAST_TOKEN = re.compile(r"\S{1,60}$")
_PLAIN_TOKEN = re.compile(r"[(\[\"“‘«]{0,2}(?:[^\W_]{2,}|\d)(?:[-'’–][^\W_]+){0,4}[)\]\"”’]{0,2}$")
_LONGEST_KEYWORD = 12
_LONGEST_ASIDE = 300
_NO_CODE = r"[^\n()=<>+*{}|&\[\]]"
_ASIDE = re.compile(rf"{_NO_CODE}{{2,300}}$")


def _reference(match: re.Match[str]) -> str:
    """Nothing for references to notes and remarks of editors, the match where it is text."""
    text, (begin, end) = match.string, match.span()
    mark = match.group().strip()
    first = end - len(mark)
    inside = mark[1 : mark.find("]")]
    if _SPELLED.match(mark):
        gone = " " in inside or in_prose(text, begin, end)
    elif inside.isdecimal():
        gone = ends_phrase(text, first, end, inside)
    elif first > begin or not first:
        gone = False
    elif inside == "edit":
        gone = text[end : end + 1] in ("", "\n")
    elif text[first - 1].isalpha() and (inside == "update" or inside in _SUBSCRIPTS):
        gone = False
    else:
        gone = ends_phrase(text, first, end)
    return "" if gone else match.group()


def _without_transcriptions(match: re.Match[str]) -> str:
    inside, found = _SPOKEN_FORM.subn("", match.group()[1:-1])
    return f"({inside.strip(' ;,:')})" if found else match.group()


def _in_prose(became: str) -> Callable[[re.Match[str]], str]:
    """A replacement by `became` where the match stands in prose."""

    def replacement(match: re.Match[str]) -> str:
        return became if in_prose(match.string, *match.span()) else match.group()

    return replacement


def _after_word(text: str, begin: int, words_before: frozenset[str]) -> bool:
    before = text[max(0, begin - _LONGEST_KEYWORD) : begin].rstrip(" ([")
    return before[before.rfind(" ") + 1 :].lstrip("(\n") in words_before


def _opened(match: re.Match[str]) -> str:
    text, (begin, end) = match.string, match.span()
    prose = in_prose(text, begin, end) and not _after_word(text, begin, _KEYWORDS)
    return "(" if prose else match.group()


def _closed(match: re.Match[str]) -> str:
    """A closing parenthesis without what precedes it, where it closes an aside of some words."""
    text, (begin, end) = match.string, match.span()
    opening = text.rfind("(", max(0, begin - _LONGEST_ASIDE), begin)
    inside = text[opening + 1 : begin]
    aside = (
        opening >= 0
        and (not opening or text[opening - 1].isspace())
        and _ASIDE.match(inside) is not None
        and " " in inside.strip()
        and (inside[0] != " " or match.group() != " )")
        and not _after_word(text, opening, _KEYWORDS)
        and in_prose(text, opening, end)
    )
    return ")" if aside else match.group()


def _empty(match: re.Match[str]) -> str:
    """Nothing for empty brackets that something was removed from."""
    text, (begin, end) = match.string, match.span()
    prose = in_prose(text, begin, end) and not names_code(text, begin, end)
    word = _LAST_TOKEN.search(text, max(0, begin - 61), begin)
    if not prose or _after_word(text, begin, _KEYWORDS) or word is None or word.group() in _JOINING:
        return match.group()
    called = match.group() == " ()" and word.group().isascii() and word.group().islower()
    line = text.rfind("\n", max(0, begin - _LONGEST_ASIDE), begin) + 1
    if called and (begin - line > _LONGEST_ASIDE or not _TITLE.match(text, line, begin)):
        return match.group()
    return "" if _PLAIN_TOKEN.match(word.group()) else match.group()


def _punctuation(match: re.Match[str]) -> str:
    """A comma or full stop without the blank before it, where both belong to a sentence."""
    text, (begin, end) = match.string, match.span()
    mark = match.group().lstrip()
    token = _LAST_TOKEN.search(text, max(0, begin - 61), begin)
    word = token.group() if token else ""
    sentence = _PLAIN_TOKEN.match(word) and (mark == "," or word not in _COMMANDS)
    prose = in_prose(text, begin, end) and not names_code(text, begin, end)
    return mark if sentence and prose else match.group()


def _possessives(text: str) -> Iterator[Edit]:
    """` 's ` behind a word loses the blank before it; a scan, because most articles have some."""
    place = text.find(" 's ")
    while place >= 0:
        end = place + len(" 's ")
        possessive = text[place - 1 : place].isalnum() and not _DUTCH_TIME.match(text, end)
        if possessive and in_prose(text, place, end):
            yield place, place + 1, ""
        place = text.find(" 's ", place + 1)


def _unspaced(match: re.Match[str]) -> str:
    """A quotation of words without the blanks inside its marks."""
    text, begin = match.string, match.start()
    quoted = match[1].strip()
    called = text[begin - 1 : begin] in ("(", "[") and text[begin - 2 : begin - 1].isalnum()
    whole = quoted[:1].isalnum() and not quoted.endswith((":", ";", ",", ".", "="))
    if called or not whole or _after_word(text, begin, _PRINTING):
        return match.group()
    return f'"{quoted}"' if in_prose(text, *match.span()) else match.group()


def _parted(match: re.Match[str]) -> str:
    """A full stop with a blank, where it ends a sentence and does not name a part of an object."""
    text, begin = match.string, match.start()
    token = _LAST_TOKEN.search(text, max(0, begin - 61), begin)
    word = token.group() if token else ""
    if word.endswith(")"):
        parted = "(" not in word or closes_aside(text, begin - 1)
    else:
        parted = bool(_PLAIN_TOKEN.match(word)) and (word.islower() or word.isdecimal())
    return ". " if parted and in_prose(text, *match.span()) else match.group()


RENDERING_RULES = (
    rule("citations", "[", _REFERENCES, _reference),
    rule("listen", "(listen)", r" \(listen\)"),
    rule("listen", "ⓘ~·", r" \(help·info\)| ?ⓘ"),
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
    rule(
        "open_parentheses",
        "(;~(,~( ",
        rf"(?<!\S)\((?: ?[;,][ ;,:]{{1,19}}|(?= [^()\n]{{2,300}}[^\s()]\)) )(?=[^\W\d_]{{2}})"
        rf"(?={_NO_CODE}{{2,300}}\))",
        _opened,
    ),
    rule(
        "close_parentheses",
        " )~;)~,)",
        r"(?<=[^\W_])(?: ?;[ ;,]{0,19}| ,[ ;,]{0,19}|, | )\)",
        _closed,
    ),
    rule(
        "empty_parentheses",
        "()~( ~(;~(,",
        r" \((?:[ ;,:]{0,19} )?;?\)(?=[\s.,]|$)",
        _empty,
    ),
    rule("empty_brackets", "[]~[ ", r"(?<=[a-z]:) \[ ?\](?=[;,)])", _empty),
    rule("double_spaces", "  ", r"  (?<=[^\n ]  ) *", " "),
    rule("leading_space", "\n ", r"(?m)^ ++(?!-|\s)"),
    rule(
        "punctuation_space",
        " ,~ .",
        r" {1,9}(?:,(?=[^\S\n]\S|\n|\Z)|\.(?=\n|\Z|[^\S\n][^\W\d_a-z\"“]))",
        _punctuation,
    ),
    rule("possessive_space", " 's ", _possessives),
    rule(
        "spaced_quotes",
        '"',
        r'" (?<![^\s(\[]" )([^"\n]{1,150})(?<= )"(?![^\s,.;:!?)\]])',
        _unspaced,
    ),
    rule(
        "quote_space",
        '"',
        r'"(?<=[\s(\[]")(?=\S)([^"\n]{1,150})(?<= )"(?=[\s,.;:!?)\]])',
        _unspaced,
    ),
    rule(
        "hyphen_space",
        " -",
        r" -(?<=[a-z]{3} -)(?<!\band -)(?<!\bthan -)"
        r"(?=(?:[a-z]{2,12}(?:ed|ing)|based|style|like|wide|led|born|won|made|"
        r"owned|run|built|backed|wing|era)\b)",
        _in_prose("-"),
    ),
    rule(
        "glued_sentences",
        ".",
        r"\.(?=[A-Z])(?:(?<=[^(]\)\.)(?=[A-Z][a-z]{1,20} )"
        rf"|(?<=[a-z\d]\.)(?=(?:{_OPENERS}) ))",
        _parted,
    ),
)
