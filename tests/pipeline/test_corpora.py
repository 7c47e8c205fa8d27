"""Corpora: their names, which one a command means, and that none replaces another silently."""

import json
from pathlib import Path
from threading import Event as StopSignal

import pytest

from app.commands.parser import parse_stage
from pipeline.corpora import LAST, checked_name, corpora, last_corpus, name_of, remember
from pipeline.events import Event, Finished, Started, Warned
from pipeline.train.setup import begin_run
from utils.errors import HatcheryError, RefusedError, UsageError


def _texts(folder: Path, word: str, count: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"{word} number {number} goes on and on. " * 30)
    return folder


def _run(*words: str) -> list[Event]:
    parsed = parse_stage(list(words))
    return list(parsed.stage.events(parsed.settings, StopSignal()))


def _kept(events: list[Event]) -> int:
    finished = events[-1]
    assert isinstance(finished, Finished)
    return int(finished.summary["kept"])


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_or_file_names_its_corpus(workspace: Path) -> None:
    Path("book.v2.txt").write_text("text")
    Path("rows.jsonl.gz").write_bytes(b"")
    names = {
        "my_texts/": "my_texts",
        "a/../my texts": "my_texts",
        "book.v2.txt": "book.v2",
        "rows.jsonl.gz": "rows",
        "poems/*.txt": "poems",
        "python": "python_texts",
        "big_test": "big_test_texts",
        ".": workspace.name.strip("._-"),
        "日本語": "日本語",
    }
    for given, name in names.items():
        expected = f"{name}_texts" if given == "." and name.endswith("_test") else name
        assert name_of([Path(given)]) == expected, given
    assert checked_name(name_of([Path("x" * 300)]))


@pytest.mark.parametrize(
    "given", ["./mine", "mine/", "/tmp/x", "", ".", "..", "-x", "a\nb", "x" * 101]
)
def test_what_is_no_name_is_refused(given: str) -> None:
    _texts(Path("mine"), "word")
    with pytest.raises(UsageError) as refused:
        checked_name(given)
    if "mine" in given:
        assert refused.value.commands == (("cleanup", "--input", given),)


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"corpus": 3}', '{"corpus": "../x"}', "\0"])
def test_a_damaged_memory_falls_back_with_a_word(damage: str) -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word")))
    Path("data", LAST).write_text(damage)
    assert last_corpus(Path("data")).name == "mine"
    assert "damaged" in last_corpus(Path("data")).note


def test_a_corpus_that_is_gone_falls_back_with_a_word() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word")))
    remember(Path("data"), "gone")
    assert last_corpus(Path("data")) == ("mine", "gone, worked on last, is no longer there")
    assert corpora(Path("data")) == ["mine"]


@pytest.mark.parametrize("chosen", ["poems", None])
def test_work_that_ends_leaves_alone_what_was_chosen_meanwhile(chosen: str | None) -> None:
    _run("cleanup", "--input", str(_texts(Path("poems"), "rose", 9)))
    for words in (["cleanup"], ["tokenize", "--train", "char"], ["prepare", "--window", "8"]):
        given = str(_texts(Path("mine"), "word", 9))
        parsed = parse_stage([*words, "--input", given])
        events = parsed.stage.events(parsed.settings, StopSignal())
        assert isinstance(next(events), Started)
        if chosen:
            remember(Path("data"), "other")
            remember(Path("data"), chosen)
        assert isinstance([*events][-1], Finished)
        assert last_corpus(Path("data")).name == (chosen or "mine")
        if chosen:
            remember(Path("data"), "draft")


def test_the_corpus_worked_on_last_is_meant_and_the_first_line_says_so() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word")))
    _run("cleanup", "--input", str(_texts(Path("other"), "thing")))
    assert parse_stage(["train"]).config.source == "other"
    assert parse_stage(["train", "--source", "mine"]).config.source == "mine"
    assert parse_stage(["plan", "--dataset.source", "mine"]).config.source == "mine"
    _run("tokenize", "--train", "char", "--name", "t", "--source", "mine")
    started = _run("prepare", "--tokenizer", "t")[0]
    assert isinstance(started, Started)
    assert started.title == "Prepare mine (--source NAME chooses another corpus)"
    assert Path("data/tokenized_datasets/mine_full_dataset").is_dir()


