"""The rehearsal: every stage on a sample, a verdict for each, and nothing of the user's touched."""

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from model.config import ModelConfig, parameter_count
from pipeline.events import Event, Failed, Finished, Progress, StageVerdict, Started
from pipeline.rehearsal import context
from pipeline.rehearsal import stage as rehearse
from pipeline.rehearsal.sample import choose, take_sample
from pipeline.rehearsal.sample_files import spread
from pipeline.rehearsal.stage import rehearsal_workspace
from pipeline.rehearsal.verdicts import disk, enough_tokens, losses, memory, rejections, vocabulary
from pipeline.sources.items import as_input
from tests.conftest import WORDS
from tests.support.stage_runner import run_stage
from utils.errors import HatcheryError, UsageError
from utils.files import FolderLock
from utils.units import human_count

MODEL: dict[str, Any] = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
TRAIN = {"batch_size": 2, "device": "cpu", "tensorboard": False, "compile": "off"}
STAGES = ["cleanup", "tokenize", "prepare", "train", "resume", "inference"]


@pytest.fixture(autouse=True)
def quick_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session measures the machine for half a second, which no test here needs."""
    monkeypatch.setattr("model.device.measured_matmul_ceiling", lambda *_: 1e12)


def rehearsed(**sections: dict[str, Any]) -> list[Event]:
    """All events of a rehearsal of small settings."""
    given: dict[str, dict[str, Any]] = {
        "model": MODEL,
        "train": TRAIN,
        "cleanup": {"workers": 1},
        "tokenize": {"vocab_size": 300},
        "prepare": {"window": 16, "workers": 1},
        "inference": {"max_length": 2},
        "rehearse": {},
    }
    return run_stage(
        "rehearse",
        **{name: given.get(name, {}) | sections.get(name, {}) for name in given | sections},
    )


def verdicts(events: list[Event]) -> dict[str, StageVerdict]:
    return {event.stage: event for event in events if isinstance(event, StageVerdict)}


def said(events: list[Event]) -> dict[str, str]:
    """The verdict of each stage, in a word or two."""
    return {stage: judged.verdict for stage, judged in verdicts(events).items()}


def sentences(random: Random, count: int) -> str:
    return "\n".join(" ".join(random.choices(WORDS, k=12)).capitalize() for _ in range(count))


@pytest.fixture
def notes(workspace: Path) -> Path:
    """Raw files of several kinds, all in order."""
    random, folder = Random(3), workspace / "notes"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(sentences(random, 6))
    rows = [json.dumps({"id": i, "text": sentences(random, 5)}) for i in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:20]).encode()))
    return folder


def fingerprints(folder: Path) -> dict[str, str]:
    """Content and time of every file under a folder, and the folders."""
    return {
        str(path.relative_to(folder)): f"{path.lstat().st_mtime_ns} "
        + hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.slow
def test_every_stage_works_calmly_and_nothing_of_the_users_is_touched(prepared: Path) -> None:
    run_stage("train", train=TRAIN | {"max_steps": 2}, model=MODEL)
    before = fingerprints(prepared)
    events = rehearsed(rehearse={"input": ["notes"]})
    assert said(events) == dict.fromkeys(STAGES, "works")
    assert "to the last bit" in verdicts(events)["resume"].detail
    last = events[-1]
    assert isinstance(last, Finished)
    assert [row["stage"] for row in last.summary["verdicts"]] == STAGES
    assert last.summary["verdicts"][0]["verdict"] == "✓ works"
    assert fingerprints(prepared) == before
    assert {type(event) for event in events} == {Started, Progress, StageVerdict, Finished}
    assert [event.stage for event in events if isinstance(event, Started)] == ["rehearse"]
    told = [event.message for event in events if isinstance(event, Progress)]
    assert all(message.startswith(tuple(STAGES)) for message in told)


@pytest.mark.slow
def test_broken_files_are_found_and_named(notes: Path) -> None:
    packed = (notes / "packed.jsonl.gz").read_bytes()
    (notes / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (notes / "bad.parquet").write_bytes(b"PAR1 is not enough")
    events = rehearsed(rehearse={"input": ["notes"]})
    cleanup = verdicts(events)["cleanup"]
    assert cleanup.verdict == "works but"
    assert "cut.jsonl.gz" in cleanup.detail
    assert "bad.parquet" in cleanup.detail
    assert "truncated gzip" in cleanup.detail
    assert isinstance(events[-1], Finished)


def test_parquet_is_taken_by_rows(workspace: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    random = Random(5)
    texts = [sentences(random, 5) for _ in range(300)]
    parquet.write_table(pa.table({"text": texts}), "t.parquet", row_group_size=50)
    sample = take_sample([as_input(Path("t.parquet"), "t.parquet")], Path("s"), 20, 1, _stop())
    rows = parquet.read_table(sample.files[0])["text"].to_pylist()
    assert 20 <= len(rows) < 40
    assert set(rows) < set(texts)
    assert rows[0] == texts[0]


def _stop() -> Any:
    return SimpleNamespace(is_set=lambda: False)


def test_rows_are_taken_from_the_beginning_and_all_over_the_file(workspace: Path) -> None:
    for name, length in (("small.jsonl", 40), ("large.jsonl", 9_000)):
        rows = [json.dumps({"id": i, "text": "x" * length}) for i in range(1000)]
        Path(name).write_text("\n".join(rows) + "\n")
        sample = take_sample([as_input(Path(name), name)], Path("s"), 20, 1, _stop())
        taken = [json.loads(line)["id"] for line in sample.files[0].read_text().splitlines()]
        assert len(taken) == 20
        assert taken[:10] == list(range(10))
        assert max(taken) == 999
        assert len([i for i in taken if 100 < i < 900]) >= 6
        assert sample.partial


def test_each_kind_of_file_has_its_share(notes: Path) -> None:
    (notes / "one.md").write_text("a note")
    inputs = [as_input(path, path.name) for path in sorted(notes.iterdir())]
    chosen = choose(inputs, 40)
    assert {item.path.suffix for item in chosen} == {".txt", ".jsonl", ".gz", ".md"}
    assert spread(range(10), 4) == [0, 3, 6, 9]


def test_a_name_that_leads_out_of_the_sample_does_not(workspace: Path) -> None:
    Path("a").mkdir()
    Path("b.txt").write_text("a text outside of the folder")
    item = as_input(Path("b.txt"), "../../b.txt")
    sample = take_sample([item], Path("a/s"), 20, 1, _stop())
    assert sample.files == [Path("a/s/00000/b.txt")]


@pytest.mark.slow
def test_rejected_documents_are_a_warning(workspace: Path) -> None:
    random = Random(4)
    rows = [{"text": sentences(random, 6) if i % 5 == 0 else "short"} for i in range(100)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    events = rehearsed(rehearse={"input": ["rows.jsonl"]})
    assert said(events)["cleanup"] == "works but"
    assert "80 of 100" in verdicts(events)["cleanup"].detail
    assert "--min-words" in verdicts(events)["cleanup"].remedy


@pytest.mark.slow
def test_without_raw_text_it_starts_from_the_clean_documents(prepared: Path) -> None:
    before = fingerprints(prepared)
    events = rehearsed()
    assert said(events) == dict.fromkeys(STAGES, "works") | {"cleanup": "not tried"}
    assert "clean documents" in verdicts(events)["prepare"].detail
    assert fingerprints(prepared) == before


def test_with_only_tokens_it_starts_from_these(prepared: Path) -> None:
    for path in (prepared / "data/cleaned_articles/files").iterdir():
        path.unlink()
    (prepared / "data/cleaned_articles/files").rmdir()
    events = rehearsed()
    none = dict.fromkeys(("cleanup", "tokenize", "prepare"), "not tried")
    assert said(events) == dict.fromkeys(STAGES, "works") | none
    assert "on the tokens in" in verdicts(events)["train"].detail


@pytest.mark.slow
def test_where_there_is_nothing_it_says_what_to_do_and_tries_the_rest(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, random = workspace / "library", Random(2)
    library.mkdir()
    for name in ("os", *"abcdefghijklmnopqrstuvwxyz"):
        (library / f"{name}.py").write_text(sentences(random, 5))
    monkeypatch.setattr("sysconfig.get_path", lambda name, *_, **__: str(library))
    events = rehearsed(rehearse={"source": "shakespeare", "documents": 20})
    assert said(events) == dict.fromkeys(STAGES, "works") | {"cleanup": "fails"}
    assert "no raw text of shakespeare" in verdicts(events)["cleanup"].detail
    assert "main.py download shakespeare" in verdicts(events)["cleanup"].remedy
    assert "in place of your text" in verdicts(events)["train"].detail
    last = events[-1]
    assert isinstance(last, Failed)
    assert last.exit_code == 1
    assert "download shakespeare" in last.remedy


def test_an_unknown_source_is_refused_before_anything_is_made(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no source named"):
        rehearsed(rehearse={"source": "shakspeare"})
    assert list(workspace.iterdir()) == []


@pytest.mark.slow
def test_a_tokenizer_that_is_not_there_fails_but_the_rest_is_tried(notes: Path) -> None:
    events = rehearsed(rehearse={"input": ["notes"]}, prepare={"tokenizer": "missing"})
    assert said(events) == dict.fromkeys(STAGES, "works") | {"tokenize": "fails"}
    assert "no tokenizer missing" in verdicts(events)["tokenize"].detail


@pytest.mark.slow
def test_a_damaged_tokenizer_fails(prepared: Path) -> None:
    with (prepared / "tokenizers/chars/tokenizer.json").open("ab") as file:
        file.write(b" ")
    events = rehearsed(rehearse={"input": ["notes"]})
    assert said(events)["tokenize"] == "fails"
    assert said(events)["train"] == "works"


def test_damaged_clean_documents_fail_in_prepare_too(prepared: Path) -> None:
    path = next((prepared / "data/cleaned_articles/files").glob("cleaned_*"))
    path.write_bytes(path.read_bytes() + b"{half a line\n")
    events = rehearsed()
    assert said(events)["tokenize"] == said(events)["prepare"] == "fails"
    assert "is damaged" in verdicts(events)["prepare"].detail
    assert said(events)["train"] == "works"  # on the user's tokens
    assert isinstance(events[-1], Failed)


def test_a_window_longer_than_all_the_text_fails_with_the_remedy_of_train(notes: Path) -> None:
    events = rehearsed(
        rehearse={"input": ["notes/01.txt", "notes/02.txt"]}, prepare={"window": 4096}
    )
    assert said(events)["prepare"] == "works but"
    assert "too few for one window" in verdicts(events)["prepare"].detail
    assert said(events)["train"] == "fails"
    assert "smaller --window" in verdicts(events)["train"].remedy
    [command] = verdicts(events)["train"].commands
    assert command[:2] == ("train", "--source")
    assert command[-2] == "--window"
    assert said(events)["resume"] == said(events)["inference"] == "not tried"


def test_a_model_with_too_few_ids_fails(notes: Path) -> None:
    events = rehearsed(rehearse={"input": ["notes"]}, model={"vocab_size": 100})
    assert said(events)["train"] == "fails"
    assert "too small for the tokenizer" in verdicts(events)["train"].detail


@pytest.mark.slow
def test_a_vocabulary_that_the_sample_cannot_fill_is_trained_at_full_size(notes: Path) -> None:
    small = rehearsed(rehearse={"input": ["notes"]})
    large = rehearsed(rehearse={"input": ["notes"]}, tokenize={"vocab_size": 4_000})
    assert said(large) == dict.fromkeys(STAGES, "works") | {"tokenize": "works but"}
    assert "too small for the 4,000 ids" in verdicts(large)["tokenize"].detail
    for events, size in ((small, 300), (large, 4_000)):
        parameters = human_count(parameter_count(ModelConfig(**MODEL, vocab_size=size)))
        assert verdicts(events)["train"].detail.startswith(f"{parameters} parameters")


def test_a_loss_that_is_not_finite_fails_in_train(notes: Path) -> None:
    wild = TRAIN | {"learning_rate": 1e30, "matrix_learning_rate": 1e30, "warmup_steps": 0}
    events = rehearsed(rehearse={"input": ["notes"]}, train=wild)
    assert said(events)["train"] == "fails"
    assert "--learning-rate" in verdicts(events)["train"].remedy


def test_a_device_that_is_not_there_fails(notes: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("it is there")
    events = rehearsed(rehearse={"input": ["notes"]}, train=TRAIN | {"device": "cuda"})
    assert said(events)["train"] == "fails"
    assert "device cuda" in verdicts(events)["train"].detail


@pytest.mark.slow
def test_a_file_that_may_not_be_read_is_named_and_the_others_are_tried(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (notes / "00.txt").chmod(0)
    if os.access(notes / "00.txt", os.R_OK):  # root reads everything
        refused = HatcheryError("notes/00.txt cannot be read: Permission denied.")
        monkeypatch.setattr(
            "pipeline.rehearsal.sample._unreadable",
            lambda item: refused if item.path.name == "00.txt" else None,
        )
    events = rehearsed(rehearse={"input": ["notes"]})
    assert said(events) == dict.fromkeys(STAGES, "works") | {"cleanup": "works but"}
    assert "00.txt cannot be read" in verdicts(events)["cleanup"].detail


def test_no_right_to_write_checkpoints_is_known_beforehand(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("checkpoints").mkdir()
    real = os.access
    monkeypatch.setattr(
        context.os, "access", lambda p, m: Path(p).name != "checkpoints" and real(p, m)
    )
    events = rehearsed(rehearse={"input": ["notes"]})
    assert said(events)["train"] == "fails"
    assert "no right to write" in verdicts(events)["train"].detail
    assert said(events)["resume"] == "not tried"


def test_a_file_in_the_place_of_a_folder_fails(notes: Path) -> None:
    Path("checkpoints").write_text("in the way")
    events = rehearsed(rehearse={"input": ["notes"]})
    assert "checkpoints is a file" in verdicts(events)["train"].detail


@pytest.mark.slow
def test_a_disk_too_small_for_the_whole_is_a_warning(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr(context, "shutil", full)
    events = rehearsed(rehearse={"input": ["notes"]})
    assert said(events)["train"] == "works but"
    assert "are free" in verdicts(events)["train"].detail


def test_a_mistake_of_ours_is_a_verdict_too(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Iterator[Event]:
        yield Progress(0)
        raise KeyError("oops")

    monkeypatch.setattr(rehearse, "_steps", lambda: [("cleanup", broken)])
    events = rehearsed(rehearse={"input": ["notes"]})
    assert "A mistake in Hatchery itself: KeyError" in verdicts(events)["cleanup"].detail


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["cleanup", "tokenize", "prepare", "train", "inference"])
def test_a_stop_ends_it_at_once_and_leaves_nothing(notes: Path, stage: str) -> None:
    before = fingerprints(notes.parent)

    def there(event: Event) -> bool:
        return isinstance(event, Progress) and event.message.startswith(stage)

    given = {"input": ["notes"]}
    small = {"model": MODEL, "train": TRAIN, "prepare": {"window": 16, "workers": 1}}
    small |= {"cleanup": {"workers": 1}, "tokenize": {"vocab_size": 300}}
    events = run_stage("rehearse", stop_when=there, rehearse=given, **small)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.stopped
    assert list(said(events)) == STAGES[: STAGES.index(stage)]
    assert fingerprints(notes.parent) == before


@pytest.mark.slow
def test_a_failed_rehearsal_is_kept_and_the_next_removes_it(notes: Path) -> None:
    events = rehearsed(rehearse={"input": ["notes"]}, model={"vocab_size": 100})
    (kept,) = Path().glob(".rehearsal-*")
    last = events[-1]
    assert isinstance(last, Failed)
    assert str(kept) in last.found
    rehearsed(rehearse={"input": ["notes"]})
    assert list(Path().glob(".rehearsal-*")) == []


def test_what_a_kill_left_is_removed_but_not_what_is_in_use(workspace: Path) -> None:
    names = ("unlocked", "killed", "alive", "foreign")
    folders = {name: workspace / f".rehearsal-{name}" for name in names}
    for folder in folders.values():
        folder.mkdir()
    (folders["killed"] / ".lock").touch()
    (folders["killed"] / "tokens").touch()
    (folders["foreign"] / "mine.txt").touch()
    with FolderLock(folders["alive"]), rehearsal_workspace(Path("data")):
        left = {path.name for path in workspace.glob(".rehearsal-*")}
        assert {".rehearsal-alive", ".rehearsal-foreign"} <= left
        assert len(left) == 3
    assert not folders["killed"].exists()
    assert not folders["unlocked"].exists()


def test_no_room_for_a_folder_has_clear_words(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> str:
        raise PermissionError(13, "Permission denied", ".")

    monkeypatch.setattr("pipeline.rehearsal.stage.tempfile.mkdtemp", refuse)
    with pytest.raises(HatcheryError, match="cannot be written: Permission denied") as caught:
        rehearsed(rehearse={"source": "python"})
    assert "paths.data_dir" in caught.value.remedy


@pytest.mark.slow
def test_real_wikimedia_records_pass(workspace: Path, shared_data: Path) -> None:
    records = shared_data / "wikimedia-structured"
    events = rehearsed(rehearse={"source": "wikipedia", "input": [str(records)]})
    assert set(said(events).values()) == {"works"}
    assert verdicts(events)["cleanup"].detail.startswith("14 of 16 documents kept")


def test_figures_become_concerns() -> None:
    assert rejections(100, {"stub": 20}, []) is None
    assert rejections(100, {"not_json": 1}, ["a"]) is not None
    assert losses([9.0, 8.9, 8.95]) is None
    assert losses([9.0, None]) == losses([float("nan")])
    assert losses([9.0, 9.5]) is not None
    assert losses([9.0] * 10) is not None
    assert vocabulary(300, 300, whole=True) is None
    assert vocabulary(299, 300, whole=True) != vocabulary(299, 300, whole=False)
    assert enough_tokens(1000, 100, 900) is None
    assert enough_tokens(800, 100, 900) is not None
    assert memory(80, 100) is None
    assert memory(95, 100) is not None
    assert disk(10, 10, "here") is None
    assert disk(11, 10, "here") is not None
