"""Raw documents one by one, and what cleaning makes of each. Nothing is written."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pipeline.cleaner.steps import RawDocument, Rejection
from pipeline.cleaner.worker import clean_item, cleaning_steps, read_document
from pipeline.corpora import source_called
from pipeline.inspection.pages import FilePosition, HeldPage, Page, open_page
from pipeline.inspection.trace import Mark, Offsets, Trace, traced
from pipeline.inspection.trace_article import traced_article
from pipeline.options.config import Config
from pipeline.sources.items import Input, Item
from pipeline.sources.lines import Damage
from pipeline.sources.records import RejectedError, decode, untyped
from pipeline.sources.stage import raw_inputs
from utils.artefacts import read_manifest

_HELD_AT_ONCE = 4  # files
_SEARCHED = 20_000  # documents looked through for a title at a time


class DocumentPosition(NamedTuple):
    """A document: the number of its file, from 0, and where it lies in it."""

    file: int
    place: FilePosition


class InspectedDocument(NamedTuple):
    """A raw document, what cleaning makes of it (also where it is `rejected`, which says why),
    and which spans went by which rule; `origin` is where each character of `text` came from."""

    title: str
    raw: str
    text: str
    marks: list[Mark]
    origin: Offsets
    rejected: str


def raw_files(config: Config) -> list[Input]:
    """The raw files of the configured source; of `files`, those that cleanup last read.

    Raises:
        UsageError: there are none; names the command that fetches them.
    """
    source, given = source_called(config.source), config.cleanup.input
    if given is None and source.where == "yours":
        for test in (False, True):
            manifest = read_manifest(config.cleaned_dir(source.name, test=test))
            there = [Path(i.path) for i in manifest.inputs] if manifest else []
            if there := [path for path in there if path.exists()]:
                given = there
                break
    field = config.cleanup.text_field or ""
    inputs = raw_inputs(source, config, given)
    return [msgspec.structs.replace(item, text_field=field) for item in inputs]


class Corpus:
    """The documents of some raw files in order."""

    def __init__(self, files: Sequence[Input]) -> None:
        self.files = files
        self._pages: dict[int, Page] = {}

    def _page(self, file: int) -> Page:
        if file not in self._pages:
            held = [number for number, page in self._pages.items() if isinstance(page, HeldPage)]
            if len(held) >= _HELD_AT_ONCE:
                del self._pages[held[0]]
            self._pages[file] = open_page(self.files[file])
        return self._pages[file]

    def at(self, number: int, go_on: Callable[[], bool] = lambda: True) -> DocumentPosition | None:
        """Document `number` of all, from 0; None where there are fewer, or `go_on` said no."""
        for file in range(len(self.files)):
            found = self._page(file).at(number, go_on)
            if isinstance(found, FilePosition):
                return DocumentPosition(file, found)
            number -= found
            if not go_on():
                return None
        return None

    def after(self, position: DocumentPosition) -> DocumentPosition | None:
        """The next document, None behind the last."""
        place: FilePosition | None = position.place
        for file in range(position.file, len(self.files)):
            if place := self._page(file).after(place):
                return DocumentPosition(file, place)
        return None

    def before(self, position: DocumentPosition) -> DocumentPosition | None:
        """The document before, None before the first."""
        place: FilePosition | None = position.place
        for file in range(position.file, -1, -1):
            if place := self._page(file).before(place):
                return DocumentPosition(file, place)
        return None

    def anywhere(self, random: Random) -> DocumentPosition | None:
        """Some document; larger files come up more often."""
        weights = [source.bytes for source in self.files]
        if not sum(weights):
            return None
        [file] = random.choices(range(len(weights)), weights)
        place = self._page(file).anywhere(random)
        return DocumentPosition(file, place) if place else None

    def titled(
        self, words: str, position: DocumentPosition, go_on: Callable[[], bool] = lambda: True
    ) -> tuple[DocumentPosition, bool]:
        """The next document behind `position` whose title holds `words`, and True; or the last of
        the 20,000 documents looked through in vain, and False."""
        for _ in range(_SEARCHED):
            following = self.after(position) if go_on() else None
            if following is None:
                break
            position = following
            if words.casefold() in self.title(position).casefold():
                return position, True
        return position, False

    def item(self, position: DocumentPosition) -> Item | Damage:
        """What lies at `position`."""
        return self._page(position.file).item(position.place)

    def title(self, position: DocumentPosition) -> str:
        """The title of a document, or its file's name."""
        item, name = self.item(position), self.files[position.file].name
        if isinstance(item, Damage):
            return name
        if not item.is_row:
            return item.title or name
        try:
            record = decode(item.content) if isinstance(item.content, bytes) else None
        except RejectedError:
            return name
        if record is None:
            return str(_row(item).get("name") or _row(item).get("title") or name)
        return record.name or record.title or name

    def where(self, position: DocumentPosition) -> str:
        """File and offset, as in `rejected_*.jsonl`."""
        return f"{self.files[position.file].name}:{position.place.offset}"

    def find(self, where: str, detail: str = "") -> DocumentPosition | None:
        """The document at FILE:OFFSET; of several there, the one that `detail` names."""
        name, _, offset = where.rpartition(":")
        for file, source in enumerate(self.files):
            if source.name == name and offset.isdigit():
                place = self._page(file).near(int(offset), detail)
                return DocumentPosition(file, place) if place else None
        return None

    def look(self, position: DocumentPosition, min_words: int) -> InspectedDocument:
        """The document at `position` beside what cleaning makes of it."""
        item, source = self.item(position), self.files[position.file]
        trace, rejected = _traced(item, source), ""
        text, origin = trace.text, trace.origin
        cleaned = clean_item(item, source, cleaning_steps(min_words, {}))
        if isinstance(cleaned, Rejection):
            rejected = ": ".join(filter(None, (cleaned.reason, cleaned.detail)))
        else:
            text = cleaned.text
        if text != trace.text:  # cleaning looks again only at lines that changed: one in thousands
            origin = np.linspace(0, len(trace.raw), len(text), dtype=np.int64)
        return InspectedDocument(
            self.title(position), trace.raw, text, trace.marks, origin, rejected
        )


def _row(item: Item) -> dict[str, Any]:
    if not isinstance(item.content, bytes):
        return item.content
    row = untyped(item.content)
    return row if isinstance(row, dict) else {}


def _with_unread(trace: Trace, unread: int) -> Trace:
    """A trace that also says how much text of other fields was not read."""
    if not unread:
        return trace
    note = f"\n\n({unread} characters of text in other fields)"
    end = len(trace.raw)
    mark = Mark(end, end + len(note), "other_text_field")
    return trace._replace(raw=trace.raw + note, marks=[*trace.marks, mark])


def _traced(item: Item | Damage, source: Input) -> Trace:
    """What the rules do to an item; one that cannot be read is shown as it is."""
    if isinstance(item, Damage):
        return Trace(item.detail, "", [], np.empty(0, np.int64))
    document = read_document(item, source)
    with suppress(RejectedError):
        if isinstance(document, RawDocument):
            if document.record is not None:
                trace = traced_article(document.record, _row(item), document.rules)
            else:
                trace = traced(document.text, document.rules)
            return _with_unread(trace, document.unread)
    content = item.content if isinstance(item.content, bytes) else str(item.content).encode()
    return Trace(content.decode(errors="replace"), "", [], np.empty(0, np.int64))
