"""Rows of Parquet in memory that is bounded by bytes, whatever a small file unpacks to.

A value that stands once in a dictionary page can be meant by thousands of rows. Where a row group
could be so its columns are measured before they are decoded, and one that would unpack to more
than `MOST_UNPACKED` is refused by name; any other is decoded a few rows at a time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.sources.items import Input, Item
from pipeline.sources.lines import MAX_LINE, Damage, check_listed
from pipeline.sources.records import TEXT_FIELDS, Record
from utils.units import human_bytes

MOST_UNPACKED = 1 << 29
"""Bytes of one column in a row group, where they are far more than its pages hold."""
TOO_LARGE = "unpacks_too_large"
"""The rejection of a row group, or of a row, that would take too much memory."""
_ROWS = 64  # decoded at a time
_BATCH = 128 << 20  # bytes that they may take
_SLICED = 16 << 20  # bytes of a batch from which on each row becomes Python values by itself
_MEASURED = 1024  # rows measured at a time
_INFLATED = 20  # times its pages: text in lists that repeats itself comes to less
_DICTIONARY = 0.3  # of a chunk's bytes; columns of text soon have too many values for one
_MOST_RATIO = 1000  # times that a page may unpack to; text packs to a twentieth at best
_COLUMNS = frozenset(field.encode_name for field in msgspec.structs.fields(Record))


def items(source: Input) -> Iterator[Item | Damage]:
    """Every row as Python values; a row that cannot be one, and a group that is refused, are
    damage."""
    import pyarrow as pa  # 0.2 s to load, and few inputs are Parquet
    from pyarrow import parquet as pq

    number = 0
    check_listed(source.path)
    try:
        with pq.ParquetFile(source.path) as table:
            columns = _columns(table.schema_arrow.names, source.text_field)
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                refusal = _refusal(source.path, table.metadata.row_group(group), group, columns)
                if refusal:
                    yield Damage(
                        TOO_LARGE, number, f"rows {number + 1} to {number + rows}: {refusal}"
                    )
                    number += rows
                    continue
                size = _batch_size(table.metadata.row_group(group), columns)
                for batch in table.iter_batches(size, row_groups=[group], columns=columns):
                    for row in _batch_rows(batch):
                        number += 1
                        yield _item(number, row)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        yield Damage("unreadable", number, f"after row {number}: {error}")


def _item(number: int, row: dict[str, Any] | ValueError | OverflowError | int) -> Item | Damage:
    if isinstance(row, int):
        return Damage(TOO_LARGE, number, f"row {number} has {row} bytes")
    if isinstance(row, ValueError | OverflowError):
        reason = "not_utf8" if isinstance(row, UnicodeError) else "unreadable"
        return Damage(reason, number, f"row {number}: {row}")
    return Item(number, number, row, True)


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | ValueError | OverflowError | int]:
    """The rows of a batch; in place of a row with a value that Python cannot hold, such as invalid
    UTF-8 or a time outside its years, the error, and of one that is too large its bytes."""
    if batch.nbytes <= _SLICED:
        try:
            yield from batch.to_pylist()
            return
        except (ValueError, OverflowError):
            pass
    for number in range(batch.num_rows):
        row = batch.slice(number, 1)
        try:
            yield row.nbytes if row.nbytes > MAX_LINE else row.to_pylist()[0]
        except (ValueError, OverflowError) as error:
            yield error


def _columns(names: list[str], text_field: str) -> list[str]:
    """The columns to read: those known and the one named; all, where none known holds text."""
    known = {*_COLUMNS, text_field, text_field.split(".")[0]}
    if not text_field and {"sections", "article_sections", *TEXT_FIELDS}.isdisjoint(names):
        return names
    return [name for name in names if name in known]


def _chunks(group: Any, columns: list[str]) -> list[Any]:
    """The column chunks of a row group that belong to `columns`."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]


def _batch_size(group: Any, columns: list[str]) -> int:
    """Rows to decode at a time. One row may hold the largest value of a dictionary, which is no
    larger than its pages; without a dictionary the mean tells."""
    chunks = _chunks(group, columns)
    row = sum(
        chunk.total_uncompressed_size
        if chunk.has_dictionary_page
        else chunk.total_uncompressed_size // max(1, group.num_rows)
        for chunk in chunks
    )
    return int(max(1, min(_ROWS, _BATCH // max(1, row))))


def _refusal(path: Path, metadata: Any, group: int, columns: list[str]) -> str:
    """Why a row group is not decoded; empty where it can be."""
    for chunk in _chunks(metadata, columns):
        held, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if held > MOST_UNPACKED and held > _MOST_RATIO * max(1, packed):
            return _explained(chunk.path_in_schema, packed, held)
        if chunk.num_values * held > MOST_UNPACKED and _may_inflate(chunk):
            unpacked = _measured(path, group, chunk.path_in_schema)
            if unpacked > max(MOST_UNPACKED, _INFLATED * held):
                return _explained(chunk.path_in_schema, held, unpacked)
    return ""


def _may_inflate(chunk: Any) -> bool:
    """Whether the values of a column chunk may be few and meant often: in lists, or where more
    than a little of its bytes is the dictionary."""
    if chunk.physical_type != "BYTE_ARRAY" or not chunk.has_dictionary_page:
        return False
    dictionary = chunk.data_page_offset - chunk.dictionary_page_offset
    return "." in chunk.path_in_schema or dictionary > _DICTIONARY * chunk.total_compressed_size


def _explained(column: str, held: int, unpacked: int) -> str:
    return f"column {column} unpacks from {human_bytes(held)} to {human_bytes(unpacked)}"


def _measured(path: Path, group: int, column: str) -> int:
    """Bytes that a column of lists takes when every value is written out; its dictionary is not."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet as pq

    total = 0
    with pq.ParquetFile(path, read_dictionary=[column]) as measured:
        for batch in measured.iter_batches(_MEASURED, row_groups=[group], columns=[column]):
            stack = list(batch.columns)
            while stack:
                values = stack.pop()
                if pa.types.is_dictionary(values.type):
                    sizes = pc.binary_length(values.dictionary)
                    total += pc.sum(sizes.take(values.indices)).as_py() or 0
                elif pa.types.is_struct(values.type):
                    stack += values.flatten()
                elif pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
                    stack.append(values.flatten())
    return total
