r"""Whether a place in a rendered text is prose, or code and mathematics that a reader sees.

A rule that removes what rendering leaves in prose (`[1]`, `()`, a blank before a comma) asks here
first, because in an article about programming the same characters are the text. Only the nearest
characters of the same line are looked at, so that a question costs the same in any text.
"""

import re
from itertools import pairwise


def words(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


_NEAR = 40  # characters on either side that decide
_SHORT = 4  # letters of a name that ends a sentence so seldom that it is one of an array
_AROUND = 200  # characters on either side in which an array shows itself by being used again

# Each alternative begins with a literal, so that the search skips all other characters.
_SIGN = re.compile(
    r"=|\\|\{|\}|\^|`|<|>|\||~(?!\d)|\$(?!\d)|@\w|# ?[a-z]|&(?:&|(?<!\w&)\w)|_(?<=\w_)\w|::|\+\+"
    r"|-(?:>|(?<!\S-)-?[A-Za-z])|\)\.\w|\.(?<=\w\.)\w+\("
    r"|\[(?:\]|(?<=\w\[)(?:0|(?!(?:[a-h]|vague|specify|clarify|edit|update)\])[A-Za-z_]\w*\]))"
    r"|\((?:\)(?<=\w\(\))|(?<=[a-z]\()(?!(?:e?s|e|n|in|en|a|o)\))[^)\s])"
)
"""What stands in code and mathematics, and hardly ever in a sentence."""

_TERM = re.compile(
    r"(?i)\b(?:arrays?|subscripts?|ind(?:ex|ices)|pointers?|elements?|vectors?|matrix|matrices|"
    r"tuples?|strings?|variables?|functions?|methods?|procedures?|arguments?|parameters?|"
    r"commands?|calls?|routines?|loops?|returns?|void|int|char|float|struct|printf|malloc|sizeof|argv|"
    r"argc|characters?|operators?|commas?|colons?|dots?|symbols?|delimiters?|separators?|expressions?|"
    r"syntax|atomic|isotopes?|weights?|theorems?|lemmas?|equations?|lambda|"
    r"unit type|intervals?|modulo|mod|brackets?|parenthes[ie]s)\b"
)
"""Words after which brackets mean something."""

_IDENTIFIERS = words(
    "arg args argv arr array bar baz bits bucket buf buffer byte bytes cache cell cells char "
    "chars child children cmd cmds code codes coef col color cols column columns count counts "
    "data days digits dict dim dims dp entries env exp expr fib field fields file files flags foo "
    "grid hash head heap idx images in index input item items key keys left len letters lhs lines "
    "list lookup lst main map mask matrix mem memo memory msg names name next node nodes nums num "
    "number numbers obj object objects offset offsets out output params parent parts path paths "
    "pixel pixels players points pos prev primes ptr queue rank record records reg registers res "
    "result results ret rhs right row rows score scores seq set sheet size sizes slots solution "
    "src stack start state states str string strings students sum table tail temp tmp text token "
    "tokens tree tuple users val value values var vec vector vectors vertices visited weight "
    "weights word words xs ys"
)
"""Words that are oftener the name of an array than the end of a phrase with a reference."""

_QUOTED = re.compile(r"[.!?…。．！？”’»›」』%‰]")
_PAUSE = re.compile(r"[,;:–—、，；：]")
_BEHIND = re.compile(
    r"(?=$|\n|\s(?![=+*/%&|^<>]|-[->=]|- \d)|[,;:!?)\]”’»›—–…]|\.(?!\w)|[^\x00-\u2e7f])"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?$")
_TOKEN = re.compile(r"\S{1,60}$")
_REFERRING = words("in see by of from to and or with as cf per ref reference references also both")
"""Words that a number in brackets belongs to: without it the sentence would have a hole."""
_SAID_OF = re.compile(
    r" (?:is|are|was|were|has|have|and|or|to|of|in|denotes?|means?|holds?|gives?)\b"
)
_LONGER_WORD = re.compile(r"[^\W\d_]{2}")
_NUMBER = re.compile(r"\d[\d.,]*\d$")
_OPENING = "(\"'“‘«‹„[—–-/"
_CASELESS = re.compile(r"[\u0590-\u109f\u1200-\u137f\u1780-\u18af\u3040-\ufaff]")
_COUNT = re.compile(r"(\S{0,30}?) ?\[(\d{1,3})\]")


def in_prose(text: str, start: int, end: int) -> bool:
    """Whether nothing near [start, end) of its line looks like code or mathematics."""
    if not _SIGN.search(text, max(0, start - _NEAR), end + _NEAR):
        return True
    for low, high in (_before(text, start), _behind(text, end)):
        if _SIGN.search(text, low, high):
            return False
    return True


def names_code(text: str, start: int, end: int) -> bool:
    """Whether words of programming or mathematics stand near [start, end) in its line."""
    near = (_before(text, start), _behind(text, end))
    return any(_TERM.search(text, low, high) for low, high in near)


def ends_phrase(text: str, start: int, end: int, number: str = "") -> bool:
    """Whether the bracketed mark [start, end) refers to a note: it follows the end of a phrase in
    prose. `number` is the one in the mark, empty for a letter."""
    if not start or _BEHIND.match(text, end) is None:
        followed = text[end : end + 1].isupper() and text[start - 1 : start] in (".", "!", "?")
        if not start or not followed:
            return False
    before = text[start - 1]
    if before == "\n":
        return False
    if before.isspace():
        return _apart(text, start, end, number)
    if before in ".!?…" and _ends_sentence(text, start, end):
        return True
    if not in_prose(text, start, end):
        return False
    if _QUOTED.match(before):
        return start > 1 and not text[start - 2].isspace() and not _names_member(text, start, end)
    if _PAUSE.match(before):
        return start > 1 and (text[start - 2].isalnum() or text[start - 2] in '"”’)')
    if before in "\"'":
        return start > 1 and not text[start - 2].isspace()
    if before == ")":
        return closes_aside(text, start - 1)
    return _ends_word(text, start, end, number)


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether a mark behind a full stop stands between two sentences, whatever is in them."""
    last = text[start - 2 : start - 1]
    following = text[end : end + 2]
    begins = not following.strip() or following[0] == "\n" or following[1:].isupper()
    word = last.isalnum() or (last != "" and last in ')"”’»')
    name = _name_before(text, start)
    return begins and word and not (len(name) <= _SHORT and _names_array(name))


def _names_member(text: str, start: int, end: int) -> bool:
    """Whether brackets behind a dot take an item of an array, as in `arr.[1] is`."""
    goes_on = text[end : end + 1] == " " and text[end + 1 : end + 2].islower()
    return goes_on and _names_array(_name_before(text, start))


def _name_before(text: str, start: int) -> str:
    """The word before the character before `start`."""
    token = _WORD.search(text, max(0, start - 31), start - 1)
    return token.group() if token else ""


def _names_array(name: str) -> bool:
    return name in _IDENTIFIERS or (len(name) == 1 and name.islower())


def _ends_word(text: str, start: int, end: int, number: str) -> bool:
    """Whether a mark glued to a word or number is a reference rather than a subscript."""
    if _CASELESS.match(text, start - 1):
        return True
    token = _TOKEN.search(text, max(0, start - 61), start)
    assert token is not None
    if _NUMBER.search(text, token.start(), start):
        return not names_code(text, start, end)
    word = _WORD.search(text, token.start(), start)
    if word is None or (word.start() > token.start() and text[word.start() - 1] not in _OPENING):
        return False
    name = word.group()
    line = _line(text, start, end)
    if len(name) == 1 and name.isascii() and _LONGER_WORD.search(line):
        return False
    if any(low.islower() and high.isupper() for low, high in pairwise(name)):
        return False
    if names_code(text, start, end) or name in _IDENTIFIERS:
        return False
    if len(name) >= 3 and (name[0].isupper() or (number == "1" and len(name) > 3)):
        return not _used_again(text, start, name)
    return _counted(line) if number else len(name) >= 4


def _apart(text: str, start: int, end: int, number: str) -> bool:
    """Whether a mark after a blank is a reference: behind a sentence, or the first of a line."""
    before = text[max(0, start - 2) : start - 1]
    if not number or not before or before.isspace() or not in_prose(text, start, end):
        return False
    if before in ".!?…":
        following = text[end : end + 2]
        return not following.strip() or following[1:].isupper() or following[0] == "\n"
    if not before.isalnum() or _SAID_OF.match(text, end) or names_code(text, start, end):
        return False
    if _name_before(text, start).lower() in _REFERRING:
        return False
    marks = _COUNT.findall(_line(text, start, end))
    return bool(marks) and [int(n) for _, n in marks] == [*range(1, len(marks) + 1)]


def _counted(line: str) -> bool:
    """Whether the numbers in brackets count up by one, behind words that differ."""
    marks = _COUNT.findall(line)
    numbers = [int(number) for _, number in marks]
    words = [word for word, _ in marks]
    return (
        len(marks) > 1
        and numbers[0] > 0
        and all(low + 1 == high for low, high in pairwise(numbers))
        and len({*words}) == len(words)
    )


def _used_again(text: str, start: int, name: str) -> bool:
    """Whether brackets follow the same name at another place near here."""
    near = text[max(0, start - len(name) - _AROUND) : start + _AROUND]
    return near.count(f"{name}[") > 1


def closes_aside(text: str, close: int) -> bool:
    """Whether the parenthesis that ends at `close` is an aside and no call of a function."""
    opening = text.rfind("(", max(0, close - _AROUND), close)
    if opening < 0 or re.search(r"[|=<>{}]", text[opening:close]):
        return False
    return not opening or text[opening - 1].isspace() or bool(_CASELESS.match(text, opening - 1))


def _before(text: str, start: int) -> tuple[int, int]:
    """Where the characters near `start` in its line begin and end."""
    low = max(0, start - _NEAR)
    return max(low, text.rfind("\n", low, start) + 1), start


def _behind(text: str, end: int) -> tuple[int, int]:
    """Where the characters behind `end` in its line begin and end."""
    high = text.find("\n", end, end + _NEAR)
    return end, high if high >= 0 else min(len(text), end + _NEAR)


def _line(text: str, start: int, end: int) -> str:
    """What is near [start, end) in its line, the mark itself among it."""
    near = text[max(0, start - _AROUND) : start]
    return near[near.rfind("\n") + 1 :] + text[start : end + _AROUND].split("\n", 1)[0]
