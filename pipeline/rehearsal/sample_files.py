"""A piece of one raw file, in the same form: rows stay rows, .gz stays .gz, broken stays broken."""

import codecs
import io
import json
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeVar

from pipeline.sources.encodings import encoding_of_rows
from pipeline.sources.input_files import WIKI, kind_of
from pipeline.sources.items import Input, Item
from pipeline.sources.lines import (
    MAX_LINE,
    PIECE,
    READ_ERRORS,
    Damage,
    Line,
    open_raw,
    read_lines,
    read_pieces,
)
from pipeline.sources.raw import read_items
from utils.files import write_file
from utils.verification import DamagedFileError

_SMALL = 256 << 10
"""A text or value up to this size is taken whole, in bytes."""
_READ = 8 << 20
"""A file of rows up to this size is read whole, and so much of a packed one, in bytes."""

_Item = TypeVar("_Item")


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """`count` of `items`: the first, the last and others evenly between."""
    if count >= len(items):
        return list(items)
    if count <= 1:
        return list(items[:count])
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def cut_out(item: Input, target: Path, count: int) -> Iterator[Path]:
    """Write about `count` documents of a raw file to `target`, or beside it; yields what was
    written.

    Raises:
        HatcheryError: the file cannot be opened, or the disk is full.
    """
    if item.form == "topics":
        for number, topic in enumerate(_spread_items(item, count)):
            path = target.with_suffix("") / f"{number:03d}.txt"
            write_file(path, topic)
            yield path
        return
    is_rows = item.form in ("rows", "json", "archive")
    if item.form == "archive" or kind_of(item.path) == WIKI or (is_rows and not _is_utf8(item)):
        target = target.with_name(f"{target.name}.jsonl")
        data = _as_rows(item, count)
    elif item.form == "parquet":
        data = _parquet(item.path, count)
    elif item.form == "rows" or (item.form == "json" and _has_rows(item)):
        data = _packed(item.path, *_rows(item.path, count))
    elif item.bytes <= _SMALL or item.form == "json":
        data = _array(item.path, count) if item.bytes > _SMALL else item.path.read_bytes()
    elif _is_utf8(item):
        data = _packed(item.path, *_text(item.path, count))
    else:
        data = _packed(item.path, _decoded_text(item, count), broken=False)
    write_file(target, data)
    yield target


def looks_broken(item: Input) -> bool:
    """Whether the first and last bytes of a file contradict its name; False where unreadable."""
    try:
        with item.path.open("rb") as handle:
            head = handle.read(4)
            handle.seek(max(0, item.bytes - 4))
            tail = handle.read(4)
    except OSError:
        return False
    if item.path.suffix.lower() == ".gz":
        return head[:2] != b"\x1f\x8b"
    if item.form == "parquet":
        return head != b"PAR1" or tail != b"PAR1"
    return b"\0" in head or head[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _packed(path: Path, data: bytes, broken: bool) -> bytes:
    """`data` in the packing of `path`; where it was broken, without the end of the packing."""
    if not _is_packed(path):
        return data
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH if broken else zlib.Z_FINISH)


def _rows(path: Path, count: int) -> tuple[bytes, bool]:
    """Half of the rows from the beginning and half spread over the rest, and whether it broke."""
    head = count - count // 2
    if not _is_packed(path) and path.stat().st_size > _READ:
        with path.open("rb") as handle:
            lines = [*islice(_lines(handle), head), *_lines_between(handle, count - head)]
        return b"".join(lines), False
    rows, size, broken = [], 0, False
    for line in read_lines(path):
        if isinstance(line, Damage):
            broken = broken or line.reason == "truncated_gzip"
        elif line.data.strip():
            rows.append(line.data + b"\n")
            size += len(line.data)
        if size > _READ:
            break
    return b"".join([*rows[:head], *spread(rows[head:][::-1], count - head)]), broken


def _lines(handle: IO[bytes]) -> Iterator[bytes]:
    lines = iter(lambda: handle.readline(MAX_LINE), b"")
    return (line if line.endswith(b"\n") else line + b"\n" for line in lines if line.strip())


