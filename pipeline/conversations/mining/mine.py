"""Conversations mined from the documents of a corpus, rule by rule.

Rules are asked in the order of their table; what one has used, the next does not see. Nothing is
held but one document, its candidates, and a number for each pair that was found.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from pipeline.conversations.conversation import Conversation, Turn, evenly
from pipeline.conversations.mining import (
    dialogue,
    glossary,
    headings,
    letters,
    questions,
    speech,
)
from pipeline.conversations.mining.blocks import parse
from pipeline.conversations.mining.candidate import (
    DUPLICATE,
    OVER_LIMIT,
    Candidate,
    Rule,
    Taken,
    fault,
)
from pipeline.conversations.mining.code import code_questions, is_code
from pipeline.sources.documents import Document

RULES: tuple[Rule, ...] = (
    questions.labelled,
    letters.letters,
    questions.headings,
    dialogue.dialogue,
    questions.lines,
    glossary.glossary,
    speech.speech,
    headings.definitions,
    headings.sections,
)
"""From the marks that say most to those that say least."""

CODE = "source_code"
"""Reason of a document that is code without docstrings."""

_SHOWN = 200  # characters of it
LIMIT = 100
"""Conversations of one document at most, so that no document outweighs the others."""
_REMEMBERED = 1_000_000
"""Pairs compared for duplicates at a time: about 80 MB, so that memory stays flat."""


class NotMined(NamedTuple):
    """A text that a rule proposed and that is no conversation: the rule, why, where, the turns."""

    rule: str
    reason: str
    where: str
    texts: tuple[str, ...]


Mined: TypeAlias = Conversation | NotMined


def mine(documents: Iterable[Document], limit: int = LIMIT) -> Iterator[Mined]:
    """The conversations that the rules find in documents, and what they give up and why.

    `limit` is of conversations of one document; of more, those are kept that lie evenly over it.
    The same turns are found once. Conversation.where is the document's id and the offset of the
    first turn in characters, as `id:offset`; of source code the id.
    """
    seen: set[bytes] = set()
    for document in documents:
        if is_code(document):
            yield from _of_code(document, seen)
            continue
        good: list[Candidate] = []
        for candidate in candidates(document):
            reason = fault(candidate)
            if not reason and (key := _key(candidate.texts)) in seen:
                reason = DUPLICATE
            if reason:
                yield _given_up(document, candidate, reason)
                continue
            if len(seen) >= _REMEMBERED:
                seen.clear()
            seen.add(key)
            good.append(candidate)
        good.sort(key=lambda one: one.offset)
        kept = set(map(id, evenly(good, limit)))
        for candidate in good:
            if id(candidate) in kept:
                yield _conversation(document, candidate)
            else:
                yield _given_up(document, candidate, OVER_LIMIT)


def _of_code(document: Document, seen: set[bytes]) -> Iterator[Mined]:
    """What a module of Python says of itself, or that the document is code."""
    asked = 0
    for conversation in code_questions(document):
        asked += 1
        texts = tuple(turn.content for turn in conversation.turns)
        if (key := _key(texts)) in seen:
            yield NotMined(conversation.rule, DUPLICATE, conversation.where, texts)
            continue
        seen.add(key)
        yield conversation
    if not asked:
        yield NotMined("code", CODE, f"{document.id}:0", (document.text[:_SHOWN],))


def candidates(document: Document) -> Iterator[Candidate]:
    """What the rules propose for one document, in the order of the rules."""
    parsed = parse(document)
    taken: Taken = bytearray(len(parsed.blocks))
    for rule in RULES:
        for candidate in list(rule(parsed, taken)):
            yield candidate
            if not candidate.reason:
                for place in candidate.blocks:
                    taken[place] = 1


def _key(turns: tuple[str, ...]) -> bytes:
    """A number for turns that are the same but for blanks and case."""
    text = "\0".join(" ".join(text.split()).casefold() for text in turns)
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()


def _conversation(document: Document, candidate: Candidate) -> Conversation:
    turns = tuple(
        Turn("assistant" if place % 2 else "user", text.strip())
        for place, text in enumerate(candidate.texts)
    )
    return Conversation(turns, f"{document.id}:{candidate.offset}", candidate.rule)


def _given_up(document: Document, candidate: Candidate, reason: str) -> NotMined:
    return NotMined(candidate.rule, reason, f"{document.id}:{candidate.offset}", candidate.texts)
