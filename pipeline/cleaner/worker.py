"""Cleaning of one unit of work, one file or a bundle of small ones, in this process.

It writes `cleaned_<name>` and `rejected_<name>.jsonl` and counts everything: what was read is
either kept or rejected under a reason, and each removed span is counted under its rule.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipeline.cleaner.records import RejectedError, convert, decode
from pipeline.cleaner.rule_engine import Removed, UnstableMarkupError, clean
from pipeline.cleaner.rules import CODE, PLAIN
from pipeline.cleaner.wikimedia import article
from pipeline.sources.documents import Document
from pipeline.sources.lines import MAX_LINE, Damage
from pipeline.sources.raw import Input, Item, read_items
from utils.files import DurableFile, Written, durable_file

TEST_ARTICLES = 50_000
_BUFFER = 1 << 20
_REMEMBERED = 1_000_000
"""Texts compared for duplicates at a time: about 80 MB, so that memory stays flat."""
_SHOWN = 20
_TICK = 0.1  # seconds


class Task(msgspec.Struct, frozen=True):
    """A unit of work and the folder it is written to."""

    name: str
    folder: Path
    inputs: list[Input]
    format: str
    min_words: int
    test: bool
    max_line: int = MAX_LINE

    def __str__(self) -> str:
        names = ", ".join(source.name for source in self.inputs[:3])
        return names + (f" and {len(self.inputs) - 3} more files" if len(self.inputs) > 3 else "")

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.inputs)

    @property
    def outputs(self) -> tuple[str, str]:
        return f"cleaned_{self.name}.{self.format}", f"rejected_{self.name}.jsonl"


class Tally(msgspec.Struct):
    """What became of everything read; sizes in bytes of UTF-8, `raw_bytes` uncompressed."""

    read: int = 0
    kept: int = 0
    raw_bytes: int = 0
    text_bytes: int = 0
    rejected: dict[str, int] = {}
    removed: Removed = {}

    def add(self, other: "Tally") -> None:
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


class Tick(msgspec.Struct, frozen=True):
    """How far a unit is: bytes of its files done, documents read, uncompressed bytes read."""

    unit: str
    done: int
    read: int
    raw_bytes: int


class Rejection(msgspec.Struct, frozen=True):
    """A line of `rejected_*.jsonl`."""

    reason: str
    where: str
    detail: str = ""


class Report(msgspec.Struct, frozen=True):
    """A finished unit: its files, its counts, and the first damaged places to show."""

    unit: str
    files: dict[str, Written]
    tally: Tally
    damage: list[Rejection]


# Rejections that say nothing about the state of the file.
_ORDINARY = frozenset({"redirect", "stub", "no_text", "disambiguation", "duplicate"})
_encoder = msgspec.json.Encoder()


class _Out:
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


def clean_unit(task: Task) -> Iterator[Tick | Report]:
    """Clean a unit, ticking about ten times a second; the report comes last.

    Raises:
        HatcheryError: a file cannot be opened, or the disk is full.
    """
    good, bad = task.outputs
    with durable_file(task.folder / good) as kept, durable_file(task.folder / bad) as rejected:
        unit = _Unit(task, _Out(kept), _Out(rejected))
        yield from unit.clean()
    tally = unit.tally
    assert tally.read == tally.kept + sum(tally.rejected.values())
    yield Report(task.name, {good: kept.written, bad: rejected.written}, tally, unit.damage)


class _Unit:
    """A unit being cleaned."""

    def __init__(self, task: Task, kept: _Out, rejected: _Out) -> None:
        self.task = task
        self.tally = Tally()
        self.damage: list[Rejection] = []
        self._kept = kept
        self._rejected = rejected
        self._seen: set[int] = set()

    def clean(self) -> Iterator[Tick]:
        tally, behind, ticked = self.tally, 0, time.monotonic()
        for source in self.task.inputs:
            start = tally.raw_bytes
            for item in read_items(source, self.task.max_line):
                if self.task.test and tally.read >= TEST_ARTICLES:
                    break
                self._take(item, source)
                now = time.monotonic()
                if now - ticked >= _TICK:
                    ticked = now
                    done = behind + _on_disk(source, tally.raw_bytes - start)
                    yield Tick(self.task.name, done, tally.read, tally.raw_bytes)
            behind += source.bytes
        self._kept.flush()
        self._rejected.flush()

    def _take(self, item: Item | Damage, source: Input) -> None:
        """Keep or reject one item."""
        self.tally.read += 1
        if isinstance(item, Item) and isinstance(item.content, bytes):
            self.tally.raw_bytes += len(item.content) + item.is_row
        try:
            document = clean_item(item, source, self.task.min_words, self.tally.removed)
            if hash(document.text) in self._seen:
                raise RejectedError("duplicate", document.title)
        except RejectedError as error:
            self._reject(error, f"{source.name}:{item.offset}")
            return
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(hash(document.text))
        line = _line(document, self.task.format)
        self._kept.line(line)
        self.tally.kept += 1
        self.tally.text_bytes += len(document.text.encode())

    def _reject(self, error: RejectedError, where: str) -> None:
        rejection = Rejection(error.reason, where, _readable(error.detail))
        self._rejected.line(_encoder.encode(rejection))
        counts = self.tally.rejected
        counts[error.reason] = counts.get(error.reason, 0) + 1
        if error.reason not in _ORDINARY and len(self.damage) < _SHOWN:
            self.damage.append(rejection)


def clean_item(item: Item | Damage, source: Input, min_words: int, removed: Removed) -> Document:
    """The clean document of an item of `source`.

    Raises:
        RejectedError: with the reason.
    """
    if isinstance(item, Damage):
        raise RejectedError(item.reason, item.detail)
    try:
        if item.is_row:
            document = _from_row(item, source, removed)
        else:
            rules = CODE if source.form == "code" else PLAIN
            text = clean(_utf8(item.content), rules, removed)
            document = Document(item.id, item.title, text)
    except UnstableMarkupError as error:
        raise RejectedError("unstable_markup", str(error)) from error
    if not document.text.strip():
        raise RejectedError("no_text", "nothing is left after cleaning")
    if is_stub(document.text, min_words):
        raise RejectedError("stub", f"{document.title}: {len(document.text.split())} words")
    return document


def _from_row(item: Item, source: Input, removed: Removed) -> Document:
    content = item.content
    record = decode(content) if isinstance(content, bytes) else convert(content)
    name = record.identifier or record.id or record.url or f"{source.name}:{item.number}"
    if record.structured:
        title, text = article(record, removed)
    else:
        raw = record.text if record.text is not None else record.content
        if raw is None:
            raise RejectedError("no_text_field", "no text, content, sections or abstract")
        title, text = record.title or record.name or "", clean(raw, PLAIN, removed)
    return Document(_encodable(str(name)), _encodable(title), _encodable(text))


def is_stub(text: str, min_words: int) -> bool:
    """Whether a text has fewer than `min_words` words; ten characters count as a word at least,
    for the scripts that do without spaces."""
    return len(text) < 10 * min_words and len(text.split()) < min_words


def _utf8(data: object) -> str:
    assert isinstance(data, bytes)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RejectedError("not_utf8", str(error)) from error


def _encodable(text: str) -> str:
    """`text`, when UTF-8 can hold it: values that were not read from bytes may not be."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RejectedError("lone_surrogate", str(error)) from error
    return text


def _readable(detail: str) -> str:
    return detail[:300].encode(errors="replace").decode()


def _line(document: Document, form: str) -> bytes:
    if form == "txt":
        return " ".join(filter(None, document.text.split("\n"))).encode()
    return _encoder.encode(document)


def _on_disk(source: Input, read: int) -> int:
    """Bytes of the file behind `read` uncompressed ones; text packs to about a quarter."""
    packed = source.path.suffix == ".gz"
    return min(source.bytes, read // 4 if packed else read)
