"""A damaged file, value or long name costs only itself, and is counted by its reason."""

import gzip
import json
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pipeline.cleaner import stage
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.items import as_input
from pipeline.sources.lines import Damage
from pipeline.sources.raw import read_items

TEXT = "Words of a text that is long enough to be kept by anyone who reads it."


@pytest.mark.parametrize("value", [b"\xff", b"caf\xe9", b"\xc0\x80", b"\xed\xa0\x80", b"a\xf0\x9f"])
@pytest.mark.parametrize("row", [0, 100, 199])
def test_invalid_utf8_in_parquet_costs_its_row(tmp_path: Path, value: bytes, row: int) -> None:
    values = [f"{TEXT} {number}".encode() for number in range(200)]
    values[row] = value
    array = pa.array(values, pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(array), array.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    items = list(read_items(as_input(tmp_path / "a.parquet", "a")))
    damage = [item for item in items if isinstance(item, Damage)]
    assert len(items) == 200
    assert [(item.reason, item.offset) for item in damage] == [("not_utf8", row + 1)]


def test_a_time_outside_the_years_of_python_costs_its_row(tmp_path: Path) -> None:
    times = pa.array([0, 1 << 62, -(1 << 62)], pa.timestamp("us"))
    table = pa.table({"body": [TEXT] * 3, "id": times})
    pq.write_table(table, tmp_path / "a.parquet")
    items = list(read_items(as_input(tmp_path / "a.parquet", "a")))
    assert [getattr(item, "reason", "") for item in items] == ["", "unreadable", "unreadable"]


@pytest.mark.parametrize("place", [12, 20, 40, 60, 80])
def test_a_gzip_of_json_broken_anywhere_is_counted(tmp_path: Path, place: int) -> None:
    rows = [{"text": f"{TEXT} {number * 7919 % 1000}"} for number in range(50)]
    data = bytearray(gzip.compress(json.dumps(rows, indent=1).encode()))
    data[place : place + 8] = b"\xff" * 8
    (tmp_path / "a.json.gz").write_bytes(data)
    items = list(read_items(as_input(tmp_path / "a.json.gz", "a")))
    assert [item.reason for item in items if isinstance(item, Damage)]


@pytest.mark.parametrize("letter", ["历", "я", "é", "🙂", "x"])
def test_a_name_as_long_as_the_file_system_takes_is_cleaned(workspace: Path, letter: str) -> None:
    name = letter * (246 // len(letter.encode()))
    Path("in").mkdir()
    Path(f"in/{name}.jsonl").write_text(json.dumps({"text": TEXT}) + "\n")
    options = CleanupOptions(source="files", input=[Path("in")], workers=1, min_words=5)
    *_, last = stage.run(Config(), options, Event())
    assert last.summary["kept"] == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", '{"text": "one"}\n{"text": "two"}\n'),
        ("a.jsonl.gz", '{"text": "one"}\r\n{"text": "two"}'),
        ("a.json", '{"text": "one"}\n{"text": "two"}\n'),
        ("a.json", '[{"text": "one"},\n {"text": "two"}]'),
        ("a.json.gz", ' [\n{"text": "one"}, {"text": "two"}]'),
    ],
)
def test_a_byte_order_mark_costs_no_record(tmp_path: Path, name: str, data: str) -> None:
    raw = data.encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    items = list(read_items(as_input(tmp_path / name, name)))
    texts = [json.loads(item.content)["text"] for item in items if not isinstance(item, Damage)]
    assert texts == ["one", "two"]
