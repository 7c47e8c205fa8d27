"""Raw files as a stream of items to clean: rows of JSON or Parquet, texts, code.

Each item knows where it was found. Memory is bounded by a line, a piece or a row group, except
for a .json file, which is one value and must fit whole.
"""

import importlib
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from pipeline.sources.documents import kind_of
from pipeline.sources.lines import (
    MAX_LINE,
    PIECE,
    Damage,
    Line,
    check_listed,
    is_wikitext_title,
    open_raw,
    read_lines,
    read_pieces,
)

MAX_JSON = 1 << 30
_WHOLE = 1 << 20
_COLUMNS = (
    *("name", "identifier", "abstract", "description", "sections", "article_sections"),
    *("id", "url", "title", "text", "content"),
    *("article", "article_body", "body", "full_text", "fulltext", "document", "story"),
    "raw_content",
)

Form: TypeAlias = Literal["rows", "json", "parquet", "text", "code", "topics"]


class Input(msgspec.Struct, frozen=True):
    """A raw file, the name its documents are known by, and how it is read; `text_field` is the
    field of a row that the user named as its text."""

    path: Path
    name: str
    form: Form
    bytes: int
    text_field: str = ""


class Item(NamedTuple):
    """Something to clean: a JSON line, a row of Python values, or a text with id and title.

    `offset` counts bytes of the uncompressed file, in Parquet rows; `number` counts from 1.
    """

    offset: int
    number: int
    content: bytes | dict[str, Any]
    is_row: bool
    id: str = ""
    title: str = ""


def as_input(path: Path, name: str, text_field: str = "") -> Input:
    """How a file is read by its suffix."""
    forms: dict[str, Form] = {".jsonl": "rows", ".json": "json", ".parquet": "parquet"}
    form = forms.get(kind_of(path), "code" if kind_of(path) == ".py" else "text")
    return Input(path, name, form, path.stat().st_size, text_field)


def read_items(source: Input, max_line: int = MAX_LINE) -> Iterator[Item | Damage]:
    """Everything in a raw file, in order; what cannot be read is yielded as damage."""
    if source.form == "rows":
        return _rows(source.path, max_line)
    if source.form == "json":
        return _json(source.path, max_line)
    if source.form == "parquet":
        return _parquet(source)
    if source.form == "topics":
        return _topics(source)
    return _texts(source)


def _rows(path: Path, max_line: int) -> Iterator[Item | Damage]:
    for item in read_lines(path, max_line):
        if isinstance(item, Damage):
            yield item
        elif item.data and not item.data.isspace():
            data = item.data.removeprefix(BOM_UTF8) if item.number == 1 else item.data
            yield Item(item.offset, item.number, data, True)


def _json(path: Path, max_line: int) -> Iterator[Item | Damage]:
    """One object, an array of objects (an API answer), or JSON lines under another name."""
    first = next(read_lines(path, max_line), None)
    if isinstance(first, Line) and _is_object(first.data.removeprefix(BOM_UTF8)):
        yield from _rows(path, max_line)
        return
    try:
        with open_raw(path) as handle:
            data = handle.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            yield Damage("too_long_line", 0, f"one JSON value of more than {MAX_JSON} bytes")
            return
        data = data.removeprefix(BOM_UTF8)
        array = data.lstrip()[:1] == b"["
        values = msgspec.json.decode(data, type=list[msgspec.Raw]) if array else [data]
    except UnicodeDecodeError as error:
        yield Damage("not_utf8", 0, str(error))
    except RecursionError:
        yield Damage("too_deep", 0, "nested deeper than any article")
    except (msgspec.DecodeError, EOFError, OSError, zlib.error) as error:
        reason = "not_json" if isinstance(error, msgspec.DecodeError) else "truncated_gzip"
        if isinstance(error, OSError) and path.suffix.lower() != ".gz":
            reason = "unreadable"
        yield Damage(reason, 0, str(error))
    else:
        offset = 0
        for number, value in enumerate(values, 1):
            content = bytes(value)
            offset = data.index(content, offset)
            yield Item(offset, number, content, True)
            offset += len(content)


def _is_object(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _parquet(source: Input) -> Iterator[Item | Damage]:
    import pyarrow as pa  # 0.2 s to load, and few inputs are Parquet
    from pyarrow import parquet as pq

    number = 0
    check_listed(source.path)
    try:
        with pq.ParquetFile(source.path) as table:
            columns = _columns(table.schema_arrow.names, source.text_field)
            for batch in table.iter_batches(batch_size=64, columns=columns):
                for row in _batch_rows(batch):
                    number += 1
                    if isinstance(row, ValueError | OverflowError):
                        reason = "not_utf8" if isinstance(row, UnicodeError) else "unreadable"
                        yield Damage(reason, number, f"row {number}: {row}")
                    else:
                        yield Item(number, number, row, True)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        yield Damage("unreadable", number, f"after row {number}: {error}")


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | ValueError | OverflowError]:
    """The rows of a batch; the error in place of a row with a value that Python cannot hold, such
    as invalid UTF-8 or a time outside its years."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for number in range(batch.num_rows):
            try:
                row = batch.slice(number, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield error
            else:
                yield row


def _columns(names: list[str], text_field: str) -> list[str]:
    """The columns to read: those known and the one named; all, where none known holds text."""
    known = {*_COLUMNS, text_field, text_field.split(".")[0]}
    if not text_field and {*_COLUMNS[4:6], *_COLUMNS[9:]}.isdisjoint(names):
        return names
    return [name for name in names if name in known]


def _texts(source: Input) -> Iterator[Item | Damage]:
    """A short text or program whole, a long text in pieces, WikiText by article."""
    code = source.form == "code"
    first = _head(source.path)
    titled = not code and any(is_wikitext_title(line) for line in first[:3])
    pieced = titled or kind_of(source.path) == ".txt"
    for item in read_pieces(source.path, PIECE if pieced else _WHOLE, titled=titled):
        if isinstance(item, Damage):
            yield item
            continue
        single = item.number == 1 and (not pieced or len(item.data) == source.bytes)
        name = source.name if single else f"{source.name}#{item.number:05d}"
        heading = item.data.lstrip().split(b"\n", 1)[0] if titled else b""
        title = heading.strip(b"= \r").decode(errors="replace") or source.name
        yield Item(item.offset, item.number, item.data, False, name, title)


def _head(path: Path) -> list[bytes]:
    """The first lines, as far as they can be read."""
    lines = []
    for item, _ in zip(read_lines(path, PIECE), range(3), strict=False):
        lines.append(item.data if isinstance(item, Line) else b"")
    return lines


def _topics(source: Input) -> Iterator[Item | Damage]:
    """The language reference that ships with Python as a module of texts, one per topic."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for number, (topic, text) in enumerate(sorted(topics.items()), 1):
        yield Item(0, number, text.encode(), False, f"{source.name}#{topic}", topic)
