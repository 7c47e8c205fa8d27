"""Cleanup from raw files to clean documents: nothing lost, nothing doubled, nothing silent."""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pipeline import workers
from pipeline.cleaner import stage, worker
from pipeline.cleaner.steps import RawDocument, Rejection
from pipeline.events import Event, Finished, Progress, Rejected
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.documents import Document, cleaned_files, read_cleaned
from pipeline.sources.items import as_input
from utils.artefacts import MANIFEST
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.verification import verify

LONG = "The quick brown fox jumps over the lazy dog again and again until evening, then rests."
WORDS = f"{LONG} It rains all day long."


def clean(*inputs: Path, **options: object) -> list[Event]:
    settings = {"source": "wikipedia", "input": list(inputs) or None, "workers": 1, **options}
    return list(stage.run(Config(), CleanupOptions(**settings), threading.Event()))


def summary(events: list[Event]) -> dict:
    assert isinstance(events[-1], Finished)
    return events[-1].summary


def documents(folder: str = "data/cleaned_articles/wikipedia") -> list[Document]:
    return [d for file in cleaned_files(Path(folder)) for d in read_cleaned(file)]


def record(name: str, *paragraphs: str, **fields: object) -> bytes:
    parts = [{"type": "paragraph", "value": text} for text in paragraphs]
    sections = [{"type": "section", "name": "Abstract", "has_parts": parts}]
    return json.dumps({"name": name, "identifier": name, "sections": sections, **fields}).encode()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_sizes_are_those_of_the_text_read_and_kept(workspace: Path) -> None:
    write(Path("in/a.txt"), WORDS.encode())
    write(Path("in/b.jsonl"), json.dumps({"text": f"é {WORDS}"}).encode() + b"\n")
    facts = summary(clean(Path("in"), source="files"))
    assert facts["raw_bytes"] == sum(path.stat().st_size for path in Path("in").iterdir())
    assert facts["text_bytes"] == len(WORDS.encode()) + len(f"é {WORDS}".encode())


def test_the_real_records_become_good_articles(shared_data: Path, workspace: Path) -> None:
    facts = summary(clean(shared_data / "wikimedia-structured"))
    assert (facts["read"], facts["kept"], facts["rejected"]) == (16, 14, {"stub": 1, "redirect": 1})
    articles = {d.title: d.text for d in documents()}
    reagan = articles["1984 United States presidential election"]
    opening = "1984 United States presidential election\n\nThe 1984 United States presidential"
    assert reagan.startswith(opening)
    assert reagan.count("was the 50th quadrennial presidential election") == 1
    order = ["\n\nBackground\n\nRonald Reagan entered", "\n\nNominations\n\nRepublican Party"]
    order += ["- Ronald Reagan (inc.): 6,484,987 (98.6%)\n- Unpledged delegates", "\n\nResults\n\n"]
    positions = [reagan.index(part) for part in order]
    assert positions == sorted(positions)
    assert '"Reagan Democrats", millions' in reagan
    for heading in ("Works cited", "Abstract", "Books", "Electoral results"):
        assert f"\n\n{heading}\n\n" not in reagan
    assert "https://" not in "".join(articles.values())
    assert articles["Not Again SU"].startswith("Not Again SU\n\nIntroduction:\n\nThe hashtag")
    (montreal,) = (text for title, text in articles.items() if not title)
    assert montreal.startswith("Montreal (French: Montréal) is the second most populous city")
    assert verify(Path("data/cleaned_articles/wikipedia")).kind == "cleaned"


