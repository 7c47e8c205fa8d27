"""Cleaning of one unit of work, one file or a bundle of small ones, in this process.

Each item read goes through the steps. A unit writes `cleaned_<name>` and `rejected_<name>.jsonl`
and counts everything: what was read is either kept or rejected under a reason, and each removed
span is counted under its rule.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from pipeline.cleaner.naming import canonical
from pipeline.cleaner.rule_engine import Removed
from pipeline.cleaner.rules import CODE, PLAIN, WIKI, WIKI_ANY_LANGUAGE, ApplyRules
from pipeline.cleaner.steps import (
    RawDocument,
    RejectDuplicates,
    Rejection,
    RequireText,
    RequireUtf8,
    RequireWords,
    Step,
    apply_steps,
)
from pipeline.cleaner.wikimedia import SelectArticle
from pipeline.sources.documents import Document
from pipeline.sources.items import Input, Item, ReadingNotes
from pipeline.sources.lines import MAX_LINE, Damage
from pipeline.sources.raw import read_items
from pipeline.sources.records import (
    RejectedError,
    convert,
    decode,
    document_id,
    text_of,
    untyped,
)
from pipeline.workers import summarized
from utils.files import DurableFile, Written, durable_file

TEST_ARTICLES = 50_000
CHANGED = "changed_while_read"
"""The rejection of a file that something wrote to meanwhile: none of it is kept."""
_BUFFER = 1 << 20
_SHOWN = 20  # damaged places in a report
_TICK = 0.1  # seconds
_READ_PER_PACKED = 4  # uncompressed bytes in a byte of packed text, about

# Rejections that say nothing about the state of the file.
_ORDINARY = frozenset({"redirect", "stub", "no_text", "disambiguation", "duplicate"})
_encoder = msgspec.json.Encoder()


def cleaning_steps(min_words: int, removed: Removed) -> list[Step]:
    """The steps of cleaning in their order; what rules take away is counted in `removed`."""
    return [
        SelectArticle(removed),
        ApplyRules(removed),
        RequireUtf8(),
        RequireText(),
        RequireWords(min_words),
        RejectDuplicates(),
    ]


class CleaningUnit(msgspec.Struct, frozen=True):
    """One large file, or a bundle of small ones, and the folder its result is written to."""

    name: str
    folder: Path
    inputs: list[Input]
    format: str
    min_words: int
    test: bool
    max_line: int = MAX_LINE

    def __str__(self) -> str:
        return summarized([source.name for source in self.inputs])

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.inputs)

    @property
    def outputs(self) -> tuple[str, str]:
        return f"cleaned_{self.name}.{self.format}", f"rejected_{self.name}.jsonl"

    def run(self) -> "Iterator[UnitProgress | UnitReport]":
        """Clean the unit, with its progress about ten times a second; the report comes last.

        Raises:
            HatcheryError: a file cannot be opened, or the disk is full.
        """
        good, bad = self.outputs
        changed: set[Input] = set()
        while True:  # once more without each file that changed while it was read
            with (
                durable_file(self.folder / good) as kept,
                durable_file(self.folder / bad) as rejected,
            ):
                work = _Cleaning(self, changed, _LineWriter(kept), _LineWriter(rejected))
                yield from work.clean()
            before = len(changed)
            changed |= {source for source in self.inputs if source.has_changed}
            if len(changed) == before:
                break
        counts = work.counts
        assert counts.read == counts.kept + sum(counts.rejected.values())
        files = {good: kept.written, bad: rejected.written}
        yield UnitReport(self.name, files, counts, work.damage)


class CleaningCounts(msgspec.Struct):
    """What became of everything read; sizes in bytes of UTF-8, `raw_bytes` uncompressed."""

    read: int = 0
    kept: int = 0
    raw_bytes: int = 0
    text_bytes: int = 0
    rejected: dict[str, int] = {}
    removed: Removed = {}
    notes: ReadingNotes = msgspec.field(default_factory=ReadingNotes)

    def add(self, other: "CleaningCounts") -> None:
        self.read += other.read
        self.kept += other.kept
        self.raw_bytes += other.raw_bytes
        self.text_bytes += other.text_bytes
        for reason, number in other.rejected.items():
            self.rejected[reason] = self.rejected.get(reason, 0) + number
        for rule, (spans, characters) in other.removed.items():
            entry = self.removed.setdefault(rule, [0, 0])
            entry[0] += spans
            entry[1] += characters
        self.notes.add(other.notes)


class UnitProgress(msgspec.Struct, frozen=True):
    """How far a unit is: bytes of its files done, documents read, uncompressed bytes read."""

    unit: str
    done: int
    read: int
    raw_bytes: int


class UnitReport(msgspec.Struct, frozen=True):
    """A finished unit: its files, its counts, and the first damaged places to show."""

    unit: str
    files: dict[str, Written]
    counts: CleaningCounts
    damage: list[Rejection]


class _LineWriter:
    """Lines gathered into writes of a megabyte."""

    def __init__(self, file: DurableFile) -> None:
        self._file = file
        self._buffer = bytearray()

    def line(self, data: bytes) -> None:
        self._buffer += data
        self._buffer += b"\n"
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        self._file.write(self._buffer)
        self._buffer.clear()


class _Cleaning:
    """A unit being cleaned; none of the files that `changed` while they were read is taken."""

    def __init__(
        self,
        unit: CleaningUnit,
        changed: Collection[Input],
        kept: _LineWriter,
        rejected: _LineWriter,
    ) -> None:
        self.unit = unit
        self._changed = changed
        self.counts = CleaningCounts()
        self.damage: list[Rejection] = []
        self._kept = kept
        self._rejected = rejected
        self._steps = cleaning_steps(unit.min_words, self.counts.removed)

    def clean(self) -> Iterator[UnitProgress]:
        counts, behind, ticked = self.counts, 0, time.monotonic()
        for source in self.unit.inputs:
            start = counts.raw_bytes
            for item in self._items(source):
                if self.unit.test and counts.read >= TEST_ARTICLES:
                    break
                self._take(item, source)
                now = time.monotonic()
                if now - ticked >= _TICK:
                    ticked = now
                    done = behind + _on_disk(source, counts.raw_bytes - start)
                    yield UnitProgress(self.unit.name, done, counts.read, counts.raw_bytes)
            behind += source.bytes
        self._kept.flush()
        self._rejected.flush()

    def _items(self, source: Input) -> Iterator[Item | Damage]:
        if source in self._changed:
            return iter([Damage(CHANGED, 0, "something wrote to this file while it was read")])
        return read_items(source, self.unit.max_line, self.counts.notes)

    def _take(self, item: Item | Damage, source: Input) -> None:
        """Keep or reject one item."""
        counts = self.counts
        counts.read += 1
        if isinstance(item, Item) and isinstance(item.content, bytes):
            counts.raw_bytes += len(item.content) + item.is_row
        result = clean_item(item, source, self._steps)
        if isinstance(result, Rejection):
            self._reject(result, f"{source.name}:{item.offset}")
            return
        self._kept.line(_line(result, self.unit.format))
        counts.kept += 1
        counts.text_bytes += len(result.text.encode())

    def _reject(self, rejection: Rejection, where: str) -> None:
        reason = rejection.reason
        rejection = Rejection(reason, where, _readable(rejection.detail))
        self._rejected.line(_encoder.encode(rejection))
        self.counts.rejected[reason] = self.counts.rejected.get(reason, 0) + 1
        if reason not in _ORDINARY and len(self.damage) < _SHOWN:
            self.damage.append(rejection)


def clean_item(item: Item | Damage, source: Input, steps: Sequence[Step]) -> Document | Rejection:
    """The clean document of an item of `source`, or why there is none."""
    document = read_document(item, source)
    return document if isinstance(document, Rejection) else apply_steps(steps, document)


def read_document(item: Item | Damage, source: Input) -> RawDocument | Rejection:
    """An item of `source` before the first step, or why it cannot be read."""
    if isinstance(item, Damage):
        return Rejection(item.reason, detail=item.detail)
    if item.is_row:
        return _read_row(item, source)
    assert isinstance(item.content, bytes)
    try:
        text = item.content.decode()
    except UnicodeDecodeError as error:
        return Rejection("not_utf8", detail=str(error))
    return RawDocument(item.id, item.title, text, CODE if source.form == "code" else PLAIN)


def _read_row(item: Item, source: Input) -> RawDocument | Rejection:
    content = item.content
    try:
        record = decode(content) if isinstance(content, bytes) else convert(content)
    except RejectedError as error:
        return Rejection(error.reason, detail=error.detail)
    name = document_id(record, f"{source.name}:{item.number}")
    try:
        found = text_of(
            record,
            lambda: untyped(content) if isinstance(content, bytes) else content,
            source.text_field or None,
        )
    except RejectedError as error:
        return Rejection(error.reason, detail=error.detail)
    if found.article:
        rules = WIKI if canonical(record.language) == "en" else WIKI_ANY_LANGUAGE
        return RawDocument(name, "", "", rules, record, unread=found.unread)
    title = record.title or record.name or ""
    rules = CODE if found.code else PLAIN
    return RawDocument(name, title, found.text, rules, unread=found.unread)


def _readable(detail: str) -> str:
    return detail[:300].encode(errors="replace").decode()


def _line(document: Document, form: str) -> bytes:
    if form == "txt":
        return " ".join(filter(None, document.text.split("\n"))).encode()
    return _encoder.encode(document)


def _on_disk(source: Input, read: int) -> int:
    """Bytes of the file behind `read` uncompressed ones; text packs to about a quarter."""
    packed = source.path.suffix == ".gz"
    return min(source.bytes, read // _READ_PER_PACKED if packed else read)
