"""Wikimedia Enterprise structured contents: from a nested record to an article in reading order.

The kinds of 2024-03 to 2025-11 are accepted: `sections` or `article_sections`, as parts or as a
JSON string, `has_parts` likewise, `value` as text or as a list of runs, explicit nulls.
"""

import re
from collections.abc import Iterator

import msgspec

from pipeline.cleaner.naming import Language, language
from pipeline.cleaner.rule_engine import Removed, count
from pipeline.cleaner.steps import RawDocument, Rejection
from pipeline.sources.records import Part, Record, RejectedError, as_parts

_LEFT_OUT = frozenset({"infobox", "image", "table", "field", "reference", "citation"})
_ALIKE, _COMPARED = 40, 800  # characters of two leads
_SHARED = 0.6
_DEEPEST = 50  # levels of a list that are indented further; a million of them are no article
_NO_TABLE = re.compile(r"(?:(?:Sources?|Source for [^:\n]{1,60}|References?|Notes?): *){1,6}")


class SelectArticle:
    """The step that makes the text of an article from its record; other documents pass.

    What it leaves out is counted in `removed`.
    """

    def __init__(self, removed: Removed) -> None:
        self._removed = removed

    def apply(self, document: RawDocument) -> RawDocument | Rejection:
        if document.unread:
            count(self._removed, "other_text_field", 1, document.unread)
        if document.record is None:
            return document
        try:
            title, text = article(document.record, self._removed)
        except RejectedError as error:
            return Rejection(error.reason, detail=error.detail)
        return msgspec.structs.replace(
            document, title=title, text=text, record=None, titled=bool(title)
        )


def article(record: Record, removed: Removed) -> tuple[str, str]:
    """Title and text (title line, lead, headings, paragraphs, list items) of an article, with
    the debris that rules remove.

    Raises:
        RejectedError: redirect, disambiguation, no_text, not_json.
    """
    title = plain(record.name or record.title)
    names = language(record.language)
    lead = record.abstract or ""
    parts = as_parts(record.sections or record.article_sections)
    if lead and names.is_redirect(lead, alone=not parts):
        raise RejectedError("redirect", lead[:200])
    blocks = Walk(parts, lead, removed, names).blocks()
    if not blocks:
        raise RejectedError("no_text", "no lead and no section with text")
    if names.is_redirect(blocks[0], alone=len(blocks) == 1):
        raise RejectedError("redirect", blocks[0][:200])
    described = names.is_described_so(record.description or "")
    if described or names.is_disambiguation(title, blocks[0], _marks(record)):
        raise RejectedError("disambiguation", title)
    return title, "\n\n".join([title, *blocks] if title else blocks)


def _marks(record: Record) -> Iterator[str]:
    """The names of the templates and categories of an article."""
    for value in (record.templates, record.categories):
        for mark in value if isinstance(value, list) else ():
            name = mark.get("name") if isinstance(mark, dict) else mark
            if isinstance(name, str):
                yield name