def test_other_real_texts_keep_every_word(shared_data: Path, workspace: Path) -> None:
    facts = summary(clean(shared_data / "web-text", source="files"))
    lines = (shared_data / "web-text" / "c4_demo_300.jsonl").read_bytes().splitlines()
    raw = [json.loads(line)["text"] for line in lines]
    assert facts["read"] == 300
    assert facts["kept"] + facts["rejected"].get("stub", 0) == 300
    kept = {" ".join(d.text.split()) for d in documents("data/cleaned_articles/files")}
    assert len(kept & {" ".join(text.split()) for text in raw}) > 290
    clean(shared_data / "tinyshakespeare" / "input.txt", source="shakespeare")
    pieces = documents("data/cleaned_articles/shakespeare")
    assert len(pieces) == 34
    assert pieces[4].id == "input.txt#00005"
    lines = (shared_data / "tinyshakespeare" / "input.txt").read_text().split("\n")
    book = re.sub("\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip()
    assert "\n\n".join(d.text for d in pieces) == book
    clean(shared_data / "wikitext-2", source="files", force=True)
    titles = {d.title for d in documents("data/cleaned_articles/files")}
    assert {"Homarus gammarus", "Robert Boulter"} <= titles


@pytest.mark.slow
def test_the_library_of_python_becomes_documents(workspace: Path) -> None:
    facts = summary(clean(source=None, input=None))
    library = {d.id: d.text for d in documents("data/cleaned_articles/python")}
    source = Path(json.__file__).read_text().replace("\x0c", "").strip("\n").rstrip()
    assert library["json/__init__.py"] == source
    assert library["pydoc_data/topics.py#while"].startswith('The "while" statement')
    assert facts["read"] == facts["kept"] + sum(facts["rejected"].values())
    assert summary(clean(source=None, input=None)) == facts


def test_a_bad_line_costs_only_itself_and_is_named(workspace: Path) -> None:
    lines = [
        record("A", WORDS),
        b"not json",
        b"[1, 2]",
        b'{"name":"B","abstract":"\xff\xfe"}',
        b'{"name":"C","abstract":"\\ud800 ' + WORDS.encode() + b'"}',
        b'{"name":"D","abstract":NaN}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name":"E","name":"F","abstract":"' + WORDS.encode() + b' F."}',
        b'{"messages":[]}',
        record("A", WORDS),
        record("G", "Too short."),
        record("H", "{{" * 50 + WORDS + "}}" * 50),
        b"",
        record("I", WORDS),
    ]
    path = write(workspace / "raw.jsonl", b"\n".join(lines))
    events = clean(path)
    facts = summary(events)
    assert [d.title for d in documents()] == ["A", "C", "F", "I"]
    assert "\ufffd The quick" in documents()[1].text
    assert facts["rejected"] == {
        "not_json": 1,
        "not_object": 1,
        "not_utf8": 1,
        "no_text": 1,
        "too_deep": 1,
        "no_text_field": 1,
        "duplicate": 1,
        "stub": 1,
        "unstable_markup": 1,
    }
    assert facts["read"] == 13 == facts["kept"] + sum(facts["rejected"].values())
    named = {event.where: event.rule for event in events if isinstance(event, Rejected)}
    assert named[f"raw.jsonl:{len(lines[0]) + 1}"] == "not_json"
    rejects = Path("data/cleaned_articles/wikipedia/rejected_raw.jsonl").read_bytes().splitlines()
    assert len(rejects) == 9
    for line in rejects:
        assert set(json.loads(line)) == {"reason", "where", "detail"}


def test_a_huge_line_is_rejected_in_bounded_memory(workspace: Path) -> None:
    path = write(workspace / "a.jsonl", b"x" * 3_000_000 + b"\n" + record("A", WORDS))
    inputs = [as_input(path, "a.jsonl")]
    unit = worker.CleaningUnit("a", workspace, inputs, "jsonl", 5, False, max_line=10_000)
    *_, report = unit.run()
    assert isinstance(report, worker.UnitReport)
    assert report.counts.rejected == {"too_long_line": 1}
    assert report.counts.kept == 1
    assert report.counts.raw_bytes < 20_000


@pytest.mark.slow
def test_cut_and_foreign_files_give_what_they_hold_and_say_what_is_lost(workspace: Path) -> None:
    rng = random.Random(1)
    rows = [record(f"A{i}", f"{WORDS} {rng.random()} {rng.random()}") + b"\n" for i in range(2000)]
    write(workspace / "in/cut.jsonl.gz", gzip.compress(b"".join(rows))[:-3000])
    write(workspace / "in/damaged.txt", "Zürich ".encode() * 50 + b"\xff")
    write(workspace / "in/fake.parquet", b"PAR1 but not really")
    write(workspace / "in/empty.jsonl", b"")
    write(workspace / "in/good.txt", WORDS.encode())
    events = clean(workspace / "in")
    facts = summary(events)
    assert facts["rejected"] == {"truncated_gzip": 1, "not_utf8": 1, "unreadable": 1}
    assert 1000 < facts["kept"] < 2000
    assert any(type(event).__name__ == "Warned" for event in events)


def test_json_arrays_objects_and_parquet_are_read(workspace: Path) -> None:
    row = {
        "name": "P",
        "identifier": 7,
        "sections": json.dumps([{"type": "paragraph", "value": f"{WORDS} P."}]),
    }
    pq.write_table(
        pa.Table.from_pylist([row, {"name": "Q", "identifier": 8, "sections": None}]),
        workspace / "a.parquet",
    )
    pq.write_table(pa.table({"text": [f"{WORDS} Plain."], "other": [1]}), workspace / "b.parquet")
    x, y, z, v, w = (record(name, f"{WORDS} {name}.") for name in "XYZVW")
    write(workspace / "c.json", b"[\n" + x + b",\n" + y + b"]")
    write(workspace / "d.json", z.replace(b', "', b',\n"'))
    write(workspace / "e.json.gz", gzip.compress(v + b"\n" + w))
    facts = summary(clean(workspace))
    assert sorted(d.title for d in documents()) == ["", "P", "V", "W", "X", "Y", "Z"]
    assert facts["rejected"] == {"no_text": 1}


def test_nothing_kept_is_an_error_that_says_why(workspace: Path) -> None:
    path = write(workspace / "a.jsonl", b'{"messages":[]}\n' * 3)
    for _ in range(2):
        with pytest.raises(HatcheryError, match="No document survived") as error:
            clean(path)
        assert "3 no_text_field" in error.value.found


@pytest.mark.parametrize(
    ("name", "data", "remedy"),
    [
        ("half.jsonl.gz", gzip.compress(record("A", WORDS) * 40, mtime=0)[:30], "fetch them again"),
        ("none.parquet", b"PAR1 and no more", "fetch them again"),
        ("rows.jsonl", b"{never closed\n" * 9, "give other files"),
        ("short.jsonl", b'{"text": "one word or two"}\n', "--min-words 0"),
    ],
)
def test_only_what_was_too_short_is_advised_to_be_kept_short(
    workspace: Path, name: str, data: bytes, remedy: str
) -> None:
    with pytest.raises(HatcheryError, match="No document survived") as error:
        clean(write(workspace / name, data))
    assert remedy in error.value.remedy
    assert ("--min-words 0" in error.value.remedy) == ("--min-words" in remedy)


def test_usage_is_explained(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no raw text of wikipedia") as error:
        clean()
    assert "main.py download wikipedia" in error.value.remedy
    with pytest.raises(UsageError, match="takes no --input"):
        clean(workspace, source="python")
    write(workspace / "mine" / "thesis.txt", WORDS.encode())
    with pytest.raises(RefusedError, match="in the way"):
        clean(workspace / "mine", output=workspace / "mine")
    assert (workspace / "mine" / "thesis.txt").exists()


def many(folder: Path, files: int, rows: int) -> Path:
    for file in range(files):
        lines = (record(f"{file}-{row}", f"{WORDS}[1] {file} {row}.") for row in range(rows))
        write(folder / f"part_{file}.jsonl", b"\n".join(lines))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != MANIFEST}


def test_unchanged_inputs_are_skipped_and_changed_ones_are_not(workspace: Path) -> None:
    folder = many(workspace / "in", 2, 5)
    first = clean(folder)
    assert any(isinstance(event, Progress) for event in first)
    again = clean(folder)[-1]
    assert isinstance(again, Finished)
    assert again.skipped
    assert again.summary == summary(first)
    assert not clean(folder, min_words=3)[-1].skipped  # type: ignore[union-attr]
    with (folder / "part_0.jsonl").open("ab") as out:
        out.write(b"\n" + record("new", f"{WORDS} new."))
    assert summary(clean(folder))["kept"] == 11


def test_test_mode_and_text_format(workspace: Path, monkeypatch) -> None:
    monkeypatch.setattr(worker, "TEST_ARTICLES", 3)
    events = clean(many(workspace / "in", 2, 5), test=True, format="txt")
    assert summary(events)["read"] == 6
    lines = Path("data/cleaned_articles/wikipedia_test/cleaned_part_0.txt").read_text().split("\n")
    assert lines[:-1] == [f"0-{row} {WORDS} 0 {row}." for row in range(3)]


@pytest.mark.slow
def test_several_processes_make_the_same_bytes_as_one(workspace: Path, monkeypatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    folder = many(workspace / "in", 4, 30)
    one = summary(clean(folder, output=workspace / "one"))
    two = summary(clean(folder, output=workspace / "two", workers=2))
    assert one == two
    assert contents(workspace / "one") == contents(workspace / "two")


def test_a_stop_keeps_finished_units_and_the_next_run_does_the_rest(
    workspace: Path, monkeypatch
) -> None:
    monkeypatch.setattr(stage, "_TICK", 0.0)
    folder = many(workspace / "in", 4, 20)
    options = CleanupOptions(source="wikipedia", input=[folder], workers=1)
    stop = threading.Event()
    for event in stage.run(Config(), options, stop):
        if isinstance(event, Progress) and event.figures["files"] == "2/4":
            stop.set()
    assert isinstance(event, Finished)
    assert event.stopped
    assert event.summary == {"units_done": 2, "units": 4}
    assert not Path("data/cleaned_articles/wikipedia").exists()
    done: list[str] = []
    original = worker.CleaningUnit.run

    def watched(unit: worker.CleaningUnit) -> Iterator[worker.UnitProgress | worker.UnitReport]:
        done.append(unit.name)
        yield from original(unit)

    monkeypatch.setattr(worker.CleaningUnit, "run", watched)
    assert summary(clean(folder))["kept"] == 80
    assert done == ["part_2", "part_3"]


_SCRIPT = """
import os, random, signal, sys, threading
from pathlib import Path
from pipeline.cleaner import stage, worker
from pipeline.options.config import CleanupOptions, Config
worker._TICK = 0
stage._TICK = 0
kill_at = int(sys.argv[2])
options = CleanupOptions(source="wikipedia", input=[Path(sys.argv[1])], workers=1)
for number, event in enumerate(stage.run(Config(), options, threading.Event())):
    if number == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_kill_9_anywhere_then_a_rerun_loses_and_doubles_nothing(workspace: Path) -> None:
    folder = many(workspace / "in", 5, 40)
    clean(folder, output=workspace / "undisturbed")
    environment = {**os.environ, "PYTHONPATH": str(Path(stage.__file__).parents[2])}
    codes = []
    for kill_at in (30, 120, 100, 10_000):
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(folder), str(kill_at)],
            env=environment,
            cwd=workspace,
            check=False,
        )
        codes.append(run.returncode)
    assert codes == [-signal.SIGKILL] * 3 + [0]
    target = workspace / "data/cleaned_articles/wikipedia"
    verify(target)
    assert contents(target) == contents(workspace / "undisturbed")
    assert [p.name for p in target.parent.iterdir()] == ["wikipedia"]


class _Dying(worker.CleaningUnit, frozen=True):
    def run(self) -> Iterator[worker.UnitProgress | worker.UnitReport]:
        if self.name == "part_1":
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().run()


@pytest.mark.slow
def test_a_dying_worker_is_reported_with_its_file(workspace: Path, monkeypatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 2)
    folder = many(workspace / "in", 3, 5)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "CleaningUnit", _Dying)
        with pytest.raises(HatcheryError, match=r"died while working on part_1\.jsonl"):
            clean(folder, workers=2)
    assert summary(clean(folder, workers=2))["kept"] == 15


def test_documents_survive_their_own_format(workspace: Path) -> None:
    text = f'{WORDS} Quote " backslash \\ tab\there \u200d é 👩‍🚀'
    write(workspace / "a.jsonl", msgspec.json.encode({"id": 3, "text": text}))
    clean(workspace / "a.jsonl", source="files")
    assert documents("data/cleaned_articles/files") == [Document("3", "", text)]


def test_a_step_may_change_or_reject_and_what_it_rejects_goes_no_further(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class NoShouting:
        def apply(self, document: RawDocument) -> RawDocument | Rejection:
            if document.text.isupper():
                return Rejection("shouting", detail=document.title)
            return msgspec.structs.replace(document, text=document.text.replace("fox", "hen"))

    class Last:
        def apply(self, document: RawDocument) -> RawDocument | Rejection:
            seen.append(document.text)
            return document

    original = worker.cleaning_steps
    monkeypatch.setattr(
        worker, "cleaning_steps", lambda *given: [*original(*given), NoShouting(), Last()]
    )
    rows = [{"text": WORDS}, {"text": WORDS.upper(), "title": "LOUD"}, {"text": "short"}]
    write(workspace / "a.jsonl", b"\n".join(map(msgspec.json.encode, rows)))
    facts = summary(clean(workspace / "a.jsonl", source="files"))
    assert (facts["read"], facts["kept"]) == (3, 1)
    assert facts["rejected"] == {"shouting": 1, "stub": 1}
    assert seen == [WORDS.replace("fox", "hen")]
    assert [d.text for d in documents("data/cleaned_articles/files")] == seen
    rejected = Path("data/cleaned_articles/files/rejected_a.jsonl").read_bytes().splitlines()
    where = f"a.jsonl:{len(msgspec.json.encode(rows[0])) + 1}"
    assert json.loads(rejected[0]) == {
        "reason": "shouting",
        "where": where,
        "detail": "LOUD",
    }


def test_a_unit_names_its_first_files(workspace: Path) -> None:
    inputs = [as_input(write(workspace / f"{n}.txt", b"x"), f"{n}.txt") for n in range(5)]
    unit = worker.CleaningUnit("a", workspace, inputs, "jsonl", 5, False)
    assert str(unit) == "0.txt, 1.txt, 2.txt and 2 more files"
