"""A document as blocks: headings, paragraphs, lists, code and tables, each with its offset.

Markdown, reStructuredText, wiki text and plain text are told apart by their marks alone. Every
pattern reads one line of at most `LONGEST_LINE` characters, so that a text costs time in
proportion to its length whatever it holds.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple, TypeAlias

from pipeline.sources.documents import Document

LONGEST_LINE = 300
"""Characters of a line that may be a heading, a label or a list item; longer ones are prose."""
_WRAPPED = 120  # characters; texts broken into lines by hand have none that is longer
_HEADING_LENGTH, _HEADING_WORDS = 80, 12

Kind: TypeAlias = Literal["heading", "paragraph", "list", "code", "table"]

_MARKDOWN_HEADING = re.compile(r"(#{1,6})\s+(\S.*?)(?:\s+#+)?\s*")
_WIKI_HEADING = re.compile(r"(=(?: ?=){0,5}) ?([^=\s][^=]*?) ?(=(?: ?=){0,5})")
_BOLD_LINE = re.compile(r"(?:\*\*|__)([^*_]+?)(?:\*\*|__)\s*:?")
_UNDERLINE = re.compile(r"(=|-|~|\^|\*)\1{2,}")
_ITEM = re.compile(r"\s{0,8}(?:[-*+•·]|\d{1,3}[.)]|[a-z][.)])\s+\S.*")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_WORD = re.compile(r"\w+")
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_OPENS = re.compile(r"[\"'“„«»‘(¿¡]*")
_ENDED = '.,;:!?…。，；：！？、"”»)|'
_QUESTION_MARKS = "?？؟"


class Line(NamedTuple):
    """A line without the blanks at its end, and its offset in the document in characters."""

    text: str
    offset: int


class Block(NamedTuple):
    """Lines that belong together; `text` is that of a heading without its marks, else all lines.

    `level` is the depth of a heading, 1 the highest; 0 where the text does not say.
    """

    kind: Kind
    text: str
    lines: tuple[Line, ...]
    level: int = 0

    @property
    def offset(self) -> int:
        return self.lines[0].offset


class Parsed(NamedTuple):
    """A document and its blocks; `title` is empty where it only repeats the name of a file."""

    document: Document
    title: str
    blocks: tuple[Block, ...]


def parse(document: Document) -> Parsed:
    """The document as blocks in their order."""
    title = " ".join(document.title.split())
    if _is_file_name(title, document):
        title = ""
    return Parsed(document, title, tuple(_named_headings(list(_blocks(document.text)))))


def word_count(text: str) -> int:
    """Words; of scripts that put no blanks between them two characters count as one."""
    dense = len(_DENSE.findall(text))
    return len(_WORD.findall(_DENSE.sub(" ", text) if dense else text)) + (dense + 1) // 2


def _is_file_name(title: str, document: Document) -> bool:
    """Titles that are names of files, or the beginning of the text, as cleanup gives them where
    a text has none."""
    stem = document.id.partition("#")[0].rpartition(":")[0] or document.id.partition("#")[0]
    return (
        not title
        or re.fullmatch(r"\S+\.[A-Za-z0-9]{1,8}", title) is not None
        or title in (stem, stem.rpartition(".")[0], stem.rpartition("/")[2].rpartition(".")[0])
        or len(title) > _HEADING_LENGTH
    )


def _blocks(text: str) -> Iterator[Block]:
    """Blocks by blank lines, fences and marks; headings without a mark are still paragraphs."""
    text_lines: list[Line] = []
    fence: list[Line] = []
    for line in _lines(text):
        if fence:
            fence.append(line)
            if _FENCE.match(line.text):
                yield _joined("code", fence)
                fence = []
        elif _FENCE.match(line.text):
            yield from _between_blanks(text_lines)
            text_lines, fence = [], [line]
        else:
            text_lines.append(line)
    yield from _between_blanks(text_lines + fence[1:])  # a fence that never closes is text


def _between_blanks(lines: Sequence[Line]) -> Iterator[Block]:
    for blank, group in groupby(lines, lambda line: not line.text.strip()):
        if not blank:
            yield from _split(list(group))


def _lines(text: str) -> Iterator[Line]:
    offset = 0
    for line in text.split("\n"):
        yield Line(line.rstrip(), offset)
        offset += len(line) + 1


def _split(group: Sequence[Line]) -> Iterator[Block]:
    """The blocks of lines between two blank ones."""
    if group and all(line.text.startswith(("    ", "\t")) for line in group):
        yield _joined("code", group)
        return
    wrapped = all(len(line.text) <= _WRAPPED for line in group[:-1])
    kind: Kind = "paragraph"
    lines: list[Line] = []
    for place, line in enumerate(group):
        marked = _marked(line, group[place + 1] if place + 1 < len(group) else None)
        new = _kind(line, kind if lines else "paragraph")
        ruled = _is_rule(line.text)
        ends = marked is not None or ruled or new != kind or (new == "paragraph" and not wrapped)
        if lines and ends:
            yield _joined(kind, lines)
            lines = []
        if marked is not None:
            yield marked
        elif not ruled:
            kind = new
            lines.append(line)
    if lines:
        yield _joined(kind, lines)


def _joined(kind: Kind, lines: Sequence[Line]) -> Block:
    return Block(kind, "\n".join(line.text.strip() for line in lines), tuple(lines))


def _marked(line: Line, after: Line | None) -> Block | None:
    """The heading that the line is by its own marks, or by a line drawn below it."""
    text = line.text.strip()
    if len(text) > LONGEST_LINE:
        return None
    if found := _MARKDOWN_HEADING.fullmatch(text):
        return Block("heading", _unmarked(found[2]), (line,), len(found[1]))
    if (found := _WIKI_HEADING.fullmatch(text)) and found[1] == found[3]:
        return Block("heading", found[2].strip(), (line,), found[1].count("="))
    if found := _BOLD_LINE.fullmatch(text):
        return Block("heading", found[1].strip().rstrip(":"), (line,), 0)
    if after is not None and _is_underline(after, line):
        return Block("heading", _unmarked(text), (line,), 1 if after.text[0] in "=*" else 2)
    return None


def _is_rule(text: str) -> bool:
    """Whether a line is drawn: three or more of one mark."""
    return len(text) > 2 and text.strip()[0] in "-*_=~#+" and len(set(text) - {" "}) == 1


def _is_underline(line: Line, above: Line) -> bool:
    """Whether a line only underlines the one above it, as long as that is or nearly."""
    if line.text.startswith(" ") or not _UNDERLINE.fullmatch(line.text[:200]):
        return False
    length = len(above.text.strip())
    short = length <= _HEADING_LENGTH and not above.text.startswith((" ", "|", "-", "=", "*"))
    return (
        short
        and length > 1
        and len(line.text) >= min(length, 3)
        and abs(len(line.text) - length) <= max(4, length)
    )


def _kind(line: Line, before: Kind) -> Kind:
    text = line.text
    if text.lstrip()[:1] == "|":
        return "table"
    if len(text) <= LONGEST_LINE and _ITEM.fullmatch(text):
        return "list"
    if before == "list" and text[:1] == " ":
        return "list"  # an item goes on
    return "paragraph"


def _unmarked(text: str) -> str:
    return re.sub(r"[*`]|\[([^\]]{1,200})\]\([^)]{0,300}\)", r"\1", text).strip().rstrip(":")


def _named_headings(blocks: list[Block]) -> list[Block]:
    """The blocks, and as headings also short lines that stand alone above a text or a heading."""
    for place in range(len(blocks) - 2, -1, -1):
        block = blocks[place]
        if _is_plain_heading(block, blocks[place + 1]):
            blocks[place] = block._replace(kind="heading", text=_unmarked(block.text))
    return blocks


def _is_plain_heading(block: Block, follows: Block) -> bool:
    if block.kind not in ("paragraph", "list") or len(block.lines) > 1:
        return False
    text = block.text
    if len(text) > _HEADING_LENGTH or text[-1] in _ENDED:
        return False
    if block.kind == "list" and not text[0].isdigit():
        return False
    first = text[_OPENS.match(text).end() :][:1]  # type: ignore[union-attr]
    starts = first.isdigit() or (first.isalpha() and not first.islower())
    words = text.lstrip("0123456789.) ")
    letters = sum(map(str.isalpha, words))
    return (
        starts
        and letters >= 0.6 * len(words) > 0
        and word_count(text) <= _HEADING_WORDS
        and (len(follows.text) >= _HEADING_LENGTH or follows.kind in ("code", "heading", "list"))
    )


def is_question(text: str) -> bool:
    """Whether a text ends as a question."""
    return text.rstrip("*_\"”»' ")[-1:] in tuple(_QUESTION_MARKS)
