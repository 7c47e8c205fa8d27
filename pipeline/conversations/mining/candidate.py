"""What a rule of mining proposes, and what any proposal must pass to become a conversation."""

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from pipeline.conversations.mining.blocks import Block, Parsed, is_question, word_count

NO_ANSWER, TOO_SHORT, TOO_LONG = "no_answer", "too_short", "too_long"
SYMBOLS, BOILERPLATE, NUMBERED = "mostly_symbols", "boilerplate", "only_a_number"
DUPLICATE, OVER_LIMIT = "duplicate", "over_limit_of_document"

LONGEST_QUESTION, LONGEST_ANSWER = 1200, 4000
"""Characters of a turn of the user and of the assistant; longer ones are rejected whole."""
_LETTERS = 0.6  # of the characters that are no blanks; words, digits and ideographs all count
_LEADERS = re.compile(r"(?:\. ?){5}|…{3}|_{5}|-{8}|={8}")
_BOILERPLATE = re.compile(
    r"click here|read more|subscribe|sign up|log ?in\b|all rights reserved|cookie|newsletter|"
    r"terms (?:of|and) (?:use|service|conditions)|privacy policy|javascript|©|\bISBN\b|"
    r"hier klicken|alle rechte vorbehalten|weiterlesen|datenschutz|impressum|"
    r"tous droits réservés|lire la suite|todos los derechos|leer más|alle rechten voorbehouden|"
    r"lees meer|все права защищены|подробнее|版权所有|続きを読む",
    re.IGNORECASE,
)
_LISTS = re.compile(
    r"(?:table of )?contents|see also|references|external links?|further reading|bibliography|"
    r"notes|sources|footnotes|index|citations|works cited|gallery|navigation|menu|share this|"
    r"comments?|related (?:posts|articles)|tags|copyright|license|acknowledge?ments?|"
    r"inhalt(?:sverzeichnis)?|siehe auch|weblinks|einzelnachweise|literatur|anmerkungen|"
    r"sommaire|table des matières|voir aussi|références|liens externes|bibliographie|"
    r"índice|contenido|véase también|referencias|enlaces externos|bibliografía|"
    r"inhoud(?:sopgave)?|zie ook|referenties|externe links?|bronnen|"
    r"содержание|оглавление|см\. также|примечания|ссылки|литература|"
    r"目录|目次|参见|参考文献|外部链接|関連項目|脚注|外部リンク",
    re.IGNORECASE,
)
_NOTE = re.compile(
    r"(?:note|warning|tip|example|returns?|args|raises|source|date|from|to|subject|cc|re|time|"
    r"location|address|phone|tel|fax|e-?mail|price|size|color|colour|status|type|name|title|"
    r"author|category|posted|updated|published|tags|step|total|url|website|hours|"
    r"hinweis|achtung|beispiel|quelle|datum|von|an|betreff|preis|"
    r"remarque|exemple|nota|ejemplo|fecha|let op|voorbeeld|примечание|пример|注|例)\.?",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?:(?:chapter|book|part|act|scene|section|volume|canto|letter|kapitel|teil|buch|akt|szene|"
    r"aufzug|auftritt|brief|chapitre|livre|partie|acte|scène|capítulo|parte|libro|acto|escena|"
    r"hoofdstuk|deel|boek|глава|часть|книга|том|действие|акт|явление|сцена)\b\.?)?\s*"
    r"(?:[\divxlcdm]+|the (?:first|second|third|last)|one|two|three|four|five|six|seven|eight|"
    r"nine|ten|erste[rs]?|zweite[rs]?|dritte[rs]?|первая|вторая|третья)?[.:)]?|"
    r"(?:the end|ende|fin|finis|конец|完|終わり)[.!]?|"
    r"第?\s*[\d一二三四五六七八九十百]+\s*[章回节話部幕]?",
    re.IGNORECASE,
)


class Candidate(NamedTuple):
    """Texts that alternate between user and assistant, the user first.

    `offset` is where they begin, `blocks` which blocks they are made of (no other rule takes
    these). `reason` says why the rule itself gave it up; `least` is how many words the answers
    must have together.
    """

    rule: str
    texts: tuple[str, ...]
    offset: int
    blocks: range
    reason: str = ""
    least: int = 3


Taken: TypeAlias = bytearray
"""One byte for each block of a document, 1 where a rule used the block."""

Rule: TypeAlias = Callable[[Parsed, Taken], Iterator[Candidate]]


def fault(candidate: Candidate) -> str:
    """Why a candidate is no conversation; empty where it is one."""
    if candidate.reason:
        return candidate.reason
    questions, answers = candidate.texts[::2], candidate.texts[1::2]
    if not all(text.strip() for text in questions):
        return TOO_SHORT
    if len(questions) != len(answers) or not all(text.strip() for text in answers):
        return NO_ANSWER
    if max(map(len, questions)) > LONGEST_QUESTION or max(map(len, answers)) > LONGEST_ANSWER:
        return TOO_LONG
    if is_list_heading(questions[0]) or any(map(is_boilerplate, candidate.texts)):
        return BOILERPLATE
    if any(map(is_symbols, candidate.texts)):
        return SYMBOLS
    return TOO_SHORT if sum(map(word_count, answers)) < candidate.least else ""


def is_list_heading(text: str) -> bool:
    """Whether a text is the heading of a list of references, a table of contents or the like."""
    return len(text) < 60 and _LISTS.fullmatch(text.rpartition(": ")[2].strip(" .:")) is not None


def is_note(label: str) -> bool:
    """Whether a word before a colon announces a remark or a figure, and is no name or term."""
    return _NOTE.fullmatch(label.strip()) is not None


def is_numbering(text: str) -> bool:
    """Whether a heading only numbers what follows, as Chapter II."""
    return len(text) < 60 and _NUMBER.fullmatch(text.strip()) is not None


def is_boilerplate(text: str) -> bool:
    """Whether a text is what stands on every page: links, notices, leaders of a table."""
    return _BOILERPLATE.search(text) is not None or _LEADERS.search(text) is not None


def is_symbols(text: str) -> bool:
    """Whether less than 6 of 10 characters, blanks left aside, are letters."""
    shown = "".join(text.split())
    return sum(map(str.isalnum, shown)) < _LETTERS * len(shown) or not any(map(str.isalpha, shown))


_SENTENCE_END = re.compile(r"[.!?…][\"'”»)\]]{0,2}(?=\s|$)|[。！？][」』”）]?")
_ABBREVIATED = re.compile(r"(?:\b[A-Za-z]|\b(?:Mr|Mrs|Dr|St|etc|vs|bzw|ca|approx|Inc|No|Nr))\.$")


def up_to(text: str, most: int) -> str:
    """The whole sentences of a text that fit into `most` characters, at least one whole sentence;
    empty where a first sentence is longer than that."""
    text = text.strip()
    if len(text) <= most:
        return text
    ends = sentence_ends(text[:most])
    return text[: ends[-1]] if ends else ""


def sentence_ends(text: str) -> list[int]:
    """Where the sentences of a text end; initials and the usual abbreviations end none."""
    return [
        found.end()
        for found in _SENTENCE_END.finditer(text)
        if not _ABBREVIATED.search(text[max(0, found.end() - 8) : found.end()])
    ]


def ends_whole(text: str) -> bool:
    """Whether a text ends as a sentence or a list does, and is not cut in the middle."""
    return text.rstrip("*_`\"'”»)]」』 ")[-1:] in tuple(".!?…。！？;")


ANSWER_GOAL = 1000
"""Characters of prose that make an answer; what stands below a heading may go on after them."""


def answer_below(
    parsed: Parsed, first: int, taken: Taken, enough: int = ANSWER_GOAL
) -> tuple[str, range]:
    """The text from block `first` up to the next heading or question, and its blocks.

    Whole blocks up to `ANSWER_GOAL` characters, no more where there are `enough`; a longer first
    one is cut after a sentence. What ends with a colon comes with what it announces, or not at
    all. A table ends an answer, and so does what stands on every page.
    """
    parts: list[str] = []
    size, place = 0, first
    while place < len(parsed.blocks) and not taken[place]:
        block = parsed.blocks[place]
        text = block.text if block.kind != "code" else written(block)
        question = block.kind in ("paragraph", "list") and is_question(text) and len(text) < 200
        if block.kind in ("heading", "table") or (parts and (question or is_boilerplate(text))):
            break
        if size >= enough and ends_whole(parts[-1]):
            break
        if size + len(text) > ANSWER_GOAL:
            if not parts and block.kind == "paragraph":
                parts, place = [up_to(text, ANSWER_GOAL)], place + 1
            break
        if parts and not ends_whole(parts[-1]) and block.kind == "paragraph":
            break
        parts.append(text)
        size, place = size + len(text), place + 1
    while len(parts) > 1 and parts[-1].endswith((":", "：")):
        parts.pop()
    if parts and parts[-1].endswith((":", "：")):
        parts = []
    return "\n\n".join(parts), range(first, place)


def written(block: Block) -> str:
    """A block of code as it is written, with what all its lines are indented by taken off."""
    return textwrap.dedent("\n".join(line.text for line in block.lines))
