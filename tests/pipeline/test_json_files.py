"""JSON as people have it: what other programs read costs nothing, a broken row only itself."""

import gzip
import json
from pathlib import Path
from threading import Event

import pytest

from pipeline.cleaner import stage
from pipeline.events import Finished
from pipeline.inspection.documents import Corpus
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.documents import cleaned_files, read_cleaned
from pipeline.sources.items import as_input
from pipeline.sources.lines import HEAD, Damage
from pipeline.sources.raw import read_items

TEXT = "The quick brown fox jumps over the lazy dog again and again until evening."


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    return path


def clean(path: Path) -> dict:
    options = CleanupOptions(
        source="files", input=[path], workers=1, min_words=0, output=Path("out"), force=True
    )
    *_, last = stage.run(Config(), options, Event())
    assert isinstance(last, Finished)
    return last.summary


def texts() -> list[str]:
    return [d.text for file in cleaned_files(Path("out")) for d in read_cleaned(file)]


def row(number: int, **fields: object) -> str:
    return json.dumps({"id": f"d{number}", "text": f"{number} {TEXT}", **fields})


ROWS = [row(number) for number in range(6)]
LINES = "\n".join(ROWS)


@pytest.mark.parametrize(
    ("data", "rejected"),
    [
        (f"\n\n{LINES}", {}),
        (f"   \n{LINES}\n\n", {}),
        (f'{{"id": "x", "text": "cut\n{LINES}', {"not_json": 1}),
        (f"not JSON at all\n{LINES}", {"not_json": 1}),
        (f'{LINES}\n{{"id": "x", "te', {"not_json": 1}),
        ("\r\n".join(ROWS), {}),
        (f"\ufeff\n{LINES}", {}),
        (f"[{','.join(ROWS)}]", {}),
        ("[\n" + ",\n".join(ROWS) + "\n]\n", {}),
        (json.dumps([json.loads(each) for each in ROWS], indent=2), {}),
        (f"[{','.join(ROWS)}", {"not_json": 1}),
        (f'[{",".join(ROWS)}, {{"text": ', {"not_json": 1}),
        ("\n".join(json.dumps(json.loads(each), indent=1) for each in ROWS), {}),
        (f'{{"version": 3, "data": [{",".join(ROWS)}]}}', {}),
        (json.dumps({"name": "Set", "rows": [json.loads(r) for r in ROWS], "n": 6}, indent=1), {}),
        (f'{{"score": NaN, "items": [{",".join(ROWS)}]}}', {}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_json_file_gives_its_records(
    workspace: Path, data: str, rejected: dict, packed: bool
) -> None:
    name = "in/a.json.gz" if packed else "in/a.json"
    facts = clean(write(Path(name), gzip.compress(data.encode()) if packed else data))
    assert texts() == [f"{number} {TEXT}" for number in range(6)]
    assert facts["rejected"] == rejected


@pytest.mark.parametrize("size", [HEAD - 200, HEAD + 10, 3 * HEAD])
@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n"])
def test_rows_longer_than_what_is_looked_at_are_rows(
    tmp_path: Path, size: int, between: str
) -> None:
    rows = [json.dumps({"text": f"{n}" + "x" * size}) for n in range(3)]
    path = write(tmp_path / "a.json", between.join(rows))
    items = list(read_items(as_input(path, "a")))
    assert [item.content for item in items] == [r.encode() for r in rows]
    data = path.read_bytes()
    for item in items:
        assert data[item.offset :].startswith(item.content)
    [one] = read_items(as_input(write(tmp_path / "b.json", rows[0]), "b"))
    assert one.content == rows[0].encode()
    held = f'{{"data": [{",".join(rows)}]}}'
    items = list(read_items(as_input(write(tmp_path / "c.json", held), "c")))
    assert [item.content for item in items] == [r.encode() for r in rows]


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "meta": [{"a": 1}] * 50},
        {"messages": [{"role": "user", "content": TEXT}] * 5, "text": TEXT},
        {"content": TEXT, "images": [{"url": "x" * 50}] * 9},
        {"name": "Fox", "sections": [{"type": "paragraph", "value": TEXT}] * 3},
        {"full_text": TEXT, "authors": [{"name": "A" * 90}] * 9},
    ],
)
def test_a_record_with_lists_is_one_record(workspace: Path, record: dict) -> None:
    facts = clean(write(Path("in/a.json"), json.dumps(record)))
    assert facts["read"] == 1
    assert TEXT in texts()[0]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "[NaN, 1]", '{"a": NaN}'])
