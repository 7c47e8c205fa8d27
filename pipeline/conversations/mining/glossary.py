"""Terms with what they mean: lists, lines and tables of definitions.

Three or more in a row, each with a term of its own, make a glossary; a single line with a colon
does not.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from pipeline.conversations.mining.blocks import LONGEST_LINE, Block, Line, Parsed, word_count
from pipeline.conversations.mining.candidate import SYMBOLS, Candidate, Taken, is_note

_TERM = r"(?P<term>[^\s:：–—|=*`_][^:：–—|=]{0,58}?)"
_MARK = r"(?:\*\*|__|`|\*)"
_ENTRY = re.compile(
    rf"(?:(?:[-*+•·]|\d{{1,3}}[.)])\s+)?(?:{_MARK}{_TERM}{_MARK}(?:\s?[:：–—]|\s-\s|\s=\s)|"
    rf"{_TERM.replace('term', 'bare')}(?:\s?[:：]|\s[–—]|\s-\s|\s=\s))\s{{0,4}}(?P<meaning>\S.*)"
)
_BELOW = re.compile(r"[:：]\s+(?P<meaning>\S.*)")
_CELLS = re.compile(r"\|([^|]{1,100})\|([^|]{1,280})\|")
_NO_TERM = re.compile(r"https?$|\d{1,2}$|\d[\d.:/ -]*$", re.IGNORECASE)
_FEWEST = 3
_TERM_WORDS = 6
_MEANING_WORDS, _MEANING_LETTERS = 4, 0.7  # and the share of characters that are letters


class _Entry(NamedTuple):
    term: str
    meaning: str
    offset: int
    block: int


def glossary(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Each entry of runs of three or more: the term asks, its meaning answers."""
    run: list[_Entry] = []
    for place, block in enumerate(parsed.blocks):
        entries = [] if taken[place] else list(_entries(block, place))
        if not entries:
            yield from _candidates(run)
            run = []
        run += entries
    yield from _candidates(run)


def _candidates(run: Sequence[_Entry]) -> Iterator[Candidate]:
    terms = {one.term.casefold() for one in run}
    if len(run) < _FEWEST or len(terms) < 0.9 * len(run):
        return
    for one in run:
        shown = "".join(one.meaning.split())
        figures = sum(map(str.isalpha, shown)) < _MEANING_LETTERS * len(shown)
        yield Candidate(
            "glossary",
            (one.term, one.meaning),
            one.offset,
            range(one.block, one.block + 1),
            SYMBOLS if figures else "",
            least=_MEANING_WORDS,
        )


def _entries(block: Block, place: int) -> Iterator[_Entry]:
    """The entries of a block; none where some of its lines are neither an entry nor go on one."""
    if block.kind in ("code", "heading"):
        return
    if block.kind == "table":
        yield from _cells(block, place)
        return
    found: list[_Entry] = []
    above: Line | None = None  # a line that is a term if a definition stands below it
    for line, after in zip_longest(block.lines, block.lines[1:]):
        text = line.text.strip()
        below = _BELOW.fullmatch(text[:LONGEST_LINE]) if above is not None else None
        if below is not None and above is not None:
            rest = text[LONGEST_LINE:]
            found.append(_Entry(above.text.strip(), below["meaning"] + rest, above.offset, place))
            above = None
            continue
        if after is not None and _BELOW.fullmatch(after.text.strip()[:LONGEST_LINE]):
            if not _is_term(text):
                return
            above = line
            continue
        entry = _entry(line, place)
        if entry is not None:
            found.append(entry)
        elif (
            found
            and (line.text.startswith(" ") or block.kind == "paragraph")
            and not (found[-1].meaning.endswith((".", "。")))
        ):
            last = found.pop()
            found.append(last._replace(meaning=f"{last.meaning}\n{text}"))
        else:
            return
    yield from found


def _entry(line: Line, place: int) -> _Entry | None:
    text = line.text.strip()
    found = _ENTRY.fullmatch(text[:LONGEST_LINE])
    if found is None:
        return None
    term = (found["term"] or found["bare"]).strip(" *`_")
    meaning = found["meaning"] + text[LONGEST_LINE:]
    clock = term[-1:].isdigit() and meaning[:1].isdigit()
    if not _is_term(term) or meaning.startswith("//") or clock:
        return None
    return _Entry(term, meaning.lstrip("*_ "), line.offset, place)


def _is_term(text: str) -> bool:
    few = len(text) <= 60 and 0 < word_count(text) <= _TERM_WORDS
    paired = all(text.count(a) == text.count(b) for a, b in ("()", "[]"))
    clear = _NO_TERM.match(text) is None and not is_note(text)
    return few and paired and clear and text[-1] not in ".,;!?。"


def _cells(block: Block, place: int) -> Iterator[_Entry]:
    """The rows of a table of two columns, without its head."""
    rows = []
    for line in block.lines:
        found = _CELLS.fullmatch(line.text.strip()[: 2 * LONGEST_LINE])
        if found is None:
            return
        rows.append((found[1].strip(), found[2].strip(), line.offset))
    ruled = len(rows) > 1 and not set(rows[1][0]) - set("-: ")
    for term, meaning, offset in rows[2:] if ruled else rows:
        yield _Entry(term, meaning, offset, place)
