"""Headings with the text below them, and titles with the sentences that say what they are.

The heading itself is what the user says: no word is added that the text does not have. Below the
title of a document a heading is put behind it, as "Lobster: Description", since the same headings
stand in many documents.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from pipeline.conversations.mining.blocks import Block, Parsed, is_question, word_count
from pipeline.conversations.mining.candidate import (
    BOILERPLATE,
    NO_ANSWER,
    NUMBERED,
    TOO_LONG,
    Candidate,
    Taken,
    answer_below,
    ends_whole,
    is_list_heading,
    is_numbering,
    sentence_ends,
    up_to,
)

_LEAST = 8  # words of a paragraph that answers
_DEFINITION = 500  # characters of the sentences that say what a title is
_SEARCHED, _NEAR = 400, 90  # characters of the text, and of a sentence, that may name the title
_TITLE_WORD = re.compile(r"\w{2,}|[\u3040-\u9fff]")
_NUMBERS = re.compile(r"^(?:(?:\d{1,2}\.)+\d{0,2}\)?|\d{1,2}\)|[IVXLC]{1,7}[.)])\s+(?=\S)")


def definitions(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """The title of a document, with its first sentences where they name it near their start."""
    top = _top(parsed)
    title = parsed.title or (parsed.blocks[top].text if top is not None else "")
    if not title or is_numbering(title) or is_question(title):
        return
    for place, block in enumerate(parsed.blocks[: (top or 0) + 3]):
        if block.kind == "paragraph" and not taken[place] and block.text != title:
            start = _named_at(block.text, title)
            if start is None:
                return
            answer = _without_stub(up_to(block.text[start:], _DEFINITION))
            reason = "" if answer else TOO_LONG
            yield Candidate(
                "title",
                (title, answer),
                block.offset,
                range(place, place + 1),
                reason,
                least=_LEAST,
            )
            return


def _top(parsed: Parsed) -> int | None:
    """The heading that stands for the whole document: the first block, if it is one."""
    first = next(iter(parsed.blocks), None)
    return 0 if first is not None and first.kind == "heading" else None


def _named_at(text: str, title: str) -> int | None:
    """Where the sentence begins that names the title, if it is one of the first three: half of the
    title's words stand near its beginning."""
    words = {word.casefold() for word in _TITLE_WORD.findall(title)}
    head = text[:_SEARCHED]
    start = 0
    for end in [*sentence_ends(head), len(head)][:3]:
        near = head[start : min(end, start + _NEAR)]
        said = {word.casefold() for word in _TITLE_WORD.findall(near)}
        if words and 2 * len(words & said) >= len(words):
            return start
        start = end + len(head[end:]) - len(head[end:].lstrip())
    return None


def _without_stub(answer: str) -> str:
    """An answer up to a sentence of one or two words, which is a heading in texts that were
    flattened, and without a last sentence that is not whole."""
    ends = sentence_ends(answer)
    for begin, end in pairwise(ends):
        if word_count(answer[begin:end]) <= 2:
            return answer[:begin]
    return answer[: ends[-1]] if ends else ""


def sections(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Every heading with the text below it, the last title above it put in front."""
    above: list[Block] = []
    top = _top(parsed)
    for place, block in enumerate(parsed.blocks):
        if block.kind != "heading":
            continue
        if block.level:
            above = [one for one in above if one.level and one.level < block.level]
            above.append(block)
        if taken[place]:
            continue
        answer, blocks = answer_below(parsed, place + 1, taken)
        question = _question(parsed, block, above, is_top=place == top and not parsed.title)
        heading = _NUMBERS.sub("", block.text, count=1)
        reason = ""
        if is_numbering(block.text):
            reason = NUMBERED
        elif is_list_heading(heading):
            reason = BOILERPLATE
        elif not answer or not _is_whole(answer, parsed.blocks[blocks.stop - 1]):
            reason = NO_ANSWER
        yield Candidate(
            "heading",
            (question, answer),
            block.offset,
            range(place, blocks.stop if not reason else place + 1),
            reason,
            least=_LEAST,
        )


def _is_whole(answer: str, last: Block) -> bool:
    return last.kind in ("list", "code") or ends_whole(answer)


def _question(parsed: Parsed, block: Block, above: list[Block], *, is_top: bool) -> str:
    """The heading, behind the title of the document or the heading that it stands below."""
    heading = _NUMBERS.sub("", block.text, count=1)
    first = parsed.blocks[0]
    title = parsed.title or (first.text if first.kind == "heading" else "")
    if not title and len(above) > 1:
        title = above[0].text
    alone = is_top or not title or title.casefold() in heading.casefold() or is_question(heading)
    if alone or word_count(title) > 12:
        return heading
    return f"{title}: {heading}"