def test_numbers_that_are_no_json_cost_nothing(workspace: Path, number: str) -> None:
    lines = [f'{{"text": "{n} {TEXT}", "score": {number}}}' for n in range(3)]
    for data, name in (("\n".join(lines), "a.jsonl"), (f"[{','.join(lines)}]", "a.json")):
        facts = clean(write(Path("in") / name, data))
        assert texts() == [f"{n} {TEXT}" for n in range(3)]
        assert facts["rejected"] == {}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"text": TEXT, "author": "\ud83d"}, TEXT),
        ({"text": f"cut \ud83d {TEXT}"}, f"cut \ufffd {TEXT}"),
        ({"text": f"{TEXT} \ude00"}, f"{TEXT} \ufffd"),
        ({"text": f"whole \U0001f600 {TEXT}", "x": ["\udc00"]}, f"whole \U0001f600 {TEXT}"),
        ({"text": TEXT, "\ud800": 1}, TEXT),
        ({"text": f"two \ud83d\ud83d {TEXT}"}, f"two \ufffd\ufffd {TEXT}"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_half_an_emoji_costs_no_row(workspace: Path, fields: dict, kept: str, name: str) -> None:
    path = write(Path("in") / name, json.dumps(fields))
    assert clean(path)["rejected"] == {}
    assert texts() == [kept]
    corpus = Corpus([as_input(path, name)])
    position = corpus.at(0)
    assert position is not None
    assert corpus.look(position, 0).text == kept


def test_a_bad_byte_in_an_array_costs_its_record(workspace: Path) -> None:
    data = f"[{','.join(ROWS)}]".encode().replace(b"3 The", b"3 \xff The")
    facts = clean(write(Path("in/a.json"), data))
    assert facts["rejected"] == {"not_utf8": 1}
    assert texts() == [f"{number} {TEXT}" for number in range(6) if number != 3]


@pytest.mark.parametrize(
    "data", ["", "\n", " [ ] ", "{}", "nonsense", "[1, 2", '"text"', "[" * 99_999]
)
def test_what_holds_no_record_is_said(workspace: Path, data: str) -> None:
    write(Path("in/good.jsonl"), row(1))
    write(Path("in/a.json"), data)
    facts = clean(Path("in"))
    assert facts["kept"] == 1
    assert facts["read"] == 1 + sum(facts["rejected"].values())


def test_raw_control_characters_within_strings_cost_no_row(workspace: Path) -> None:
    assert clean(write(Path("in/a.jsonl"), f'{{"text": "{TEXT}\tand more"}}'))["rejected"] == {}
    assert texts() == [f"{TEXT}\tand more"]


def test_damage_says_where(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", f"[{ROWS[0]}, {ROWS[1]}, oops")
    *good, last = read_items(as_input(path, "a"))
    assert len(good) == 2
    assert isinstance(last, Damage)
    assert "after 2 values" in last.detail


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_cut_packed_array_gives_what_comes_before_the_cut(tmp_path: Path, kept: float) -> None:
    rows = [{"text": f"{n * 7919 % 10007} {TEXT} {n * 104729 % 99991}"} for n in range(3000)]
    data = gzip.compress(json.dumps(rows).encode())
    path = write(tmp_path / "a.json.gz", data[: int(len(data) * kept)])
    *whole, last = read_items(as_input(path, "a"))
    assert isinstance(last, Damage)
    assert last.reason == "truncated_gzip"
    assert [json.loads(item.content) for item in whole] == rows[: len(whole)]
    assert len(whole) > 3000 * kept * 0.8
