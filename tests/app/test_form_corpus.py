"""Which corpus a form is about: what it names, and what becomes of a path in that place."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from app.tui.stage.form_corpus import faults, misplaced_path, named_corpus
from app.tui.stage.stage_flow import output
from app.tui.stage.stage_form import StageForm
from pipeline.corpora import remember
from pipeline.stages import MISSING, Product, find
from tests.support.stage_runner import run_stage, settings


@pytest.fixture
def texts(workspace: Path) -> Path:
    """A folder and a file of the user's own, and the corpus `poems` made from another folder."""
    for name in ("my texts/a.txt", "letters/b.txt", "poems/c.txt", "book.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("Word after word goes on and on. " * 30)
    run_stage("cleanup", cleanup={"input": ["poems"]})
    return workspace


def _line(command: str, *preset: str, products: dict[str, Product] | None = None) -> str:
    form = StageForm(find(command), preset, products=products)
    assert form.fault is None
    return shlex.join(form.arguments)


@pytest.mark.parametrize(
    ("command", "preset", "line"),
    [
        ("cleanup", "", "--source poems"),
        ("cleanup", "--input letters", "--input letters"),
        ("cleanup", "--name verse", "--name verse"),
        ("cleanup", "--source letters", "--source letters"),
        ("tokenize", "", "--train bpe --vocab-size 512 --name poems --source poems"),
        ("tokenize", "--load gpt2", "--load gpt2"),
        ("tokenize", "--input book.txt", "--train bpe --name poems --input book.txt"),
        ("prepare", "", "--source poems"),
        ("prepare", "--input rows.jsonl", "--input rows.jsonl"),
        ("prepare", "--source letters", "--source letters"),
        ("train", "", "--name poems --source poems"),
        ("train", "--name big", "--name big --source poems"),
        ("train", "--resume auto", "--resume auto"),
        ("train", "--data data/x", "--data data/x"),
        ("plan", "", "--source poems"),
        ("rehearse", "", "--source poems"),
        ("quickstart", "", ""),
        ("download", "", ""),
        ("serve", "", ""),
    ],
)
def test_a_command_names_its_corpus_unless_other_settings_do(
    texts: Path, command: str, preset: str, line: str
) -> None:
    assert _line(command, *preset.split()).split() == line.split()


def test_nothing_is_named_where_there_is_nothing_yet_or_config_json_names_it(
    workspace: Path,
) -> None:
    assert named_corpus(settings()) is None
    assert _line("prepare") == ""
    Path("data/raw/mine").mkdir(parents=True)
    remember(Path("data"), "mine")
    assert named_corpus(settings()) == "mine"
    Path("config.json").write_text('{"dataset": {"source": "wikipedia"}}')
    assert named_corpus(settings()) is None
    assert _line("prepare") == ""


def test_nothing_is_fetched_for_a_corpus_of_own_files_unless_a_source_is_named(
    texts: Path,
) -> None:
    form = StageForm(find("download"))
    assert form.first_fault == "download.name"
    assert form.draft.faults["download.name"] == "which one? wikipedia, shakespeare"
    made = output(find("download"), form.draft.config)
    assert made is not None
    assert made.where == "nothing"
    assert "files of yours" in made.there
    for chosen in (["shakespeare"], ["--list"]):
        assert StageForm(find("download"), chosen).first_fault is None


def test_a_proposed_vocabulary_says_why_until_another_is_typed(texts: Path) -> None:
    form = StageForm(find("tokenize"))
    assert form.why.startswith("512 proposed: ")
    assert "of text" in form.why
    form.draft.apply({"tokenize.vocab_size": 600})
    form.propose()
    assert form.why == ""
    assert "--vocab-size 600" in form.line


def test_a_chain_names_the_corpus_at_every_step(texts: Path) -> None:
    nothing = dict.fromkeys(("cleanup", "tokenize", "prepare", "train"), MISSING)
    there = nothing | {"download": Product("fresh", "poems")}
    form = StageForm(find("train"), products=there)
    assert [(step.stage.command, *step.arguments) for step in form.chain(there)] == [
        ("cleanup", "--source", "poems"),
        (
            "tokenize",
            "--train",
            "bpe",
            "--vocab-size",
            "512",
            "--name",
            "poems",
            "--source",
            "poems",
        ),
        ("prepare", "--source", "poems"),
        ("train", "--name", "poems", "--source", "poems"),
    ]
    form = StageForm(find("prepare"), ["--source", "letters"], products=there)
    assert [step.arguments[-1] for step in form.chain(there)] == ["letters"] * 3


def test_input_that_is_given_needs_no_step_that_makes_it(texts: Path) -> None:
    there = {"download": MISSING, "cleanup": MISSING, "tokenize": MISSING}
    form = StageForm(find("cleanup"), ["--input", "nowhere"], products=there)
    assert [step.stage.command for step in form.chain(there)] == ["cleanup"]
    found = form.survey(form.draft.config)
    assert form.hint(found) == "Input nowhere: not there"
    there["download"] = Product("fresh", "poems")
    form = StageForm(find("prepare"), ["--input", "book.txt"], products=there)
    assert [step.stage.command for step in form.chain(there)] == ["cleanup", "tokenize", "prepare"]


def test_where_another_corpus_has_a_newer_run_a_model_is_named() -> None:
    run = Path("checkpoints/run_2026_11_20_10_00_rose")
    own = Product("fresh", "rose", "step 5", run, 1.0)
    for command in ("inference", "serve", "export", "bench"):
        line = _line(command, products={"train": own})
        assert "checkpoint" not in line
        newer = own._replace(elsewhere="first of python")
        named = run.name in _line(command, products={"train": newer})
        assert named == ("run" in find(command).needs)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("letters", "letters"),
        ("./poems", "poems"),
        ("letters/", "letters"),
        ("my texts", "my texts"),
        ("book.txt", "book.txt"),
        ("nowhere/deep", "nowhere/deep"),
        ("..", ".."),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("~nobody-of-that-name", None),
        ("poems", None),
        ("python", None),
        ("shakespeare", None),
        ("nothing-so-called", None),
    ],
)
def test_a_path_is_told_from_the_name_of_a_corpus(
    texts: Path, source: str, path: str | None
) -> None:
    config = settings(cleanup={"source": source})
    found = misplaced_path(find("cleanup"), config)
    assert found == (None if path is None else Path(path))
    words = faults(find("cleanup"), config).get("cleanup.source", "")
    assert ("Enter moves it to Input" in words) == (path is not None)


