"""prepare on rows that cleanup did not make, large files shared out, and names that collide."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from app.commands.parser import parse_stage
from pipeline.events import Event, Finished, Rejected
from pipeline.prep import plan
from pipeline.sources.documents import Document, read_documents
from tests.pipeline.test_damaged_inputs import cleaned, flip_letter
from tests.support.token_sets import (
    content,
    metadata,
    prepare,
    prepared,
    save_tokenizer,
    texts_in,
    write_documents,
)
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.verification import DamagedFileError


@pytest.fixture(autouse=True)
def tokenizer(workspace: Path) -> None:
    save_tokenizer("letters", [("t", "h"), ("th", "e")])


def rows(name: str, *values: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (value if isinstance(value, str) else json.dumps(value) for value in values)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


TEXT = "the text of a row, long enough to fill a window"


@pytest.mark.parametrize(
    "row",
    [
        {"text": TEXT},
        {"id": 7, "text": TEXT},
        {"id": "a", "title": None, "text": TEXT, "meta": {"text": "not this"}},
        {"body": TEXT},
        {"url": "https://x", "content": TEXT, "score": 1.5},
        {"article": TEXT, "highlights": "the"},
        {"title": "t", "story": TEXT},
        {"text": TEXT, "author": "half an emoji \ud83d"},
    ],
    ids=str,
)
def test_any_row_with_a_text_is_taken(row: dict[str, Any]) -> None:
    given = rows("mine.jsonl", *[row] * 3)
    folder = Path(prepared(input=[given], tokenizer="letters", window=8).path or "")
    assert folder.name == "mine_full_dataset"
    assert texts_in(folder) == [TEXT] * 3


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.ndjson", "mine.json"])
def test_a_named_field_is_the_text(name: str) -> None:
    given = rows(name, {"a": {"deep": TEXT}, "text": "the other one"}, {"a": {"deep": TEXT}})
    done = prepared(input=[given], tokenizer="letters", window=8, text_field="a.deep")
    assert texts_in(Path(done.path or "")) == [TEXT] * 2
    again = prepared(input=[given], tokenizer="letters", window=8, text_field="a.deep")
    assert again.skipped
    made = prepared(input=[given], tokenizer="letters", window=8)
    assert sorted(texts_in(Path(made.path or ""))) == ["the other one"]


def test_a_bad_row_costs_only_itself_and_is_counted() -> None:
    given = rows(
        "mine.jsonl", {"text": TEXT}, '{"text": "cut', "[]", "7", "", {"label": 3},
        {"text": "half \ud83d"}, {"text": "  "}, {"text": TEXT},
    )  # fmt: skip
    events = prepare(input=[given], tokenizer="letters", window=8)
    last = events[-1]
    assert isinstance(last, Finished)
    assert sorted(texts_in(Path(last.path or ""))) == ["half \ufffd", TEXT, TEXT]
    rejected = last.summary["rejected"]
    assert last.summary["read"] == last.summary["documents"] + sum(rejected.values())
    assert {"not_json", "not_object", "no_text_field", "empty"} <= set(rejected)
    shown = [event for event in events if isinstance(event, Rejected)]
    assert len(shown) == sum(rejected.values())
    assert any(event.where.startswith("mine.jsonl:") and event.detail for event in shown)


def test_rows_none_of_which_has_a_known_text_name_the_flag_that_helps() -> None:
    given = rows("mine.jsonl", *({"frage": f"{TEXT} {i}"} for i in range(4)))
    with pytest.raises(UsageError, match="Nothing is left") as refused:
        prepare(input=[given], tokenizer="letters")
    [command] = refused.value.commands
    assert command == ("prepare", "--input", "mine.jsonl", "--text-field", "NAME")


def test_parquet_and_packed_rows_are_read_too() -> None:
    import gzip

    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"body": [TEXT, None, TEXT]}), "a.parquet")
    Path("b.jsonl.gz").write_bytes(gzip.compress(rows("b.jsonl", {"text": TEXT}).read_bytes()))
    for name, kept in (("a.parquet", 2), ("b.jsonl.gz", 1)):
        done = prepared(input=[Path(name)], tokenizer="letters", window=8)
        assert done.summary["documents"] == kept


def large(name: str, count: int = 400) -> Path:
    """Rows of very different lengths, with characters of several bytes and both line ends."""
    chosen = random.Random(3)
    lines = []
    for number in range(count):
        text = f"{number} " + "thé 日本 " * chosen.choice([0, 1, 5, 90])
        row = json.dumps({"id": str(number), "title": "", "text": text}, ensure_ascii=False)
        lines.append(row + chosen.choice(["\n", "\r\n", "\n\n"]))
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join(lines).rstrip(), encoding="utf-8", newline="")
    return Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.jsonl", "mine.ndjson", "folder/cleaned_0.jsonl"])
def test_a_large_file_is_shared_out_and_the_bytes_are_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    given = large(name)
    monkeypatch.setattr(plan, "PART_BYTES", 7_001)
    monkeypatch.setattr("pipeline.workers.usable_cores", lambda: 4)
    groups = list(plan.in_groups([given]))
    assert 3 < len(groups) == given.stat().st_size // 7_001
    sets = {}
    for workers in (1, 2, 4):
        folder = Path(f"set{workers}")
        prepared(input=[given], output=folder, tokenizer="letters", window=8, workers=workers)
        sets[workers] = content(folder)
    assert sets[1] == sets[2] == sets[4]
    assert len(metadata(Path("set1")).shards) == len(groups)
    assert sorted(texts_in(Path("set1"))) == sorted(
        json.loads(line)["text"] for line in given.read_text().split("\n") if line.strip()
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 10, 50, 64, 100, 5000])
def test_parts_of_any_size_give_every_row_once(size: int) -> None:
    given = large("mine.jsonl", count=25)
    whole = list(read_documents(given))
    total = given.stat().st_size
    parts = [
        document
        for begin in range(0, total, size)
        for document in read_documents(given, "", begin, min(begin + size, total))
    ]
    assert parts == whole
    assert all(isinstance(document, Document) for document in whole)


def test_damage_in_a_part_is_told_with_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    given = large("folder/cleaned_0.jsonl")
    lines = given.read_bytes().split(b"\n")
    lines[300] = b'{"id": "x", "ti'
    given.write_bytes(b"\n".join(lines))
    monkeypatch.setattr(plan, "PART_BYTES", 7_001)
    with pytest.raises(HatcheryError, match=r"cleaned_0\.jsonl:301"):
        prepare(input=[given], output=Path("set"), tokenizer="letters", workers=1)


def test_an_interrupted_build_with_other_parts_is_not_mixed_with_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    from pipeline.options.config import Config, PrepareOptions
    from pipeline.prep import stage

    given = large("mine.jsonl")
    stop = threading.Event()
    asked = PrepareOptions(
        input=[given], output=Path("set"), tokenizer="letters", window=8, workers=1
    )
    monkeypatch.setattr(plan, "PART_BYTES", 5_003)
    monkeypatch.setattr("pipeline.prep.progress._FRAME", 0)
    events = stage.run(Config(), asked, stop)
    for number, _ in enumerate(events):
        if number > 4:
            stop.set()
    assert not Path("set").exists()
    monkeypatch.setattr(plan, "PART_BYTES", 7_001)
    for folder in ("set", "fresh"):
        prepare(input=[given], output=Path(folder), tokenizer="letters", window=8, workers=1)
    assert content(Path("set")) == content(Path("fresh"))


def run(*words: str) -> list[Event]:
    from threading import Event as StopSignal

    parsed = parse_stage(list(words))
    return list(parsed.stage.events(parsed.settings, StopSignal()))


def test_two_inputs_of_one_base_name_never_replace_each_other_silently() -> None:
    for folder, count in (("a", 30), ("b", 20)):
        rows(f"{folder}/mine.jsonl", *({"text": f"{TEXT} {folder} {i}"} for i in range(count)))
    first = ["prepare", "--input", "a/mine.jsonl", "--tokenizer", "letters", "--window", "8"]
    run(*first)
    second = [word.replace("a/", "b/") for word in first]
    with pytest.raises(RefusedError, match="tokens of mine already") as refused:
        run(*second)
    assert "tokens in data/tokenized_datasets/mine_full_dataset" in refused.value.found
    assert "made from a/mine.jsonl" in refused.value.found
    another, replacing = refused.value.commands
    made = run(*another)[-1]
    assert isinstance(made, Finished)
    assert (made.summary["documents"], Path(made.path or "").name) == (20, "mine_2_full_dataset")
    assert len(texts_in(Path("data/tokenized_datasets/mine_full_dataset"))) == 30
    made = run(*replacing)[-1]
    assert isinstance(made, Finished)
    assert (made.summary["documents"], Path(made.path or "").name) == (20, "mine_full_dataset")
    assert not made.skipped


@pytest.mark.parametrize(
    "then",
    [
        ["--input", "b/cleaned_0.jsonl", "--name", "a"],
        ["--input", "b/*.jsonl", "--name", "a", "--window", "16"],
        ["--input", "b", "--name", "a"],
        ["--input", "b", "--source", "a"],
        ["--input", "b", "data/cleaned_articles/a", "--name", "a"],
        ["--source", "a"],
    ],
    ids=str,
)
def test_other_texts_are_refused_wherever_they_come_from(then: list[str]) -> None:
    for folder in ("a", "b", "data/cleaned_articles/a"):
        write_documents(Path(folder, "cleaned_0.jsonl"), [f"{TEXT} {folder}"] * 20)
    rest = ["--tokenizer", "letters", "--window", "8"]
    run("prepare", "--input", "a", *rest)
    before = content(Path("data/tokenized_datasets/a_full_dataset"))
    with pytest.raises(RefusedError, match="tokens of a already, made from other texts"):
        run("prepare", *rest[:2], *then)
    assert content(Path("data/tokenized_datasets/a_full_dataset")) == before


def test_the_same_place_may_be_prepared_again_after_a_change() -> None:
    rest = ["--tokenizer", "letters", "--window", "8"]
    for place in ("a", "data/cleaned_articles/b"):
        for count in (20, 15):
            write_documents(Path(place, "cleaned_0.jsonl"), [TEXT] * count)
            given = ["--input", place] if place == "a" else ["--source", "b"]
            made = run("prepare", *given, *rest)[-1]
            assert isinstance(made, Finished)
            assert made.summary["documents"] == count
            assert "given" not in made.summary


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_in_a_shared_file_is_refused_and_nothing_of_it_is_kept(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path = cleaned(Path("cleaned").absolute(), [f"www wow {number} www" for number in range(400)])
    before = flip_letter(path, seed)
    monkeypatch.setattr(plan, "PART_BYTES", 2_003)
    asked = {"input": [Path("cleaned")], "tokenizer": "letters", "window": 8, "workers": 1}
    with pytest.raises(DamagedFileError, match="is damaged") as refused:
        prepare(output=Path("set"), **asked)
    assert refused.value.commands
    assert not Path("set").exists()
    path.write_bytes(before)
    for folder in ("set", "fresh"):
        prepare(output=Path(folder), **asked)
    assert content(Path("set")) == content(Path("fresh"))
