"""JSON files as people have them: lines, an array, one object, or an object that holds records.

What is not strict JSON but read by most programs (NaN, a lone surrogate) is passed on as it is:
each row is decoded on its own, and a broken one costs only itself.
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from io import BufferedReader
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec

from pipeline.sources.items import Item
from pipeline.sources.lines import READ_ERRORS, Damage, Line, broken, lines_of, with_command
from pipeline.sources.records import TEXT_FIELDS
from utils.verification import DamagedFileError

MAX_JSON = 1 << 30
"""Bytes of one value, which must fit into memory whole."""
# An object with one of these is a record itself, whatever lists it holds.
_RECORD = frozenset(
    {*TEXT_FIELDS, "abstract", "sections", "article_sections", "messages", "conversations"}
)
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_END_OF_ARRAY = re.compile(r"\][ \t\r\n]*")
_decoder = json.JSONDecoder(strict=False)


def rows(
    handle: BufferedReader, path: Path, max_line: int, number: int = 0, offset: int = 0
) -> Iterator[Item | Damage]:
    """A row per line of an open file, which is part of the file `path`; the first line is not the
    first of the file where `number` lines of `offset` bytes stand before it."""
    return rows_of(lines_of(handle, path, max_line, number, offset))


def rows_of(lines: Iterable[Line | Damage]) -> Iterator[Item | Damage]:
    """A row per line that is not blank."""
    for item in lines:
        if isinstance(item, Damage):
            yield item
            continue
        data = item.data.removeprefix(BOM_UTF8) if item.number == 1 else item.data
        if data and not data.isspace():
            yield Item(item.offset, item.number, data, True)


def values(handle: BufferedReader, path: Path, max_line: int) -> Iterator[Item | Damage]:
    """The records of an open .json file, which is part of the file `path`."""
    data = bytearray()
    try:
        head = handle.peek()
        lines = [line for line in head.removeprefix(BOM_UTF8).split(b"\n") if line.strip()]
        if len(lines) > 1 and _are_rows(lines[:-1] or lines):
            yield from rows(handle, path, max_line)
            return
        if len(lines) == 1:
            _fill(data, handle, max_line, line=True)
        if data.endswith(b"\n") and handle.peek().strip() and _is_object(data):
            yield Item(0, 1, bytes(data).removeprefix(BOM_UTF8).rstrip(b"\r\n"), True)
            yield from rows(handle, path, max_line, 1, len(data))
            return
        _fill(data, handle, MAX_JSON)
    except DamagedFileError as error:
        raise with_command(error) from None
    except READ_ERRORS as error:
        found = _one_by_one(bytes(data))
        yield from takewhile(lambda item: isinstance(item, Item), found)
        yield broken(path, len(data), error)
        return
    if len(data) > MAX_JSON:
        yield Damage("too_long_line", 0, f"one JSON value of more than {MAX_JSON} bytes")
        return
    yield from _of_value(bytes(data).removeprefix(BOM_UTF8))


def _fill(data: bytearray, handle: BufferedReader, most: int, *, line: bool = False) -> None:
    """Read on to the end of a file, or of a `line`, or until there are more than `most` bytes.
    Where the file breaks, `data` has every byte before."""
    while len(data) <= most and (there := handle.peek()):
        end = there.find(b"\n") + 1 if line else 0
        data += handle.read(end or len(there))
        if end:
            return


def _are_rows(lines: list[bytes]) -> bool:
    """Whether lines hold an object each: the first, or no fewer than half of them."""
    if _is_object(lines[0]):
        return True
    objects = sum(line.lstrip()[:1] == b"{" and _is_object(line) for line in lines)
    return objects > 1 and objects * 2 >= len(lines)


def _is_object(line: bytes | bytearray) -> bool:
    try:
        value = json.loads(line.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


def _of_value(data: bytes) -> Iterator[Item | Damage]:
    """The records of a whole file."""
    try:
        array = data.lstrip()[:1] == b"["
        found = msgspec.json.decode(data, type=list[msgspec.Raw]) if array else _held(data)
    except RecursionError:
        yield Damage("too_deep", 0, "nested deeper than any article")
    except (msgspec.DecodeError, UnicodeDecodeError):
        yield from _one_by_one(data)
    else:
        offset = 0
        for number, value in enumerate(found, 1):
            content = bytes(value)
            offset = data.index(content, offset)
            yield Item(offset, number, content, True)
            offset += len(content)


def _held(data: bytes) -> list[msgspec.Raw] | list[bytes]:
    """The records that an object holds in a list, which is most of it; else the object."""
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    lists = [bytes(value) for value in fields.values() if bytes(value)[:1] == b"["]
    largest = max(lists, key=len, default=b"")
    if _RECORD.isdisjoint(fields) and len(largest) * 2 > len(data):
        records = msgspec.json.decode(largest, type=list[msgspec.Raw])
        if records and all(bytes(record)[:1] == b"{" for record in records):
            return records
    return [data]


def _list_in(value: Any) -> list[Any]:
    """The same of an object that is no strict JSON, by the number of its records."""
    if not isinstance(value, dict) or not _RECORD.isdisjoint(value):
        return []
    lists = [found for found in value.values() if isinstance(found, list)]
    largest = max(lists, key=len, default=[])
    return largest if all(isinstance(record, dict) for record in largest) else []


def _one_by_one(data: bytes) -> Iterator[Item | Damage]:
    """The values of an array, or of objects that follow each other, up to the first that cannot
    be read: for what is not strict JSON, or is cut."""
    text = data.decode("utf-8", "surrogateescape")
    at = _BETWEEN.match(text).end()  # type: ignore[union-attr]  # it may be empty
    array = text[at : at + 1] == "["
    at, offset, number = at + array, 0, 0
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text) and (not array or not number):
            break
        if array and _END_OF_ARRAY.fullmatch(text, at):
            return
        try:
            value, end = _decoder.raw_decode(text, at)
        except RecursionError:
            yield Damage("too_deep", offset, "nested deeper than any article")
            return
        except ValueError as error:
            yield Damage("not_json", offset, f"after {number} values: {error}")
            return
        if not array and not number and not text[end:].strip() and (held := _list_in(value)):
            for number, record in enumerate(held, 1):
                yield Item(0, number, json.dumps(record).encode(), True)
            return
        content = text[at:end].encode("utf-8", "surrogateescape")
        offset = data.index(content, offset)
        number += 1
        yield Item(offset, number, content, True)
        offset, at = offset + len(content), end
    if not number:
        yield Damage("not_json", 0, "an empty value")