def test_other_texts_never_replace_a_corpus_silently() -> None:
    mine, other = _texts(Path("mine"), "word", 4), _texts(Path("x/mine"), "thing", 1)
    _run("cleanup", "--input", str(mine))
    with pytest.raises(RefusedError, match="corpus mine already") as refused:
        _run("cleanup", "--input", str(other))
    assert refused.value.found.startswith("4 documents in")
    renamed, forced = refused.value.commands
    assert _kept(_run(*renamed)) == 1
    assert _kept(_run("cleanup", "--source", "mine")) == 4, "it is cleaned again by its name"
    assert _kept(_run(*forced)) == 1


def test_the_same_place_may_be_cleaned_again_after_a_change() -> None:
    mine = _texts(Path("mine"), "word", 4)
    _run("cleanup", "--input", str(mine))
    (mine / "0.txt").unlink()
    assert _kept(_run("cleanup", "--input", str(mine))) == 3


def test_prepare_with_an_input_writes_over_no_other_corpus() -> None:
    for name in ("a", "b"):
        _texts(Path(name), name)
    _run("tokenize", "--train", "char", "--name", "t", "--input", "a")
    for name in ("a", "b"):
        _run("prepare", "--tokenizer", "t", "--input", name)
    made = sorted(path.name for path in Path("data/tokenized_datasets").glob("[ab]*"))
    assert made == ["a_full_dataset", "b_full_dataset"]


def test_a_preset_with_a_shorter_context_takes_its_own() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word", 40)))
    _run("tokenize", "--train", "char", "--name", "t")
    _run("prepare", "--tokenizer", "t", "--window", "512")
    plan = _run("plan", "--no-probe", "--model.preset", "tiny", "--source", "mine")[-1]
    assert isinstance(plan, Finished)
    assert plan.summary["start_it"].endswith("train --source mine --model.preset tiny")
    settings = parse_stage(["train", "--model.preset", "tiny"]).settings
    setup = begin_run(settings.config, settings.config.train, settings.typed)
    assert setup.window == setup.options.window == setup.model.max_position_embeddings == 256
    assert "not the 512" in setup.notes[0]


def test_a_single_text_goes_all_the_way_and_every_stage_says_what_is_held_out() -> None:
    Path("input.txt").write_text("\n".join(f"line {i} of some words" for i in range(400)))
    _run("cleanup", "--input", "input.txt")
    _run("tokenize", "--train", "char", "--name", "t")
    sentence = "because the corpus is one document"
    for command in (
        ["prepare", "--tokenizer", "t", "--window", "128"],
        ["plan", "--no-probe", "--model.preset", "tiny"],
    ):
        said = [event.message for event in _run(*command) if isinstance(event, Warned)]
        assert any(sentence in message for message in said), command
    settings = parse_stage(["train", "--model.preset", "tiny"]).settings
    notes = begin_run(settings.config, settings.config.train, settings.typed).notes
    assert any(sentence in note for note in notes)


def _rows(row: dict[str, str], count: int = 1) -> None:
    Path("rows.jsonl").write_text((json.dumps(row) + "\n") * count)


def _refused(*words: str) -> UsageError:
    with pytest.raises(UsageError) as refused:
        _run(*words)
    return refused.value


def test_a_trial_alone_goes_on_to_a_tokenizer_and_to_all_of_its_texts() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word", 6)), "--test")
    assert _run("tokenize", "--train", "char", "--name", "t")[-1]
    assert _kept(_run("cleanup", "--source", "mine")) == 6
    assert Path("data/cleaned_articles/mine").is_dir()


def test_a_name_that_nothing_has_offers_the_texts_that_are_called_so() -> None:
    Path("poems.jsonl").write_text('{"text": "a"}\n')
    for name, offered in (("poems", "poems.jsonl"), ("nothing", "FILE_OR_FOLDER")):
        first, _ = _refused("cleanup", "--source", name).commands
        assert first == ("cleanup", "--input", offered, "--name", name)


