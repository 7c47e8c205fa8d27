"""Looking at data: traced cleaning, leafing through raw files, tokens, and training windows."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest

from pipeline.cleaner.rule_engine import UnstableMarkupError, clean
from pipeline.cleaner.rules import CODE, PLAIN, WIKI
from pipeline.cleaner.wikimedia import article
from pipeline.dataloader import create_simple_train_val_dataloaders
from pipeline.inspection import trace_article
from pipeline.inspection.documents import Corpus, raw_files
from pipeline.inspection.rejected import read_rejected
from pipeline.inspection.tokens import TokenizerCache
from pipeline.inspection.trace import Trace, traced, uses
from pipeline.inspection.trace_article import traced_article
from pipeline.inspection.windows import RunWindows
from pipeline.options.config import Config
from pipeline.runs.record import RunRecord
from pipeline.sources.items import as_input
from pipeline.sources.records import Part, Record, decode
from utils.artefacts import read_manifest
from utils.errors import RefusedError, UsageError

DEBRIS = [
    *("[[", "]]", "|", "''", "'''", "(", ")", " ", "  ", "\n", "&amp;", "<ref>", "</ref>", "a"),
    *("B", ".", ",", ";", "ˈ", "e\u0301", "\u200b", "\t", "\r\n", "[1]", "{{", "}}", "__TOC__"),
]


def explained(trace: Trace) -> bool:
    """Whether every raw character is either in the clean text, in its order, or under a mark."""
    marked = {place for mark in trace.marks for place in range(mark.start, mark.end)}
    rest = [place for place in range(len(trace.raw)) if place not in marked]
    came = {int(place): trace.text[i] for i, place in reversed(list(enumerate(trace.origin)))}
    ordered = all(a <= b for a, b in zip(trace.origin, trace.origin[1:], strict=False))
    return ordered and all(came.get(place) == trace.raw[place] for place in rest)


def test_a_trace_ends_with_the_text_that_cleaning_makes(shared_data: Path) -> None:
    csv.field_size_limit(10**9)
    file = shared_data / "wikimedia-structured/enwiki_flat_text_2024-07.csv"
    with file.open(newline="") as handle:
        texts = [row[3] for row in csv.reader(handle)][:60]
    for text in texts:
        for rules in (WIKI, PLAIN, CODE):
            assert traced(text, rules).text == clean(text, rules, {})


@pytest.mark.parametrize("rules", [CODE, PLAIN])
def test_whatever_the_text_each_character_is_kept_or_under_the_mark_of_a_rule(
    rules: tuple[object, ...],
) -> None:
    random = Random(5)
    for _ in range(400):
        text = "".join(random.choices(DEBRIS, k=random.randint(1, 30)))
        trace = traced(text, rules)  # type: ignore[arg-type]
        assert trace.text == clean(text, rules, {})  # type: ignore[arg-type]
        assert explained(trace), text


def test_nested_debris_is_traced_back_to_the_raw_text() -> None:
    random = Random(6)
    for _ in range(300):
        text = "".join(random.choices(DEBRIS, k=random.randint(1, 30)))
        try:
            clean(text, WIKI, {})
        except UnstableMarkupError:
            continue
        trace = traced(text, WIKI)
        assert len(trace.origin) == len(trace.text)
        assert all(0 <= m.start <= m.end <= len(text) for m in trace.marks)


def test_each_removed_span_carries_the_rule_that_removed_it() -> None:
    raw = (
        "See [[Hen|the hen]] (; she lays)<ref>Smith</ref> daily [1].\r\nCafe\u0301   \n\n\n\nEnd\n"
    )
    trace = traced(raw, WIKI)
    found = {(raw[m.start : m.end], m.rule) for m in trace.marks}
    assert trace.text == "See the hen (she lays) daily.\nCafé\n\nEnd"
    assert {
        ("[[Hen|", "links"),
        ("]]", "links"),
        ("; ", "open_parentheses"),
        ("<ref>Smith</ref>", "references"),
        (" [1]", "citations"),
        ("\r", "line_ends"),
        ("e\u0301", "nfc"),
        ("\n\n", "blank_lines"),
        ("\n", "outer_blank"),
    } <= found


def test_rules_are_summed_up_with_places_characters_and_an_excerpt() -> None:
    raw = "a[1] b[2] c"
    [use] = uses(raw, traced(raw, WIKI).marks)
    assert use == ("citations", 2, 6, "[1]")


def test_text_that_is_clean_has_no_marks() -> None:
    trace = traced("Nothing to do here.", WIKI)
    assert trace.marks == []
    assert trace.text == trace.raw


def test_an_article_is_shown_whole_with_what_the_cleaner_never_reads(shared_data: Path) -> None:
    lines = []
    for name in ("enwiki_articles_2024-10", "enwiki_article_2025-11_sdk"):
        file = shared_data / f"wikimedia-structured/{name}.jsonl"
        lines += file.read_bytes().splitlines()[:3]
    rules: set[str] = set()
    for line in lines:
        trace = traced_article(decode(line), msgspec.json.decode(line))
        assert trace.text == clean(article(decode(line), {})[1], WIKI, {})
        assert len(trace.origin) == len(trace.text)
        same = sum(trace.raw[o] == c for o, c in zip(trace.origin, trace.text, strict=True))
        assert same > 0.98 * len(trace.text)
        rules |= {mark.rule for mark in trace.marks}
    assert {"infobox", "reference", "table", "repeated_abstract", "metadata"} <= rules


def test_thousands_of_empty_sections_are_struck_without_a_search_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []

    class Counted(trace_article.Block):
        def __eq__(self, other: object) -> bool:
            compared.append(self.text)
            return super().__eq__(other)

        __hash__ = trace_article.Block.__hash__

    monkeypatch.setattr(trace_article, "Block", Counted)
    number = 2000
    headings = [Part("section", f"Heading {i}") for i in range(number)]
    record = Record(name="A", sections=[*headings, Part("paragraph", value="b")])
    marks = traced_article(record, {}).marks
    assert sum(mark.rule == "empty_section" for mark in marks) == number
    assert len(compared) < 20 * number


def test_left_out_sections_and_empty_headings_stand_struck_in_reading_order() -> None:
    row = {
        "name": "Hen",
        "abstract": "A hen lays eggs.",
        "sections": [
            {
                "type": "section",
                "name": "Life",
                "has_parts": [{"type": "paragraph", "value": "L."}],
            },
            {"type": "section", "name": "Photos", "has_parts": [{"type": "image", "name": "pic"}]},
            {
                "type": "section",
                "name": "See also",
                "has_parts": [{"type": "paragraph", "value": "Fox"}],
            },
        ],
    }
    line = json.dumps(row).encode()
    trace = traced_article(decode(line), row)
    assert trace.text == "Hen\n\nA hen lays eggs.\n\nLife\n\nL."
    assert {(trace.raw[m.start : m.end], m.rule) for m in trace.marks} == {
        ("Photos", "empty_section"),
        ("pic", "image"),
        ("See also\n  Fox", "apparatus_section"),
    }
    assert trace.raw.index("L.") < trace.raw.index("Photos") < trace.raw.index("See also")


# Leafing through raw files.


@pytest.fixture
def rows(workspace: Path) -> Corpus:
    """Two files of rows and a text."""
    for name, titles in (("a", ["one", "two", "three"]), ("b", ["four", "five"])):
        lines = [json.dumps({"title": t, "text": f"{t} " * 30}) for t in titles]
        Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    Path("c.txt").write_text("six " * 30)
    return Corpus([as_input(Path(n), n) for n in ("a.jsonl", "b.jsonl", "c.txt")])


def test_documents_are_counted_through_all_files(rows: Corpus) -> None:
    spots = [rows.at(number) for number in range(7)]
    titles = [rows.title(position) for position in spots if position]
    assert titles == ["one", "two", "three", "four", "five", "c.txt"]
    assert spots[6] is None


def test_next_and_previous_cross_files_in_both_directions(rows: Corpus) -> None:
    position = rows.at(0)
    assert position is not None
    assert rows.before(position) is None
    forward = [position]
    while following := rows.after(forward[-1]):
        forward.append(following)
    backward = [forward[-1]]
    while earlier := rows.before(backward[-1]):
        backward.append(earlier)
    assert [rows.where(s) for s in forward] == [rows.where(s) for s in reversed(backward)]
    assert len(forward) == 6


def test_a_random_document_is_a_whole_one(rows: Corpus) -> None:
    random = Random(1)
    found = {rows.title(position) for _ in range(60) if (position := rows.anywhere(random))}
    assert found == {"one", "two", "three", "four", "five", "c.txt"}


def test_a_search_goes_on_behind_the_document_it_is_at(rows: Corpus) -> None:
    position = rows.at(0)
    assert position is not None
    found, hit = rows.titled("F", position)
    assert (rows.title(found), hit) == ("four", True)
    found, hit = rows.titled("f", found)
    assert (rows.title(found), hit) == ("five", True)
    assert rows.titled("nowhere", position)[1] is False


def test_what_cleaning_rejects_is_shown_with_the_reason(workspace: Path) -> None:
    Path("a.jsonl").write_text('{"text": "short"}\n{"text": 5\n')
    corpus = Corpus([as_input(Path("a.jsonl"), "a.jsonl")])
    short, broken = corpus.at(0), corpus.at(1)
    assert short is not None
    assert broken is not None
    assert corpus.look(short, 20).rejected.startswith("stub")
    look = corpus.look(broken, 20)
    assert (look.raw, look.rejected.split(":")[0]) == ('{"text": 5', "not_json")


def test_a_file_of_a_terabyte_opens_at_once(workspace: Path) -> None:
    file = Path("huge.jsonl")
    line = json.dumps({"title": "egg", "text": "word " * 40}) + "\n"
    file.write_text(line * 3)
    os.truncate(file, 1 << 40)  # the rest is a hole that would take hours to read
    corpus = Corpus([as_input(file, file.name)])
    position = corpus.at(1)
    assert position is not None
    assert corpus.look(position, 20).title == "egg"
    assert corpus.where(position) == f"huge.jsonl:{len(line)}"
    back = corpus.before(position)
    assert back is not None
    assert back.place.offset == 0
    assert corpus.find(f"huge.jsonl:{2 * len(line)}") is not None


def test_own_files_are_found_again_through_what_cleanup_read(prepared: Path) -> None:
    files = raw_files(Config.model_validate({"dataset": {"source": "files"}}))
    assert len(files) == 40
    assert files[0].name == "00.txt"


def test_a_source_that_is_not_there_names_the_next_command(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no raw text"):
        raw_files(Config.model_validate({"dataset": {"source": "wikipedia"}}))


def test_rejects_are_counted_by_reason_and_found_in_the_raw_text(workspace: Path) -> None:
    from tests.support.stage_runner import run_stage

    Path("raw.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ("tiny", "word " * 30, "small"))
        + "{broken\n"
    )
    flags = {"source": "files", "input": [Path("raw.jsonl")], "workers": 1}
    run_stage("cleanup", cleanup=flags)
    config = Config.model_validate({"dataset": {"source": "files"}})
    reasons = read_rejected(config.cleaned_dir("files"))
    assert [(reason.name, reason.documents) for reason in reasons] == [("stub", 2), ("not_json", 1)]
    corpus = Corpus(raw_files(config))
    position = corpus.find(reasons[0].examples[1].where)
    assert position is not None
    assert corpus.look(position, 20).raw == "small"


def test_torn_and_foreign_lines_among_rejects_are_passed_over(workspace: Path) -> None:
    Path("rejected_a.jsonl").write_bytes(b'{"reason":"stub","where":"a:0"}\n\xff\xfe\n{"reas')
    [reason] = read_rejected(workspace)
    assert (reason.name, reason.documents, len(reason.examples)) == ("stub", 1, 1)


# Tokens.


def test_tokens_are_shown_piece_by_piece_and_counted(prepared: Path) -> None:
    tokenizers = TokenizerCache(Path("tokenizers"))
    assert tokenizers.names() == ["chars"]
    found = tokenizers.tokens("chars", "the hen ")
    assert "".join(text for text, _ in found.pieces) == "the hen "
    assert (found.tokens, found.bytes_per_token) == (8, 1.0)


def test_half_a_character_is_shown_as_its_bytes(workspace: Path) -> None:
    from tests.support.token_sets import save_tokenizer

    save_tokenizer("bytes")
    found = TokenizerCache(Path("tokenizers")).tokens("bytes", "é</s>")
    assert [text for text, _ in found.pieces][:2] == ["<c3>", "<a9>"]
    assert found.tokens == 6  # a control token never comes from text


def test_a_folder_that_holds_no_tokenizer_says_so(workspace: Path) -> None:
    Path("tokenizers/broken").mkdir(parents=True)
    assert (
        "does not hold a tokenizer"
        in TokenizerCache(Path("tokenizers")).tokens("broken", "a").fault
    )


# Windows.


def write_run(folder: Path, **options: object) -> Path:
    """A run on the prepared tokens, as its record tells."""
    data = Path("data/tokenized_datasets/files_full_dataset")
    manifest = read_manifest(data)
    assert manifest is not None
    record = RunRecord(
        options=options,
        model={},
        data=str(data),
        fingerprints={"data": manifest.fingerprint},
        created="2026-01-01T10:00:00+0000",
        version="0.1.0",
    )
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(msgspec.json.encode(record))
    return folder


@pytest.mark.parametrize(("window", "accumulation"), [(None, 1), (16, 3)])
def test_the_windows_of_a_step_are_those_that_the_dataloader_gives(
    prepared: Path, window: int | None, accumulation: int
) -> None:
    options = {
        "batch_size": 4,
        "gradient_accumulation_steps": accumulation,
        "seed": 9,
        "val_split": 0.1,
        "window": window,
    }
    run = RunWindows(write_run(Path("checkpoints/run_a"), **options), Path("tokenizers"))
    train, val, _ = create_simple_train_val_dataloaders(
        4, 0.1, data=run.data.folder, seed=9, window=window, verbose=False
    )
    last = int(2.5 * run.steps_per_epoch)  # two epochs and a half: each has an order of its own
    for step in (1, 2, 7, last // 2, last):
        shown = [run.ids(int(n)) for n in run.indices(step)]
        given: list[list[int]] = []
        for micro in range((step - 1) * accumulation, step * accumulation):
            inputs, targets = train.batch(micro)
            rows = zip(inputs.tolist(), targets.tolist(), strict=True)
            given += [[*tokens, after[-1]] for tokens, after in rows]
        assert shown == given
    assert run.validation_batches == len(val)
    for batch in range(1, len(val) + 1):
        inputs, targets = val.batch(batch - 1)
        rows = zip(inputs.tolist(), targets.tolist(), strict=True)
        scored = [[ids[0], *(t for t in after if t != -100)] for ids, after in rows]
        shown = [run.ids(int(n), validation=True) for n in run.indices(batch, validation=True)]
        assert shown == [ids for ids in scored if len(ids) > 1]


def test_a_window_tells_its_documents_and_what_each_says(prepared: Path) -> None:
    run = RunWindows(write_run(Path("checkpoints/run_a"), window=700), Path("tokenizers"))
    window = run.window(int(run.indices(1)[0]))
    assert len(window.excerpts) > 1
    assert sum(e.end - e.begin for e in window.excerpts) == window.tokens == 701
    documents = run.documents(window)
    assert len(documents) == len(window.excerpts)
    for excerpt in window.excerpts[1:-1]:  # those in the middle are whole
        assert (excerpt.begin, excerpt.end) == (0, excerpt.tokens)
    for excerpt in window.excerpts:
        text = excerpt.text.replace("<s>", "").replace("</s>", "")
        assert text in documents[excerpt.row].text
    joined = run.text(run.ids(window.number))
    assert joined == "".join(excerpt.text for excerpt in window.excerpts)


def test_tokens_made_anew_since_are_told(prepared: Path) -> None:
    folder = write_run(Path("checkpoints/run_a"))
    assert not RunWindows(folder, Path("tokenizers")).remade
    record = json.loads((folder / "run.json").read_bytes())
    record["fingerprints"]["data"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(record))
    assert RunWindows(folder, Path("tokenizers")).remade


def test_a_record_that_is_not_understood_is_refused(prepared: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be understood"):
        RunWindows(write_run(Path("checkpoints/run_a"), batch_size="many"), Path("tokenizers"))


@pytest.mark.slow
def test_none_of_it_imports_torch() -> None:
    screens = "app.tui.data.screen, app.tui.runs.screen, app.tui.runs.results_screen"
    modules = f"{screens}, pipeline.inspection.windows"
    code = f"import sys, {modules}; print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