def _lines_between(handle: IO[bytes], count: int) -> Iterator[bytes]:
    """The line after each of `count` - 1 places spread over the file, and the last line."""
    size = handle.seek(0, io.SEEK_END)
    for number in range(1, count):
        handle.seek(size * number // count)
        handle.readline(MAX_LINE)
        yield from islice(_lines(handle), 1)
    handle.seek(max(0, size - _READ // 8))
    handle.readline(MAX_LINE)
    yield from deque(_lines(handle), maxlen=1)


def _text(path: Path, count: int) -> tuple[bytes, bool]:
    """The beginning of a long text and stretches of the rest, and whether it broke."""
    pieces: list[bytes] = []
    broken = False
    for piece in islice(read_pieces(path), count if _is_packed(path) else count - count // 2):
        if isinstance(piece, Line):
            pieces.append(piece.data)
        else:
            broken = True
    if not _is_packed(path):
        size = path.stat().st_size
        with path.open("rb") as handle:
            for number in range(count // 2):
                handle.seek(size * (number + 1) // (count // 2 + 1))
                if handle.readline(PIECE).endswith(b"\n"):  # else a line without end: no way in
                    pieces.append(b"\n\n" + _whole_lines(handle))
    return b"".join(pieces), broken


def _whole_lines(handle: IO[bytes]) -> bytes:
    """Lines of about one piece together; one that is longer than a piece is left out."""
    lines: list[bytes] = []
    size = 0
    while size < PIECE and (line := handle.readline(PIECE)).endswith(b"\n"):
        lines.append(line)
        size += len(line)
    return b"".join(lines)


def _has_rows(item: Input) -> bool:
    """Whether a large .json file holds one object per line."""
    if item.bytes <= _SMALL:
        return False
    first = next(read_lines(item.path), None)
    try:
        return isinstance(first, Line) and isinstance(json.loads(first.data), dict)
    except (ValueError, RecursionError):
        return False


def _array(path: Path, count: int) -> bytes:
    """The first values of a large JSON array; anything else whole."""
    with open_raw(path) as handle:
        try:
            head = codecs.getincrementaldecoder("utf-8-sig")().decode(handle.read(_READ)).lstrip()
        except (ValueError, EOFError, OSError, zlib.error):
            return path.read_bytes()
    if not head.startswith("["):
        return path.read_bytes()
    decoder, between, at = json.JSONDecoder(), re.compile(r"[ \t\r\n,]*"), 1
    values: list[str] = []
    try:
        while len(values) < count:
            start = between.match(head, at).end()  # type: ignore[union-attr]  # it may be empty
            _, at = decoder.raw_decode(head, start)
            values.append(head[start:at])
    except (ValueError, RecursionError):
        if not values:
            return path.read_bytes()
    return _packed(path, f"[{','.join(values)}]".encode(), broken=False)


def _parquet(path: Path, count: int) -> bytes:
    """Rows of the first row group and of others spread over the file; a broken file's beginning
    stays as broken."""
    import pyarrow as pa  # 0.2 s to load, and few inputs are Parquet
    from pyarrow import parquet as pq

    buffer = io.BytesIO()
    try:
        with pq.ParquetFile(path) as table:
            groups = min(table.num_row_groups, 1 + count // 8)
            chosen = [i * table.num_row_groups // groups for i in range(groups)] if groups else []
            with pq.ParquetWriter(buffer, table.schema_arrow) as out:
                for group in chosen:
                    rows: Any = next(
                        table.iter_batches(batch_size=-(-count // groups), row_groups=[group]), None
                    )
                    if rows is not None:
                        out.write_batch(rows)
    except (pa.ArrowException, OSError):
        with path.open("rb") as handle:
            return handle.read(1 << 20)
    return buffer.getvalue()


def _is_utf8(item: Input) -> bool:
    """Whether a file can be cut as bytes, by its first ones."""
    try:
        with open_raw(item.path) as handle:
            return encoding_of_rows(handle.peek()).is_utf8
    except (DamagedFileError, *READ_ERRORS):
        return True


def _decoded_text(item: Input, count: int) -> bytes:
    """The first documents of a text in another encoding as UTF-8; of one that is refused its
    first bytes, which are refused too."""
    found = list(islice(read_items(item), count))
    texts = [i.content for i in found if isinstance(i, Item) and isinstance(i.content, bytes)]
    if texts:
        return b"\n\n".join(texts)
    with item.path.open("rb") as handle:
        return handle.read(_SMALL)


def _as_rows(item: Input, count: int) -> bytes:
    """The first documents of a file whose form cannot be cut, a line of JSON each."""
    lines = []
    for found in islice(read_items(item), count):
        if isinstance(found, Item) and isinstance(found.content, bytes) and found.is_row:
            lines.append(found.content.replace(b"\n", b" ") + b"\n")
        elif isinstance(found, Item):
            text = found.content
            row = {"text": text.decode(errors="replace")} if isinstance(text, bytes) else text
            lines.append(json.dumps(row).encode() + b"\n")
    return b"".join(lines)


def _spread_items(item: Input, count: int) -> list[bytes]:
    texts = [i.content for i in read_items(item) if not isinstance(i, Damage)]
    return [text for text in texts[:: max(1, len(texts) // count)] if isinstance(text, bytes)]
