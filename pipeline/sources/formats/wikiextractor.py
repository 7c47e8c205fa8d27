"""Files of WikiExtractor: articles between `<doc id=… url=… title=…>` and `</doc>`.

Each becomes the row that its --json form has, so both forms give the same documents.
"""

import re
from collections.abc import Iterable, Iterator
from html import unescape

from pipeline.sources.items import Item
from pipeline.sources.lines import MAX_LINE, Damage, Line

_OPENING = re.compile(rb'<doc id="(.*?)"(?: \w+="[^"]*")*? url="(.*?)" title="(.*)">\s*')
_CLOSING = b"</doc>"
_SHOWN = 80  # bytes


def opens_article(line: bytes) -> bool:
    """Whether a line begins an article."""
    return _OPENING.fullmatch(line) is not None


def articles(lines: Iterable[Line | Damage], longest: int = MAX_LINE) -> Iterator[Item | Damage]:
    """A row per article; text outside of any, and an article over `longest` bytes, are damage."""
    number = 0
    article: _Article | None = None
    for line in lines:
        if isinstance(line, Damage):
            yield line
            continue
        opening = _OPENING.fullmatch(line.data)
        if opening or line.data.strip() == _CLOSING:
            if article is not None:
                number += 1
                yield article.item(number)
            article = _Article(line.offset, opening, longest) if opening else None
        elif article is not None:
            article.take(line.data)
        elif line.data.strip():
            shown = line.data[:_SHOWN].decode(errors="replace")
            yield Damage("outside_article", line.offset, f"between two articles: {shown}")
    if article is not None:
        yield article.item(number + 1)


class _Article:
    """An article being read."""

    def __init__(self, offset: int, opening: re.Match[bytes], longest: int) -> None:
        self._offset = offset
        self._fields = [unescape(value.decode(errors="replace")) for value in opening.groups()]
        self._lines: list[bytes] = []
        self._bytes = 0
        self._longest = longest

    def take(self, line: bytes) -> None:
        self._bytes += len(line) + 1
        if self._bytes <= self._longest:
            self._lines.append(line)

    def item(self, number: int) -> Item | Damage:
        if self._bytes > self._longest:
            return Damage("too_long_line", self._offset, f"an article of {self._bytes} bytes")
        identifier, url, title = self._fields
        try:
            lines = b"\n".join(self._lines).decode().strip("\n").split("\n")
        except UnicodeDecodeError as error:
            return Damage("not_utf8", self._offset, str(error))
        if lines[0].strip() == title.strip():  # the title again, which is a field of its own
            del lines[0]
        row = {"id": identifier, "url": url, "title": title, "text": "\n".join(lines).strip("\n")}
        return Item(self._offset, number, row, True)