def test_a_tokenizer_is_to_be_made_of_the_texts_that_are_to_be_prepared() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word", 6)))
    rows = ["--input", "rows.jsonl", "--text-field", "frage"]
    _rows({"frage": "some words " * 90}, count=30)
    for words, texts in ((["--source", "mine"], ["--source", "mine"]), (rows, rows)):
        for asked in ([], ["--tokenizer", "none"]):
            command = _refused("prepare", *words, *asked).commands[0]
            named = ["--name", "none"] if asked else []
            assert command == ("tokenize", "--train", "bpe", *named, *texts)
    assert _run(*command)[-1]
    assert _run("prepare", *rows)[-1]


def test_the_field_that_was_named_is_read_again() -> None:
    _rows({"frage": "asked words " * 30, "text": "other words " * 30})
    _run("cleanup", "--input", "rows.jsonl", "--text-field", "frage")
    again = _run("cleanup", "--source", "rows")[-1]
    assert isinstance(again, Finished)
    assert again.skipped
    _run("cleanup", "--source", "rows", "--force")
    assert "asked words" in Path("data/cleaned_articles/rows/cleaned_rows.jsonl").read_text()


def test_the_same_texts_once_cleaned_may_take_the_place_of_their_rows() -> None:
    _rows({"body": "some words " * 90}, count=30)
    _run("tokenize", "--train", "char", "--name", "t", "--input", "rows.jsonl")
    _run("prepare", "--input", "rows.jsonl")
    _run("cleanup", "--input", "rows.jsonl")
    assert _run("prepare")[-1]


def test_a_corpus_of_which_nothing_is_left_is_not_worked_on_and_the_advice_runs() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word", 6)))
    Path("tiny.txt").write_text("hello")
    for words in (["--input", "tiny.txt"], ["--input", "tiny.txt", "--test", "--name", "t"]):
        with pytest.raises(HatcheryError, match="No document survived") as refused:
            _run("cleanup", *words)
        assert last_corpus(Path("data")).name == "mine"
        [command] = refused.value.commands
        assert _kept(_run(*command)) == 1
        remember(Path("data"), "mine")


@pytest.mark.parametrize("given", ["mine", "mine/*.txt"])
def test_a_corpus_may_be_cleaned_by_its_name_again_and_again(given: str) -> None:
    _texts(Path("mine"), "word", 6)
    _run("cleanup", "--input", given)
    for _ in range(3):
        assert _kept(_run("cleanup", "--source", "mine", "--force")) == 6
    with pytest.raises(RefusedError, match="made from mine"):
        _run("cleanup", "--input", str(_texts(Path("x/mine"), "other", 1)))


def test_a_tokenizer_of_another_corpus_is_not_replaced_without_a_word() -> None:
    for name in ("mine", "yours"):
        _run("cleanup", "--input", str(_texts(Path(name), name, 6)))
    told = []
    for name in ("mine", "yours", "yours", "mine"):
        events = _run("tokenize", "--train", "char", "--source", name)
        told.append([event.remedy for event in events if isinstance(event, Warned)])
    assert list(map(len, told)) == [0, 1, 0, 1]
    assert "tokenize --source yours --train char --name char_tokenizer_2" in told[1][0]
    _texts(Path("mine"), "more", 7)
    _run("cleanup", "--source", "mine")
    events = _run("tokenize", "--train", "char", "--source", "mine")
    assert not [event for event in events if isinstance(event, Warned)]


def test_a_trial_leads_to_all_of_its_texts_by_the_command_that_is_advised() -> None:
    _run("cleanup", "--input", str(_texts(Path("mine"), "word", 40)), "--test")
    for command in _refused("train", "--source", "mine").commands:
        assert _run(*command)[-1]
    assert Path("data/tokenized_datasets/mine_full_dataset").is_dir()


@pytest.mark.parametrize(
    "words", [["train"], ["plan"], ["prepare"], ["tokenize", "--train", "bpe"]]
)
def test_a_misspelt_corpus_is_told_which_there_are(words: list[str]) -> None:
    assert "corpora here" not in _refused(*words, "--source", "mine").found
    _run("cleanup", "--input", str(_texts(Path("mine"), "word", 6)))
    assert _refused(*words, "--source", "mien").found.endswith("; corpora here: mine")