def test_the_home_folder_is_a_path(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(texts))
    config = settings(cleanup={"source": "~/letters"})
    assert misplaced_path(find("cleanup"), config) == texts / "letters"


@pytest.mark.parametrize(
    ("command", "setting", "moved"),
    [
        ("cleanup", "cleanup.source", "--input letters"),
        ("rehearse", "rehearse.source", "--input letters"),
        ("prepare", "prepare.source", "--source poems"),
        ("tokenize", "tokenize.source", "--train bpe --vocab-size 512 --name poems --source poems"),
        ("download", "download.name", ""),
    ],
)
def test_a_path_moves_to_the_input_of_the_stage_or_out_of_its_form(
    texts: Path, command: str, setting: str, moved: str
) -> None:
    form = StageForm(find(command), kept={setting: "letters"})
    assert form.first_fault == setting
    assert form.take_path(f"{command}.test") is None
    assert form.take_path(setting) == Path("letters")
    form.propose()
    assert setting not in form.draft.faults or command == "download"  # which now lacks a name
    assert shlex.join(form.arguments).split() == moved.split()


def test_a_path_that_config_json_says_is_moved_too(texts: Path) -> None:
    Path("config.json").write_text(json.dumps({"cleanup": {"source": "letters"}}))
    form = StageForm(find("cleanup"))
    assert form.take_path("cleanup.source") == Path("letters")
    form.propose()
    assert form.draft.faults == {}
    assert form.draft.config.cleanup.source is None
    assert form.draft.config.cleanup.input == [Path("letters")]


def test_before_it_is_moved_the_card_says_what_would_be_made(texts: Path) -> None:
    form = StageForm(find("cleanup"), kept={"cleanup.source": "letters"})
    made = output(find("cleanup"), form.meant)
    assert made is not None
    assert made.where == "data/cleaned_articles/letters"
    raw = form.survey(form.meant)["download"]
    assert (raw.title, raw.figure) == ("letters", "1 file, 960 B")


@pytest.mark.parametrize("name", ["a/b", ".hidden", "-x", "x" * 101, "a\\b"])
def test_what_cannot_name_a_corpus_is_told_below_the_field(texts: Path, name: str) -> None:
    assert "cleanup.name" in faults(find("cleanup"), settings(cleanup={"name": name}))


@pytest.mark.parametrize(
    ("options", "folder", "there"),
    [
        ({"input": ["letters"]}, "letters", "the corpus letters, not there yet"),
        ({"input": ["letters"], "name": "mine"}, "mine", "the corpus mine, not there yet"),
        ({"input": ["book.txt"]}, "book", "the corpus book, not there yet"),
        ({"source": "poems"}, "poems", "there already: made again only if"),
        ({"input": ["poems"]}, "poems", "the corpus poems, there already"),
        ({"input": ["letters"], "name": "poems"}, "poems", "there already, made from poems: give"),
        ({"input": ["my texts"], "name": "poems", "force": True}, "poems", "the corpus poems"),
    ],
)
def test_the_card_of_clean_follows_its_fields(
    texts: Path, options: dict[str, Any], folder: str, there: str
) -> None:
    made = output(find("cleanup"), settings(cleanup=options))
    assert made is not None
    assert made.where == f"data/cleaned_articles/{folder}"
    assert made.there.startswith(there)


def test_a_source_in_config_json_is_no_reason_for_the_card_to_forget_the_input(
    texts: Path,
) -> None:
    Path("config.json").write_text(json.dumps({"dataset": {"source": "python"}}))
    made = output(find("cleanup"), settings(cleanup={"input": ["letters"]}))
    assert made is not None
    assert made.where == "data/cleaned_articles/letters"
