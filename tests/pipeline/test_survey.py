"""What there is, read from manifests: fresh, stale, missing or damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpora import remember
from pipeline.runs.record import RunRecord, write_record
from pipeline.survey import given_texts, of_corpus, survey, survey_all
from tests.support.benchmarks import RUN, report, write
from tests.support.run_folders import finished_run
from tests.support.stage_runner import finished, run_stage, settings


def test_an_empty_folder_has_only_the_embedded_source(workspace: Path) -> None:
    found = survey(settings())
    assert found.pop("download").state == "fresh"
    assert {product.state for product in found.values()} == {"missing"}


def test_each_product_is_found_with_its_figures(prepared: Path) -> None:
    found = survey(settings())
    states = {command: product.state for command, product in found.items()}
    assert states == {
        "download": "fresh",
        "cleanup": "fresh",
        "tokenize": "fresh",
        "prepare": "fresh",
        "train": "missing",
        "lima": "missing",
        "sft": "missing",
        "benchmark": "missing",
    }
    assert "documents of" in found["cleanup"].figure
    assert "ids" in found["tokenize"].figure
    assert "windows of" in found["prepare"].figure
    assert all(found[made].made for made in ("cleanup", "tokenize", "prepare"))


def test_a_changed_input_makes_what_follows_stale(prepared: Path) -> None:
    tokens = survey(settings())["prepare"]
    assert tokens.path is not None
    Path("more.txt").write_text("the small hen lays an egg and looks at the green bush\n" * 9)
    run_stage("cleanup", cleanup={"input": ["more.txt"], "force": True})
    found = survey(settings())
    assert found["cleanup"].state == "fresh"
    assert (found["tokenize"].state, found["prepare"].state) == ("stale", "stale")
    assert "has changed since" in found["prepare"].why


@pytest.mark.slow
def test_a_run_shows_its_best_loss_and_whether_its_tokens_changed(prepared: Path) -> None:
    model = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2}
    train = {"max_steps": 4, "batch_size": 2, "name": "one", "tensorboard": False}
    assert finished(run_stage("train", train=train, model=model)).path
    run = survey(settings())["train"]
    assert (run.state, run.title) == ("fresh", "one")
    assert run.figure.startswith("step 4, val ")
    run_stage("prepare", prepare={"window": 24, "force": True})
    assert survey(settings())["train"].state == "stale"


def test_a_damaged_manifest_is_one_row_s_trouble(prepared: Path) -> None:
    folder = survey(settings())["cleanup"].path
    assert folder is not None
    (folder / "manifest.json").write_text("{")
    found = survey(settings())
    assert found["cleanup"].state == "damaged"
    assert "manifest.json" in found["cleanup"].why
    assert (found["prepare"].state, found["train"].state) == ("stale", "missing")
    assert "is damaged" in found["prepare"].why


@pytest.mark.slow
def test_looking_never_loads_torch(workspace: Path) -> None:
    code = (
        "import sys; from app.commands.settings import load_config\n"
        "from pipeline.survey import survey\n"
        "survey(load_config({}).config); sys.exit('torch' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": root}, check=False)
    assert done.returncode == 0


def _poems() -> Path:
    folder = Path("texts/poems")
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"{number}.txt").write_text(f"A rose {number} is a rose is a rose. " * 30)
    run_stage("cleanup", cleanup={"input": [folder], "name": "poems"})
    return folder


def test_every_corpus_has_its_own_products(prepared: Path) -> None:
    Path("config.json").unlink()
    _poems()
    assert settings().source == "poems"
    found = survey(settings())
    assert found["download"].figure == "your own files in texts/poems"
    assert found["cleanup"].figure == "5 documents of 5"
    tokenizer = found["tokenize"]
    assert (tokenizer.title, tokenizer.state, tokenizer.foreign) == ("chars", "stale", True)
    assert tokenizer.why == "it learned from files, not from poems"
    assert found["prepare"].state == "missing"
    other = survey(of_corpus(settings(), "files"))
    assert [other[made].state for made in ("cleanup", "tokenize", "prepare")] == ["fresh"] * 3


def test_a_tokenizer_of_another_corpus_is_fresh_once_it_was_chosen_or_used(prepared: Path) -> None:
    Path("config.json").unlink()
    _poems()
    chosen = survey(settings(prepare={"tokenizer": "chars"}))["tokenize"]
    assert (chosen.state, chosen.foreign) == ("fresh", False)
    run_stage("prepare", prepare={"tokenizer": "chars", "window": 32, "workers": 1})
    assert survey(settings())["tokenize"].state == "fresh"


def _run_on(tokens: str, name: str) -> None:
    run = finished_run(name)
    write_record(run, RunRecord({}, {}, tokens, {}, "2026-11-21T11:20:00+0000", "0.1.0"))


def test_the_run_shown_is_the_newest_of_the_corpus(workspace: Path) -> None:
    tokens = "data/tokenized_datasets/{}_full_dataset"
    _run_on(tokens.format("poems"), "run_2026_11_20_10_00_rose")
    _run_on(tokens.format("python"), "run_2026_11_21_10_00_first")
    for path in Path("checkpoints/run_2026_11_20_10_00_rose").glob("checkpoint_*"):
        os.utime(path, (1e9, 1e9))
    runs = {
        name: survey(of_corpus(settings(), name))["train"] for name in ("poems", "python", "other")
    }
    assert (runs["poems"].title, runs["poems"].elsewhere) == ("rose", "first of python")
    assert (runs["python"].title, runs["python"].elsewhere) == ("first", "")
    assert (runs["other"].state, runs["other"].elsewhere) == ("missing", "first of python")


def test_a_run_that_does_not_say_what_it_learned_from_is_shown_for_every_corpus(
    workspace: Path,
) -> None:
    finished_run("run_2026_11_21_10_00_old")
    for name in ("poems", "python"):
        assert survey(of_corpus(settings(), name))["train"].title == "old"


def test_all_corpora_are_those_made_those_put_there_and_those_known(prepared: Path) -> None:
    _poems()
    Path("data/raw/mine").mkdir(parents=True)
    found = survey_all(settings())
    assert list(found) == ["poems", "files", "mine", "python", "wikipedia", "shakespeare"]
    assert found["poems"]["cleanup"].state == "fresh"
    assert found["files"]["prepare"].state == "fresh"
    assert found["mine"]["download"].state == "missing"
    assert found["wikipedia"]["download"].state == "missing"


def test_a_raw_folder_can_be_the_corpus_worked_on(workspace: Path) -> None:
    Path("data/raw/mine").mkdir(parents=True)
    Path("data/raw/mine/a.txt").write_text("text " * 99)
    remember(Path("data"), "mine")
    assert settings().source == "mine"
    assert survey(settings())["download"].figure.startswith("1 file, ")


@pytest.mark.parametrize(
    ("given", "state", "figure", "why"),
    [
        (["texts"], "fresh", "3 files, 1.3 KiB; passed over: 1 file (.png 1)", ""),
        (["texts/a.txt"], "fresh", "1 file, 495 B", ""),
        (["texts/*.md", "texts/a.txt"], "fresh", "2 files, 990 B", ""),
        (["texts/sub", "texts/a.txt", "texts/b.md"], "fresh", "3 files, 1.3 KiB", ""),
        (["pictures"], "missing", "", "nothing that is read here, 1 file (.jpg 1)"),
        (["texts/c.png"], "missing", "", "nothing that is read here"),
        (["nowhere"], "missing", "", "not there"),
        (["texts/*.csv"], "missing", "", "not there"),
        (["x" * 300], "missing", "", "File name too long"),
        (["nul\0inside"], "missing", "", "not there"),
    ],
)
def test_texts_given_as_input_are_counted(
    workspace: Path, given: list[str], state: str, figure: str, why: str
) -> None:
    for name in ("texts/a.txt", "texts/b.md", "texts/sub/c.jsonl", "texts/c.png", "pictures/d.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("word " * 99 if "c.jsonl" not in name else "{} " * 99)
    found = survey(settings(cleanup={"input": given}))["download"]
    assert (found.state, found.figure, found.why) == (state, figure, why)
    assert found.title.startswith(given[0])


def test_a_huge_folder_is_counted_up_to_a_limit(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.survey._COUNTED", 3)
    for number in range(5):
        Path(f"{number}.txt").write_text("text")
    assert given_texts([Path()]).figure == "more than 3 files"


@pytest.mark.parametrize("data", ["data/\ud800x", "data/\0x", "x" * 5000, "", "/"])
def test_a_record_with_an_impossible_path_is_one_row_s_trouble(workspace: Path, data: str) -> None:
    run = finished_run("run_2026_11_21_10_00_odd")
    text = json.dumps({
        "options": {}, "model": {}, "data": data, "fingerprints": {"data": "d"},
        "created": "2026-11-21T11:20:00+0000", "version": "0.1.0",
    })  # fmt: skip
    (run / "run.json").write_text(text)
    found = survey(settings())
    assert found["train"].title in ("odd", "")
    assert found["download"].state == "fresh"
    assert list(survey_all(settings())) == ["python", "wikipedia", "shakespeare"]


def test_the_newest_benchmark_of_a_run_on_the_corpus_is_shown(workspace: Path) -> None:
    right, wrong = [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]
    text = {"embedded_python_text": [-9.0, -8.0]}
    asked = {
        "step 10": {"piqa": right, "copa": wrong} | text,
        "step 20": {"piqa": wrong, "copa": wrong} | text,
    }
    path = write(report(asked))
    _run_on("data/tokenized_datasets/hens_full_dataset", RUN)
    _run_on("data/tokenized_datasets/foxes_full_dataset", "run_2026_11_22_11_20_other")
    newer = report({"step 10": {"piqa": wrong}}, run="run_2026_11_22_11_20_other")
    newer["made_by"]["time"] = "2026-11-22T11:58:00Z"
    write(newer, "newer")
    made = survey(of_corpus(settings(), "hens"))["benchmark"]
    assert (made.state, made.title, made.path) == ("fresh", "first", path)
    assert made.figure == "acc 50 % at 2 tasks, 2 checkpoints"
    other = survey(of_corpus(settings(), "foxes"))["benchmark"]
    assert (other.title, other.figure) == ("other", "acc 25 % at 1 task")
    assert survey(of_corpus(settings(), "none"))["benchmark"].state == "missing"


def test_a_damaged_benchmark_hides_none_of_the_others(workspace: Path) -> None:
    path = write(report({"step 10": {"piqa": [1.0, 0.0]}}))
    path.with_name("benchmark_2030.json").write_bytes(b"{\xff")
    assert survey(settings())["benchmark"].path == path