class Walk:
    """A section tree in reading order: headings, paragraphs and whole lists, one string each.

    It keeps its own stack, so no depth of nesting is too much, and holds a heading back until
    something stands under it.
    """

    def __init__(self, parts: list[Part], lead: str, removed: Removed, names: Language) -> None:
        self._parts = parts
        self._lead = lead
        self._names = names
        self._removed = removed
        self._out: list[str] = []
        self._headings: list[str] = []
        self._items: list[str] = []
        first = _text_in(parts[0]) if parts and _is_abstract(parts[0]) else ""
        self._leads = [text for text in (lead, first) if text]

    def blocks(self) -> list[str]:
        """The blocks; what is left out is counted."""
        parts, headings = self._parts, self._headings
        if len(self._leads) < 2 or not _same_text(*self._leads):
            self._open_with(list(filter(None, map(str.strip, self._lead.split("\n")))))
        # A level: its parts, how deep in lists it is, and how many headings stood above it.
        stack = [(iter(parts), 0, 0)]
        while stack:
            level, depth, above = stack[-1]
            for part in level:
                if part.type == "section" or part.type in _LEFT_OUT:
                    before = len(headings)
                    if self._enter(part, root=len(stack) == 1) and part.has_parts:
                        stack.append((iter(as_parts(part.has_parts)), 0, before))
                        break
                    self._leave(before)
                    continue
                text = running(part.value)
                if text:
                    self._place(text, depth, listed=part.type == "list_item")
                if part.has_parts:
                    inside = min(depth + 1, _DEEPEST) if part.type == "list" else depth
                    stack.append((iter(as_parts(part.has_parts)), inside, len(headings)))
                    break
            else:
                stack.pop()
                self._leave(above)
        self._end_list()
        return self._out

    def _open_with(self, lead: list[str]) -> None:
        """Take the record's own lead, where no section repeats it."""
        self._out += lead

    def _enter(self, part: Part, *, root: bool) -> bool:
        """Whether a section belongs to the article; its heading is noted."""
        heading = plain(part.name)
        reason = self._left_out(part, heading, root=root)
        if reason is not None:
            count(self._removed, reason)
            return False
        if heading and not self._opens(part):
            self._headings.append(heading)
        return True

    def _opens(self, part: Part) -> bool:
        """Whether a section is the lead, which has no heading."""
        return part is self._parts[0] and _is_abstract(part)

    def _left_out(self, part: Part, heading: str, *, root: bool) -> str | None:
        """The rule that leaves `part` out with all it holds, None where it stays."""
        if part.type != "section":
            return part.type or ""
        if root and heading == "Abstract" and not self._opens(part):
            text = _text_in(part)
            if not text or any(_same_text(text, lead) for lead in self._leads):
                return "repeated_abstract"
        return "apparatus_section" if self._names.is_apparatus(heading, root=root) else None

    def _leave(self, above: int) -> None:
        """A section ends; when its heading is still held back, nothing stood under it."""
        if len(self._headings) > above:
            del self._headings[above:]
            count(self._removed, "empty_section")

    def _place(self, text: str, depth: int, *, listed: bool) -> None:
        """Put a paragraph or list item under the headings held back."""
        if text[-1] == ":" and _NO_TABLE.fullmatch(text):
            count(self._removed, "caption_of_nothing", 1, len(text))
            return
        if self._headings or not listed:
            self._end_list()
            self._out += self._headings
            self._headings.clear()
        if listed:
            self._items.append(f"{'  ' * (depth - 1)}- {text}")
        else:
            self._out.append(text)

    def _end_list(self) -> None:
        if self._items:
            self._out.append("\n".join(self._items))
            self._items.clear()


def _is_abstract(part: Part) -> bool:
    return part.type == "section" and part.name == "Abstract"


def _text_in(part: Part) -> str:
    """All text in a part, to any depth."""
    found, stack = [], [part]
    while stack:
        part = stack.pop()
        found.append(running(part.value))
        stack += reversed(as_parts(part.has_parts))
    return "\n".join(filter(None, found))


def _same_text(one: str, other: str) -> bool:
    """Whether two leads say the same: they begin alike, or share most groups of three letters."""
    if one[:_ALIKE].strip() == other[:_ALIKE].strip():
        return True
    groups, others = (
        {text[place : place + 3] for place in range(min(len(text), _COMPARED))}
        for text in (one, other)
    )
    return len(groups & others) >= _SHARED * min(len(groups), len(others))


def plain(value: object) -> str:
    """A name as one line."""
    return running(value).replace("\n", " ")


def running(value: object) -> str:
    """A value as text, in the lines it has; a list of runs is joined."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        runs = (r.get("value") or r.get("text") if isinstance(r, dict) else r for r in value)
        return " ".join(run.strip() for run in runs if isinstance(run, str)).strip()
    return ""
