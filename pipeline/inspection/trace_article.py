"""A structured article as readable text, with what cleaning leaves out of it and why.

The walk through the sections is the real one, only that it also notes what it passes by. Fields
that the cleaner never decodes (infoboxes, tables, references ...) are shown as left out.
"""

from typing import Any, NamedTuple

import numpy as np

from pipeline.cleaner.naming import Language, language
from pipeline.cleaner.rule_engine import RuleSet
from pipeline.cleaner.rules import WIKI
from pipeline.cleaner.wikimedia import Walk, plain
from pipeline.inspection.trace import Mark, Trace, traced
from pipeline.sources.records import Part, Record, as_parts

# Fields others the article's own text, and the name under which they are left out.
_OTHER_FIELDS = {
    "description": "description",
    "infobox": "infobox",
    "infoboxes": "infobox",
    "tables": "table",
    "references": "reference",
    "image": "image",
}
_ARTICLE_FIELDS = ("name", "title", "abstract", "sections", "article_sections")
_LONGEST = 20_000  # characters of one field shown
_DEEPEST = 50  # levels shown by indentation


class Block(NamedTuple):
    """A heading, paragraph, list item or field; `rule` left it out, empty where it stays."""

    text: str
    rule: str = ""
    item: bool = False


def traced_article(record: Record, row: dict[str, Any], rules: RuleSet = WIKI) -> Trace:
    """A record in reading order, and what cleaning does to it; `row` is the same, undecoded."""
    title = plain(record.name or record.title)
    parts = as_parts(record.sections or record.article_sections)
    walk = _Noted(parts, record.abstract or "", language(record.language))
    blocks = walk.blocks()
    others = [
        Block(text, rule)
        for field, rule in _OTHER_FIELDS.items()
        if (text := _shown(row.get(field))[:_LONGEST])
    ]
    rest = ", ".join(
        sorted(k for k, v in row.items() if v and k not in {*_OTHER_FIELDS, *_ARTICLE_FIELDS})
    )
    if rest:
        others.append(Block(f"({rest})", "metadata"))
    first = [Block(title)] if title else []
    return _composed([*first, *walk.noted, *others], [title, *blocks] if title else blocks, rules)


def _composed(shown: list[Block], kept: list[str], rules: RuleSet) -> Trace:
    """One trace from the blocks as shown and the text of those that reach the rules."""
    text = "\n\n".join(kept)
    raw: list[str] = []
    marks: list[Mark] = []
    where = np.zeros(len(text) + 1, dtype=np.int64)  # in the raw text, of each character of text
    at = cursor = 0
    for number, block in enumerate(shown):
        if number:
            gap = "\n" if block.item and shown[number - 1].item else "\n\n"
            raw.append(gap)
            at += len(gap)
        found = text.find(block.text, cursor) if not block.rule else -1
        if found >= 0:
            where[cursor:found] = at
            cursor = found + len(block.text)
            where[found:cursor] = np.arange(at, at + len(block.text))
        else:
            marks.append(Mark(at, at + len(block.text), block.rule))
        raw.append(block.text)
        at += len(block.text)
    where[cursor:] = at
    nested = traced(text, rules)
    for mark in nested.marks:
        start = int(where[mark.start])
        end = int(where[mark.end - 1]) + 1 if mark.end > mark.start else start
        marks.append(Mark(start, end, mark.rule, mark.became))
    return Trace("".join(raw), nested.text, sorted(marks), where[nested.origin])


class _Noted(Walk):
    """The cleaner's walk, which notes each block it keeps or leaves out."""

    def __init__(self, parts: list[Part], lead: str, names: Language) -> None:
        super().__init__(parts, lead, {}, names)
        lines = list(filter(None, map(str.strip, lead.split("\n"))))
        self.noted = [Block(line, "repeated_abstract") for line in lines]
        self._noted_headings: list[int] = []  # where those held back stand in `noted`

    def _open_with(self, lead: list[str]) -> None:
        super()._open_with(lead)
        self.noted[:] = [Block(line) for line in lead]

    def _enter(self, part: Part, *, root: bool) -> bool:
        heading = plain(part.name)
        reason = self._left_out(part, heading, root=root)
        if reason is not None:
            self.noted.append(Block(_part_text(part) or f"({reason})", reason))
        elif heading and not self._opens(part):
            self._noted_headings.append(len(self.noted))
            self.noted.append(Block(heading))
        return super()._enter(part, root=root)

    def _leave(self, above: int) -> None:
        for place in self._noted_headings[above:]:
            self.noted[place] = Block(self.noted[place].text, "empty_section")
        super()._leave(above)
        del self._noted_headings[len(self._headings) :]

    def _place(self, text: str, depth: int, *, listed: bool) -> None:
        rule = "caption_of_nothing"
        before = self._removed.get(rule, [0])[0]
        super()._place(text, depth, listed=listed)
        del self._noted_headings[len(self._headings) :]
        kept = self._removed.get(rule, [0])[0] == before
        shown = f"{'  ' * (depth - 1)}- {text}" if listed else text
        self.noted.append(Block(shown, "" if kept else rule, listed))


def _part_text(part: Part) -> str:
    """All text in a part, in reading order."""
    lines: list[str] = []
    stack: list[tuple[Part, int]] = [(part, 0)]
    while stack:
        here, depth = stack.pop()
        name, value = plain(here.name), plain(here.value)
        line = ": ".join(filter(None, (name, value)))
        if line:
            lines.append("  " * min(depth, _DEEPEST) + line)
        inside = as_parts(here.has_parts)
        stack += [(nested, depth + bool(line)) for nested in reversed(inside)]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """The text in a value of any shape: names, values, and what they hold."""
    lines: list[str] = []
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        here, depth = stack.pop()
        if isinstance(here, str) and here:
            lines.append("  " * min(depth, _DEEPEST) + here)
        elif isinstance(here, list):
            stack += [(nested, depth) for nested in reversed(here)]
        elif isinstance(here, dict):
            words = (here.get(key) for key in ("name", "value"))
            line = ": ".join(word for word in words if isinstance(word, str) and word)
            if line:
                lines.append("  " * min(depth, _DEEPEST) + line)
            more = ("text", "caption", "alternative_text", "headers", "rows", "has_parts")
            stack += [(here[k], depth + bool(line)) for k in reversed(more) if here.get(k)]
    return "\n".join(lines)
