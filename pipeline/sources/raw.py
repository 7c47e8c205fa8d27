"""Raw files as a stream of items to clean: rows of JSON or Parquet, texts, code.

Each item knows where it was found. Memory is bounded by a line, a piece or a row group, except
for a .json file, which is one value and must fit whole.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias

from pipeline.sources.encodings import BINARY, Encoding, as_utf8, encoding_of_rows
from pipeline.sources.formats import json_files, parquet_files, text_files
from pipeline.sources.formats.archives import members
from pipeline.sources.items import Input, Item, ReadingNotes
from pipeline.sources.lines import (
    MAX_LINE,
    READ_ERRORS,
    CannotOpenError,
    Damage,
    open_raw,
    with_command,
)
from utils.verification import DamagedFileError

VERSION = 4
"""Of the way files are read: clean documents of another one are made again."""


_JsonReader: TypeAlias = Callable[[BufferedReader, Path, int], Iterator[Item | Damage]]


def read_items(
    source: Input, max_line: int = MAX_LINE, notes: ReadingNotes | None = None
) -> Iterator[Item | Damage]:
    """Everything in a raw file, in order; what cannot be read is yielded as damage. `notes` takes
    what else is noticed."""
    notes = ReadingNotes() if notes is None else notes
    try:
        if source.form == "archive":
            yield from _archive(source, max_line, notes)
        elif source.form == "parquet":
            yield from parquet_files.items(source)
        elif source.form == "topics":
            yield from _topics(source)
        elif source.form in ("rows", "json"):
            read = json_files.rows if source.form == "rows" else json_files.values
            with open_raw(source.path) as handle:
                yield from _json(handle, read, source, max_line, notes)
        else:
            yield from text_files.items(source, max_line, notes)
    except CannotOpenError as error:
        yield Damage("unreadable", 0, error.problem)
    except DamagedFileError as error:
        raise with_command(error) from None


def _json(
    raw: BufferedReader, read: _JsonReader, source: Input, max_line: int, notes: ReadingNotes
) -> Iterator[Item | Damage]:
    """The values of an open file of JSON in any encoding, which is part of `source`."""
    try:
        encoding = encoding_of_rows(raw.peek())
    except READ_ERRORS:  # which is said when the rows are read
        encoding = Encoding()
    if encoding.doubt:
        reason = BINARY if encoding.name == BINARY else text_files.UNKNOWN
        yield Damage(reason, 0, encoding.doubt)
        return
    notes.decoded(encoding.shown, source.name)
    # Of UTF-8 the mark stays: places in the file are given as its bytes are.
    handle = raw if encoding.is_utf8 else as_utf8(raw, encoding)
    with closing(handle):
        yield from read(handle, source.path, max_line)


def _archive(source: Input, max_line: int, notes: ReadingNotes) -> Iterator[Item | Damage]:
    """The values of all JSON files of an archive, numbered through."""
    number = 0
    for member in members(source.path, notes.files_passed_over):
        if isinstance(member, Damage):
            yield member
            continue
        read = json_files.rows if member.kind == ".jsonl" else json_files.values
        for item in _json(member.handle, read, source, max_line, notes):
            offset = member.offset + item.offset
            if isinstance(item, Damage):
                yield Damage(item.reason, offset, f"{member.name}: {item.detail}")
            else:
                number += 1
                yield item._replace(offset=offset, number=number)


def _topics(source: Input) -> Iterator[Item | Damage]:
    """The language reference that ships with Python as a module of texts, one per topic."""
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for number, (topic, text) in enumerate(sorted(topics.items()), 1):
        yield Item(0, number, text.encode(), False, f"{source.name}#{topic}", topic)
