"""Cleaning as a list of steps, each of which changes a document or rejects it with a reason.

Here is what a step is, and the steps that any text must pass: UTF-8, some text, enough words, not
seen before. Every other family has a file: the selection of an article, the rules. Their order is
in `pipeline.cleaner.worker.cleaning_steps`. A step may keep state, such as what it counts or the
texts it has seen; each unit of work has steps of its own.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pipeline.cleaner.rule_engine import RuleSet
from pipeline.sources.documents import Document
from pipeline.sources.records import Record
from pipeline.sources.rejection import Rejection as Rejection

_REMEMBERED = 1_000_000
"""Texts compared for duplicates at a time: about 80 MB, so that memory stays flat."""
_WORD_CHARACTERS = 10  # count as a word at least, for the scripts that do without spaces


class RawDocument(msgspec.Struct, frozen=True):
    """A document between reading and the last step.

    `rules` are those of its kind of text, `record` is what an article is still to be selected
    from, and `titled` says that the first line of the text is its title. `unread` counts the
    characters of other fields that could have been the text.
    """

    id: str
    title: str
    text: str
    rules: RuleSet
    record: Record | None = None
    titled: bool = False
    unread: int = 0


class Step(Protocol):
    """One step of cleaning."""

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        """The document after this step, the same object where nothing changes, or why it goes."""
        ...


def apply_steps(steps: Sequence[Step], document: RawDocument) -> Document | Rejection:
    """The clean document, or the rejection by the first step that rejects it."""
    for step in steps:
        result = step.apply(document)
        if isinstance(result, Rejection):
            return result
        document = result
    return Document(document.id, document.title, document.text)


class RequireUtf8:
    """Rejects what UTF-8 cannot hold: values that were not read from bytes may have surrogates."""

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        try:
            for text in (document.id, document.title, document.text):
                text.encode()
        except UnicodeEncodeError as error:
            return Rejection("lone_surrogate", detail=str(error))
        return document


class RequireText:
    """Rejects a document that has nothing but blanks."""

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        if not document.text.strip():
            return Rejection("no_text", detail="nothing is left after cleaning")
        return document


class RequireWords:
    """Rejects stubs: texts of fewer than `least` words."""

    def __init__(self, least: int) -> None:
        self._least = least

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        text = document.text
        if len(text) < _WORD_CHARACTERS * self._least and len(text.split()) < self._least:
            return Rejection("stub", detail=f"{document.title}: {len(text.split())} words")
        return document


class RejectDuplicates:
    """Rejects a text that came before, among the last million or less."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        key = hash(document.text)
        if key in self._seen:
            return Rejection("duplicate", detail=document.title)
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(key)
        return document
