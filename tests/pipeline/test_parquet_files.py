"""Parquet is read in memory that its own size bounds, whatever a few bytes of it stand for."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sources.formats import parquet_files
from pipeline.sources.items import Item, as_input
from pipeline.sources.lines import Damage
from pipeline.sources.raw import read_items

ROOT = Path(__file__).parents[2]
TEXT = "The quick brown fox jumps over the lazy dog again and again until evening."


def write(path: Path, columns: dict, **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(path: Path) -> list[Item | Damage]:
    return list(read_items(as_input(path, path.name)))


def refusals(path: Path) -> list[str]:
    return [item.detail for item in read(path) if isinstance(item, Damage)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds a thousandth of the real ones."""
    monkeypatch.setattr(parquet_files, "MOST_UNPACKED", 1 << 19)
    monkeypatch.setattr(parquet_files, "_BATCH", 128 << 10)
    monkeypatch.setattr(parquet_files, "_SLICED", 16 << 10)


BOMBS = {
    "one value in many rows": {"text": ["x" * 25_000] * 256},
    "random value in many rows": {"text": [f"{n:09}" * 3000 for n in (5,)] * 300},
    "values in a list": {
        "id": ["a"] * 3,
        "text": ["t"] * 3,
        "sections": [[{"value": "y" * 9000}] * 900] * 3,
    },
    "a list of names": {"text": [TEXT] * 4, "categories": [[{"name": "z" * 9000}] * 300] * 4},
    "large strings": {"text": pa.array(["x" * 25_000] * 256, pa.large_string())},
}


@pytest.mark.parametrize("columns", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("compression", ["zstd", "none", "gzip"])
def test_a_group_that_unpacks_to_too_much_is_refused_by_name(
    tmp_path: Path, columns: dict, compression: str, small: None
) -> None:
    options = {"compression": compression, "dictionary_pagesize_limit": 1 << 30}
    [detail] = refusals(write(tmp_path / "a.parquet", columns, **options))
    assert "rows 1 to" in detail
    assert "unpacks from" in detail


def test_the_groups_beside_it_are_read(tmp_path: Path, small: None) -> None:
    path = tmp_path / "a.parquet"
    schema = pa.schema({"text": pa.string()})
    options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30}
    with pq.ParquetWriter(path, schema, **options) as out:
        for texts in ([f"{TEXT} {n}" for n in range(50)], ["x" * 25_000] * 256, [TEXT] * 3):
            out.write_table(pa.table({"text": texts}, schema=schema))
    items = read(path)
    [refused] = [item for item in items if isinstance(item, Damage)]
    assert refused.detail.startswith("rows 51 to 306: column text")
    numbers = [item.number for item in items if isinstance(item, Item)]
    assert numbers == [*range(1, 51), *range(307, 310)]


ORDINARY = {
    "texts": {"text": [f"{TEXT} {n}" * 40 for n in range(900)]},
    "a text that repeats": {"text": [TEXT * 9] * 3000},
    "sections": {
        "name": [f"T{n}" for n in range(300)],
        "sections": [
            [{"type": "section", "has_parts": [{"type": "paragraph", "value": f"{TEXT} {n}"}] * 4}]
            for n in range(300)
        ],
    },
    "languages": {"text": [f"{TEXT}{n}" for n in range(5000)], "lang": ["en"] * 5000},
    "nothing": {"text": pa.array([], pa.string())},
    "no text": {"text": pa.array([None] * 9, pa.string()), "number": list(range(9))},
}


@pytest.mark.parametrize("columns", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("group", [64, 1 << 20])
def test_ordinary_files_are_read_whole(tmp_path: Path, columns: dict, group: int) -> None:
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group)
    items = read(tmp_path / "a.parquet")
    known = [name for name in table.column_names if name != "number"]
    assert [item.content for item in items if isinstance(item, Item)] == [
        {name: row[name] for name in known} for row in table.to_pylist()
    ]


def test_a_row_that_is_larger_than_a_line_may_be_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "MAX_LINE", 10_000)
    monkeypatch.setattr(parquet_files, "_SLICED", 1000)
    path = write(tmp_path / "a.parquet", {"text": [TEXT, "y" * 20_000, f"{TEXT} Again."]})
    first, large, last = read(path)
    assert isinstance(first, Item)
    assert isinstance(last, Item)
    assert isinstance(large, Damage)
    assert large.detail == "row 2 has 20004 bytes"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux counts it there")
def test_memory_stays_far_below_what_a_bomb_unpacks_to(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 256), pa.array(["b" * 25_000_000]))
    options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    path = write(tmp_path / "bomb.parquet", {"text": text}, **options)
    assert path.stat().st_size < 10_000
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from pipeline.sources.items import as_input\n"
        "from pipeline.sources.raw import read_items\n"
        "print(len(list(read_items(as_input(Path(sys.argv[2]), 'bomb')))))\n"
        "status = Path('/proc/self/status').read_text()\n"  # what a parent used does not count
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), str(path)], capture_output=True, check=True
    )
    items, peak = map(int, done.stdout.split())
    assert items == 1
    assert peak < 600 * 1024  # KiB; 6.4 GB is what it stands for
