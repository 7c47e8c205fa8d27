"""Every file is read or counted: which kinds there are, and what a search passes over."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from threading import Event

import pytest

from pipeline.cleaner import stage
from pipeline.events import Finished, Saved
from pipeline.options.config import CleanupOptions, Config, PrepareOptions, TokenizeOptions
from pipeline.prep import stage as prepare_stage
from pipeline.rehearsal.sample_files import cut_out
from pipeline.sources.documents import Document, cleaned_files, read_cleaned
from pipeline.sources.input_files import PassedOver, expand_inputs, in_words, kind_of
from pipeline.sources.items import as_input
from pipeline.sources.lines import Damage
from pipeline.sources.raw import read_items
from pipeline.tokenizer import stage as tokenizer_stage
from pipeline.tokens.metadata import read_metadata
from tests.support.stage_runner import finished, run_stage
from utils.artefacts import read_manifest
from utils.errors import HatcheryError

TEXT = "The quick brown fox jumps over the lazy dog again and again until the evening comes."


def write(path: Path, data: bytes | str = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def clean(*inputs: Path) -> dict:
    options = CleanupOptions(
        source="files", input=list(inputs), workers=1, min_words=5, output=Path("out"), force=True
    )
    events = list(stage.run(Config(), options, Event()))
    assert isinstance(events[-1], Finished)
    [saved] = [event for event in events if isinstance(event, Saved)]
    assert saved.facts == events[-1].summary
    return events[-1].summary


def documents() -> list[Document]:
    return [d for file in cleaned_files(Path("out")) for d in read_cleaned(file)]


def rows(*texts: str, first: int = 0) -> bytes:
    return b"".join(
        json.dumps({"id": f"d{n}", "title": "", "text": f"{text} {TEXT}"}).encode() + b"\n"
        for n, text in enumerate(texts, first)
    )


def test_what_is_passed_over_is_counted_by_reason_and_suffix(workspace: Path) -> None:
    for name in ("a.csv", "b.CSV", "c.pdf", "d.jsonl.zst", "LICENSE", "deep/e.html", ".secret"):
        write(Path("in", name))
    write(Path("in/.git/config"))
    write(Path("in/notes.txt"))
    write(Path("in/weights/README.md"))
    write(Path("in/weights/model.safetensors"))
    facts = clean(Path("in"))
    assert facts["kept"] == 1
    assert facts["files_passed_over"] == {
        "hidden": {"folder": 1, "no suffix": 1},
        "not_read_here": {
            "no suffix": 1,
            ".csv": 2,
            ".pdf": 1,
            ".jsonl.zst": 1,
            ".html": 1,
            ".safetensors": 1,
        },
        "describes_the_rows": {".md": 1},
    }
    assert facts["passed_over"].startswith("9 files and 1 folder (.csv 2, .html 1, .jsonl.zst 1")
    manifest = read_manifest(Path("out"))
    assert manifest is not None
    assert manifest.facts["files_passed_over"] == facts["files_passed_over"]
    again = list(
        stage.run(
            Config(),
            CleanupOptions(source="files", input=[Path("in")], min_words=5, output=Path("out")),
            Event(),
        )
    )
    assert isinstance(again[-1], Finished)
    assert again[-1].skipped
    assert again[-1].summary["passed_over"] == facts["passed_over"]


def test_where_nothing_is_passed_over_nothing_is_said(workspace: Path) -> None:
    facts = clean(write(Path("in/a.txt")))
    assert "passed_over" not in facts
    assert facts["files_passed_over"] == {}


@pytest.mark.parametrize(
    ("others", "read"),
    [
        (["config.json", "notes.txt"], True),
        (["package.json"], True),
        (["sample.jsonl", "guide.md", "more.txt"], True),
        ([], True),
        (["rows.jsonl"], False),
        (["rows.ndjson", "LICENSE.txt"], False),
        (["part-0.parquet", "load.py"], False),
        (["config.json", "model.safetensors"], False),
        (["dataset_info.json"], False),
        (["shard.tar.gz"], False),
    ],
)
def test_a_readme_is_left_out_only_beside_what_it_describes(
    tmp_path: Path, others: list[str], read: bool
) -> None:
    readme = write(tmp_path / "README.md")
    for name in others:
        write(tmp_path / name)
    passed_over: PassedOver = {}
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "x.txt")
    assert (readme in expand_inputs([tmp_path], passed_over)) is read
    assert ("describes_the_rows" in passed_over) is not read


def test_the_card_of_a_data_set_is_known_by_its_front_matter(tmp_path: Path) -> None:
    card = write(tmp_path / "README.md", "---\nlicense: mit\ntask_categories:\n- text\n---\n# Set")
    text = write(tmp_path / "data" / "a.txt")
    assert expand_inputs([tmp_path]) == [text]
    card.write_text("---\ntitle: My notes\n---\n# Notes")
    assert expand_inputs([tmp_path]) == [card, text]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.ndjson", ".jsonl"),
        ("a.NDJSON.gz", ".jsonl"),
        ("a.tar.gz", ".tar"),
        ("a.tgz", ".tar"),
        ("a.tar", ".tar"),
        ("wiki_00", "wiki_NN"),
        ("wiki_123.gz", "wiki_NN"),
        ("wiki_x", ""),
        ("a.parquet.gz", ""),
        ("a.tgz.gz", ""),
        ("a.csv", ""),
    ],
)
def test_kinds_are_known_by_name(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


def packed(members: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "a.jsonl"
        archive.addfile(link)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar", "w:")]
)
def test_json_in_an_archive_is_read_member_by_member(workspace: Path, name: str, mode: str) -> None:
    members = {
        "dump/one.ndjson": rows("one", "two"),
        "dump/two.json": json.dumps([{"text": f"three {TEXT}"}, {"text": f"four {TEXT}"}]).encode(),
        "dump/three.jsonl.gz": gzip.compress(rows("five", first=9) + b"broken\n"),
        "dump/table.csv": b"a,b",
        "dump/._one.ndjson": b"\0\0",
        "../../outside.jsonl": rows("six", first=20),
    }
    facts = clean(write(Path("in", name), packed(members, mode)))
    texts = [document.text.split()[0] for document in documents()]
    assert texts == ["one", "two", "three", "four", "five", "six"]
    assert facts["rejected"] == {"not_json": 1}
    assert facts["files_passed_over"] == {
        "not_read_here": {".csv": 1},
        "hidden": {".ndjson": 1},
        "not_a_file": {".jsonl": 1},
    }
    assert len({document.id for document in documents()}) == 6
    assert not Path("outside.jsonl").exists()


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_cut_archive_gives_what_is_whole(tmp_path: Path, kept: float) -> None:
    many = {f"{n}.jsonl": rows(*(os.urandom(40).hex() for _ in range(50))) for n in range(20)}
    data = packed(many, "w:gz")
    path = write(tmp_path / "a.tar.gz", data[: int(len(data) * kept)])
    items = list(read_items(as_input(path, "a.tar.gz")))
    assert "truncated_gzip" in [item.reason for item in items if isinstance(item, Damage)]
    assert len(items) > 1000 * kept * 0.8


def test_what_is_no_archive_costs_only_itself(workspace: Path) -> None:
    write(Path("in/fake.tar.gz"), b"not packed at all")
    write(Path("in/fake.tar"), b"x" * 2000)
    write(Path("in/good.txt"))
    facts = clean(Path("in"))
    assert facts["kept"] == 1
    assert sum(facts["rejected"].values()) == 2


WIKI = (
    '<doc id="12" url="https://nl.wikipedia.org/wiki?curid=12" title="AT&amp;T &quot;Bell&quot;">\n'
    'AT&T "Bell"\n\n{text} First.\n\n{text} Second.\n\n</doc>\n'
    '<doc id="13" revid="5" url="https://nl.wikipedia.org/wiki?curid=13" title="Empty">\nEmpty\n\n'
    "</doc>\n"
    '<doc id="14" url="https://nl.wikipedia.org/wiki?curid=14" title="Third">\n{text} Third.\n'
).replace("{text}", TEXT)


@pytest.mark.parametrize("name", ["AA/wiki_00", "AB/wiki_99", "wiki.txt", "wiki_07.gz"])
def test_articles_of_wikiextractor_are_documents(workspace: Path, name: str) -> None:
    data = WIKI.encode()
    facts = clean(write(Path("in", name), gzip.compress(data) if name.endswith(".gz") else data))
    first, third = documents()
    assert (first.id, first.title) == ("12", 'AT&T "Bell"')
    assert first.text == f"{TEXT} First.\n\n{TEXT} Second."
    assert (third.id, third.text) == ("14", f"{TEXT} Third.")
    assert facts["rejected"] == {"no_text": 1}


def test_both_forms_of_wikiextractor_give_the_same_documents(workspace: Path) -> None:
    clean(write(Path("in/wiki_00"), WIKI))
    tagged = documents()
    fields = ("id", "url", "title", "text")
    url = "https://nl.wikipedia.org/wiki?curid="
    lines = [
        ("12", f"{url}12", 'AT&T "Bell"', f"{TEXT} First.\n\n{TEXT} Second.\n"),
        ("14", f"{url}14", "Third", f"{TEXT} Third."),
    ]
    data = "".join(json.dumps(dict(zip(fields, line, strict=True))) + "\n" for line in lines)
    clean(write(Path("in/wiki_00"), data))
    assert documents() == tagged


def test_text_between_articles_is_not_lost_in_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "wiki_00", WIKI + "</doc>\nstray words\n")
    *_, last = read_items(as_input(path, "wiki_00"))
    assert isinstance(last, Damage)
    assert last.reason == "outside_article"
    assert "stray words" in last.detail


def test_a_plain_text_that_is_called_like_one_of_wikiextractor_is_a_text(workspace: Path) -> None:
    clean(write(Path("in/wiki_00")))
    assert [document.text for document in documents()] == [TEXT]


def test_a_folder_that_cannot_be_opened_is_counted(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("in/open/a.txt"))
    closed = write(Path("in/closed/b.txt")).parent
    scan = os.scandir

    def refused(path):
        if path == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    facts = clean(Path("in"))
    assert facts["files_passed_over"] == {"cannot_be_opened": {"folder": 1}}
    assert facts["passed_over"] == "1 folder (cannot be opened 1)"


def test_what_is_beside_texts_that_are_up_to_date_is_what_lies_there_today(workspace: Path) -> None:
    write(Path("in/a.txt"))
    write(Path("in/b.csv"))
    given = {"input": ["in"], "min_words": 5, "workers": 1}
    first = finished(run_stage("cleanup", cleanup=given))
    assert first.summary["passed_over"] == "1 file (.csv 1)"
    Path("in/b.csv").unlink()
    write(Path("in/c.pdf"))
    write(Path("in/d.docx"))
    again = finished(run_stage("cleanup", cleanup=given))
    assert again.skipped
    assert again.summary["passed_over"] == "2 files (.docx 1, .pdf 1)"
    assert again.summary["kept"] == 1


def test_the_stages_behind_cleanup_name_what_they_pass_over_in_a_folder_of_texts(
    workspace: Path,
) -> None:
    write(Path("in/a.txt"), TEXT * 9)
    for name in ("b.csv", "c.html", ".hidden"):
        write(Path("in", name))
    learned = run_stage("tokenize", tokenize={"train": "char", "input": ["in"]})
    assert finished(learned).summary["passed_over"] == "3 files (.csv 1, .html 1, hidden 1)"
    for _ in range(2):  # made, and found up to date
        made = run_stage("prepare", prepare={"input": ["in"], "window": 8})
        assert finished(made).summary["passed_over"] == "3 files (.csv 1, .html 1, hidden 1)"
    run_stage("cleanup", cleanup={"input": ["in"], "min_words": 5, "workers": 1})
    made = run_stage("prepare", prepare={"source": "in", "window": 8, "force": True})
    assert "passed_over" not in finished(made).summary


@pytest.mark.parametrize("suffix", [".txt", ".md", ".jsonl", ".json", ".parquet"])
def test_a_file_that_cannot_be_opened_costs_only_itself(
    workspace: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = write(Path(f"in/closed{suffix}"))
    write(Path("in/open.txt"))
    opened = Path.open

    def refused(self, *args, **kwargs):
        if self.name == closed.name:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    facts = clean(Path("in"))
    assert facts["kept"] == 1
    assert facts["files_passed_over"] == {"cannot_be_opened": {suffix: 1}}
    with pytest.raises(HatcheryError, match="cannot be read: Permission denied"):
        clean(closed)


def test_a_file_that_goes_while_others_are_read_costs_only_itself(tmp_path: Path) -> None:
    gone = as_input(write(tmp_path / "a.txt"), "a.txt")
    gone.path.unlink()
    [item] = read_items(gone)
    assert isinstance(item, Damage)
    assert item.reason == "unreadable"


@pytest.mark.parametrize("size", [246, 250, 252, 255])
@pytest.mark.parametrize("letter", ["x", "é", "语"])
def test_names_of_any_length_that_the_system_allows_are_read(
    workspace: Path, size: int, letter: str
) -> None:
    stem = letter * ((size - 4) // len(letter.encode()))
    name = stem + "y" * (size - 4 - len(stem.encode())) + ".txt"
    assert len(name.encode()) == size
    write(Path("in", name))
    assert clean(Path("in"))["kept"] == 1


def test_in_words_counts_files_and_folders() -> None:
    many = {f".{letter}": 1 for letter in "abcdefghij"}
    assert in_words({"not_read_here": many, "hidden": {"folder": 2, ".x": 1}}) == (
        "11 files and 2 folders (.a 1, .b 1, .c 1, .d 1, .e 1, .f 1, .g 1, .h 1 …)"
    )


@pytest.mark.parametrize("name", ["a.tar.gz", "wiki_00"])
def test_a_sample_of_a_form_that_cannot_be_cut_is_rows(tmp_path: Path, name: str) -> None:
    data = WIKI.encode() if name == "wiki_00" else packed({"a.jsonl": rows("a", "b")}, "w:gz")
    source = as_input(write(tmp_path / name, data), name)
    [sample] = cut_out(source, tmp_path / "sample" / name, 5)
    assert sample.name == f"{name}.jsonl"
    taken = [json.loads(line) for line in sample.read_bytes().splitlines()]
    assert len(taken) > 1
    assert all(TEXT in row["text"] or row["title"] == "Empty" for row in taken)


@pytest.mark.parametrize(
    "raw",
    [b"caf\xe9.txt", b"\xff\xfe.jsonl", b"\xd6\xd0\xce\xc4.md", b"a\\\x80.py", b"deep\xe9/b.txt"],
)
def test_a_name_that_is_not_utf8_goes_through_every_stage(workspace: Path, raw: bytes) -> None:
    path = Path("in") / os.fsdecode(raw)
    content = rows(*"abcdef") if path.suffix == ".jsonl" else f"{TEXT}\n\n{TEXT} Again.\n".encode()
    write(path, content * 9)
    write(Path("in/ok.txt"), f"{TEXT} Fine.\n" * 20)
    facts = clean(Path("in"))
    assert facts["kept"] > 1
    assert all(document.id.encode() for document in documents())
    manifest = read_manifest(Path("out"))
    assert manifest is not None
    assert os.fsencode(path) in [os.fsencode(source.path) for source in manifest.inputs]
    train = TokenizeOptions(train="char", input=[Path("out")])
    for options in (train, train.model_copy(update={"input": [path], "name": "raw"})):
        *_, last = tokenizer_stage.run(Config(), options, Event())
        assert isinstance(last, Finished)
    for given in (Path("out"), path):
        options = PrepareOptions(input=[given], tokenizer="raw", output=Path("tokens"), force=True)
        *_, last = prepare_stage.run(Config(), options, Event())
        assert isinstance(last, Finished)
        assert last.summary["documents"] > 0
        assert read_metadata(Path("tokens"), read_manifest(Path("tokens"))).documents > 0


def test_two_names_that_look_alike_are_two_files(workspace: Path) -> None:
    write(Path("in") / os.fsdecode(b"caf\xe9.txt"), f"{TEXT} One.")
    write(Path("in/caf\\xe9.txt"), f"{TEXT} Two.")
    write(Path("in/café.txt"), f"{TEXT} Three.")
    assert clean(Path("in"))["kept"] == 3
