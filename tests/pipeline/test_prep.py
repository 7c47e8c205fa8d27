"""prepare: nothing lost, nothing doubled, whatever happens on the way."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from app.commands.parser import parse_stage
from pipeline.events import Finished, Progress, Rejected, Started, Warned
from pipeline.options.config import Config, PrepareOptions
from pipeline.prep import plan, stage
from pipeline.tokens.token_set import open_tokens
from pipeline.workers import run_units
from tests.conftest import ROOT
from tests.support.token_sets import (
    content,
    metadata,
    prepare,
    prepared,
    save_tokenizer,
    texts_in,
    write_documents,
)
from utils.artefacts import FolderBuilder, read_manifest
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.files import DiskFullError
from utils.verification import verify

HOSTILE = [
    "carriage\r\nreturns\rand\nnewlines",
    "separators \u2028 and \u2029 and \x85 and \x0b\x0c\x1c",
    "a literal </s> and <s> are text",
    "nul \x00 escape \x1b[2J and bell \x07",
    "emoji 👩‍👩‍👧‍👦, combining e\u0301, 日本語, \U0010ffff",
    "    indented\n\n\n  double  spaces   \t\ttabs  ",
    "x",
]


@pytest.fixture
def house(workspace: Path) -> Path:
    """A working directory with a tokenizer and three cleaned files of 300 documents in all."""
    save_tokenizer("letters", [("t", "h"), ("th", "e")])
    for number in range(3):
        texts = [f"document {i} of file {number}: the {'cat ' * (i % 9)}" for i in range(100)]
        write_documents(Path("cleaned", f"cleaned_{number}.jsonl"), texts)
    return workspace


def expected_texts() -> list[str]:
    lines = [line for p in sorted(Path("cleaned").iterdir()) for line in p.read_text().splitlines()]
    return [json.loads(line)["text"] for line in lines]


def test_every_document_arrives_once_and_unchanged(house: Path) -> None:
    write_documents(Path("cleaned/cleaned_hostile.jsonl"), HOSTILE)
    events = prepare(input=[Path("cleaned")], output=Path("set"), shard_tokens=1024)
    assert Counter(texts_in(Path("set"))) == Counter(expected_texts())
    meta = metadata(Path("set"))
    assert meta.documents == meta.read == 307
    assert meta.text_bytes == sum(len(text.encode()) for text in expected_texts())
    assert meta.tokens == sum(shard.tokens for shard in meta.shards)
    assert all(shard.tokens <= 1024 for shard in meta.shards)
    assert len(meta.shards) > 3
    assert isinstance(events[0], Started)
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.done == last.total == events[0].total


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_a_byte(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "GROUP_BYTES", 1)
    monkeypatch.setattr("pipeline.workers.usable_cores", lambda: 2)
    for workers in (1, 2):
        done = prepared(
            input=[Path("cleaned")], output=Path(f"set{workers}"), workers=workers, batch=7
        )
        assert done.summary["documents"] == 300
    assert content(Path("set1")) == content(Path("set2"))
    assert len(metadata(Path("set1")).shards) == 3


_CHILD = """
import sys, threading
from pathlib import Path
from typing import NamedTuple
from pipeline import workers
from pipeline.options.config import Config, PrepareOptions
from pipeline.prep import plan, stage
from utils.artefacts import FolderBuilder
from utils.files import DurableFile

def main():
    commit, write = FolderBuilder.commit, DurableFile.write
    def tell(what):
        print(what, flush=True)
        sys.stdin.readline()
    def told_commit(self, *args):
        commit(self, *args)
        tell(args[0])
    def told_write(self, data):
        tell("half")
        write(self, data[:len(data) // 2])
        tell("rest")
        write(self, data[len(data) // 2:])
    FolderBuilder.commit, DurableFile.write = told_commit, told_write
    plan.GROUP_BYTES = 1
    workers.usable_cores = lambda: 2
    options = PrepareOptions(
        input=[Path("cleaned")], output=Path("set"), shard_tokens=1024, workers=int(sys.argv[1])
    )
    list(stage.run(Config(), options, threading.Event()))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "kills"), [(1, [1, 12, 3, 30, 17]), (2, [5, 2])])
def test_after_kill_9_a_rerun_writes_the_same_bytes(
    house: Path, workers: int, kills: list[int]
) -> None:
    Path("child.py").write_text(_CHILD)
    commits: list[str] = []
    for allowed in [*kills, 1000]:
        child = subprocess.Popen(
            [sys.executable, "child.py", str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin, child.stdout:
            for count, line in enumerate(child.stdout):
                commits += [line] if line.startswith("shard") else []
                if count == allowed:
                    child.send_signal(signal.SIGKILL)
                    break
                child.stdin.write("\n")
                child.stdin.flush()
        child.wait()
    assert child.returncode == 0
    assert commits
    assert len(commits) == len(set(commits)), "a finished shard was encoded again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "GROUP_BYTES", 1)
        prepared(input=[Path("cleaned")], output=Path("calm"), shard_tokens=1024, workers=1)
    assert content(Path("set")) == content(Path("calm"))
    assert not [p for p in Path().iterdir() if p.name.startswith(".set")]


def test_stopping_keeps_finished_shards_and_a_rerun_goes_on(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = PrepareOptions(input=[Path("cleaned")], output=Path("set"), shard_tokens=1024)
    stop, commit, commits = threading.Event(), FolderBuilder.commit, []

    def commit_and_stop(self: FolderBuilder, name: str, *rest: object) -> None:
        commit(self, name, *rest)  # type: ignore[arg-type]
        commits.append(name)
        if len(commits) == 2:
            stop.set()

    monkeypatch.setattr(FolderBuilder, "commit", commit_and_stop)
    last = list(stage.run(Config(), options, stop))[-1]
    assert isinstance(last, Finished)
    assert last.stopped
    assert not Path("set").exists()
    stop.clear()
    list(stage.run(Config(), options, stop))
    assert len(commits) == len(set(commits))
    assert Counter(texts_in(Path("set"))) == Counter(expected_texts())


def test_a_rerun_with_nothing_new_does_nothing_and_says_so(house: Path) -> None:
    first = prepared(input=[Path("cleaned")], output=Path("set"))
    again = prepared(input=[Path("cleaned")], output=Path("set"), workers=1, batch=3)
    assert (first.skipped, again.skipped) == (False, True)
    assert again.summary["documents"] == 300
    write_documents(Path("cleaned/cleaned_3.jsonl"), ["one more"])
    more = prepared(input=[Path("cleaned")], output=Path("set"))
    assert more.summary["documents"] == 301
    save_tokenizer("letters", [("h", "e")])
    assert not prepared(input=[Path("cleaned")], output=Path("set")).skipped
    forced = prepared(input=[Path("cleaned")], output=Path("set"), force=True)
    assert not forced.skipped
    next(Path("set").glob("tokens_*")).unlink()
    assert not prepared(input=[Path("cleaned")], output=Path("set")).skipped


def test_another_window_keeps_the_shards(house: Path) -> None:
    prepared(input=[Path("cleaned")], output=Path("set"), window=32)
    shard = next(Path("set").glob("tokens_*"))
    before = shard.stat().st_ino, metadata(Path("set"))
    events = prepare(input=[Path("cleaned")], output=Path("set"), window=8, stride=2)
    assert any(isinstance(event, Warned) for event in events)
    after = metadata(Path("set"))
    assert (shard.stat().st_ino, after.shards) == (before[0], before[1].shards)
    assert (after.window, after.stride) == (8, 2)
    assert after.windows > before[1].windows
    verify(Path("set"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV])
def test_another_window_on_a_disk_without_hard_links_copies_the_shards(
    house: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    prepared(input=[Path("cleaned")], output=Path("set"), window=32)
    before = content(Path("set"))

    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refused)
    prepare(input=[Path("cleaned")], output=Path("set"), window=8, stride=2)
    shards = [name for name in before if name.endswith(".npy")]
    assert shards
    after = content(Path("set"))
    assert all(before[name] == after[name] for name in shards)
    assert metadata(Path("set")).window == 8
    verify(Path("set"))


def test_documents_left_out_are_named_and_counted(house: Path) -> None:
    write_documents(Path("cleaned/cleaned_3.jsonl"), ["", "kept", " \n\t "])
    events = prepare(input=[Path("cleaned")], output=Path("set"))
    rejects = [(e.rule, e.detail) for e in events if isinstance(e, Rejected)]
    assert rejects == [("empty", "cleaned_3:0"), ("empty", "cleaned_3:2")]
    meta = metadata(Path("set"))
    assert (meta.read, meta.documents, meta.rejected) == (303, 301, {"empty": 2})


def test_a_text_that_would_not_come_back_is_rejected(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.tokenizer.tokenizer import Tokenizer

    encode = Tokenizer.encode_documents

    def forgetful(self: Tokenizer, texts: list[str]) -> list[np.ndarray]:
        return [ids[ids != ord("7") - ord("!")] for ids in encode(self, texts)]

    monkeypatch.setattr(Tokenizer, "encode_documents", forgetful)
    done = prepared(input=[Path("cleaned")], output=Path("set"))
    with_seven = sum("7" in text for text in expected_texts())
    assert done.summary["rejected"] == {"not_exact": with_seven}
    assert done.summary["documents"] == 300 - with_seven


def test_nothing_left_is_an_error_and_leaves_no_set(house: Path) -> None:
    write_documents(Path("blank/cleaned_0.jsonl"), ["", " "])
    with pytest.raises(UsageError, match="Nothing is left") as caught:
        prepare(input=[Path("blank")], output=Path("set"))
    assert "'empty': 2" in caught.value.found
    assert not Path("set").exists()


@pytest.mark.slow
def test_test_mode_takes_the_first_documents_of_the_input(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "TEST_DOCUMENTS", 150)
    monkeypatch.setattr(plan, "GROUP_BYTES", 1)
    Path("data/cleaned_articles").mkdir(parents=True)
    Path("cleaned").rename("data/cleaned_articles/python")
    events = prepare(test=True)
    done = events[-1]
    assert isinstance(done, Finished)
    assert done.path == "data/tokenized_datasets/python_test_dataset"
    expected = [
        f"document {i} of file {n}: the {'cat ' * (i % 9)}" for n in (0, 1) for i in range(100)
    ]
    assert Counter(texts_in(Path(done.path))) == Counter(expected[:150])
    assert isinstance(events[0], Started)
    assert (events[0].total, events[0].unit) == (150, "documents")


def test_a_document_longer_than_a_shard_has_one_of_its_own(house: Path) -> None:
    texts = ["short one", "long " * 1000, "short two"]
    write_documents(Path("long/cleaned_0.jsonl"), texts)
    prepared(input=[Path("long")], output=Path("set"), shard_tokens=1024)
    assert [shard.documents for shard in metadata(Path("set")).shards] == [1, 1, 1]
    assert texts_in(Path("set")) == texts


def test_a_tail_split_keeps_the_order_of_documents(house: Path) -> None:
    prepared(input=[Path("cleaned")], output=Path("set"), split="tail")
    assert texts_in(Path("set")) == expected_texts()


def test_missing_documents_or_tokenizer_name_the_next_command(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no clean documents of python") as caught:
        prepare()
    assert "python main.py cleanup" in caught.value.remedy
    Path("data/cleaned_articles/python").mkdir(parents=True)
    with pytest.raises(UsageError, match="no clean documents of python") as caught:
        prepare()
    assert "is empty" in caught.value.found
    write_documents(Path("data/cleaned_articles/python/cleaned_0.jsonl"), ["text"])
    with pytest.raises(UsageError, match="no tokenizer") as caught:
        prepare()
    assert "python main.py tokenize" in caught.value.remedy
    with pytest.raises(UsageError, match="no tokenizer codellama") as caught:
        prepare(tokenizer="codellama")
    assert "python main.py tokenize --load codellama" in caught.value.remedy


@pytest.mark.slow
def test_a_damaged_line_stops_both_workers_with_its_place(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "GROUP_BYTES", 1)
    monkeypatch.setattr("pipeline.workers.usable_cores", lambda: 2)
    with Path("cleaned/cleaned_1.jsonl").open("a") as file:
        file.write('{"id": "x", "ti')
    with pytest.raises(HatcheryError, match=r"cleaned_1\.jsonl:101") as caught:
        prepare(input=[Path("cleaned")], output=Path("set"), workers=2)
    assert caught.value.remedy
    assert not Path("set").exists()


def test_a_full_disk_leaves_nothing_half_written_and_the_rerun_succeeds(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def second_is_full(path: Path, needed: int) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise DiskFullError("Not enough room.")

    monkeypatch.setattr("pipeline.tokens.shards.require_space", second_is_full)
    with pytest.raises(DiskFullError):
        prepare(input=[Path("cleaned")], output=Path("set"), shard_tokens=1024)
    assert not Path("set").exists()
    assert not list(Path().glob(".set.building/*.tmp"))
    prepared(input=[Path("cleaned")], output=Path("set"), shard_tokens=1024)
    assert Counter(texts_in(Path("set"))) == Counter(expected_texts())


def test_two_builds_of_one_set_at_once_are_refused(house: Path) -> None:
    first = stage.run(
        Config(), PrepareOptions(input=[Path("cleaned")], output=Path("set")), threading.Event()
    )
    next(first)
    with pytest.raises(RefusedError, match="Another process is writing"):
        prepare(input=[Path("cleaned")], output=Path("set"))
    assert isinstance(list(first)[-1], Finished)


class _Dying(NamedTuple):
    number: int

    def run(self) -> Iterator[int]:
        yield self.number
        os.kill(os.getpid(), signal.SIGKILL)


class _Counting(NamedTuple):
    number: int

    def run(self) -> Iterator[tuple[int, int]]:
        for i in range(self.number):
            yield self.number, i


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error_not_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workers.usable_cores", lambda: 2)
    with pytest.raises(HatcheryError, match="worker process died") as caught:
        list(run_units([_Dying(1), _Dying(2)], 2, threading.Event()))
    assert "exit code -9" in caught.value.found


@pytest.mark.slow
def test_tasks_shared_between_processes_all_come_back_in_their_own_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.workers.usable_cores", lambda: 2)
    numbers = (5, 1, 7, 3)
    found = list(run_units([_Counting(number) for number in numbers], 2, threading.Event()))
    for number in numbers:
        assert [i for n, i in found if n == number] == list(range(number))


@pytest.mark.slow
def test_real_text_and_the_real_codellama_tokenizer_come_back(
    workspace: Path, shared_data: Path
) -> None:
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text()
    write_documents(Path("c/cleaned_0.jsonl"), text.split("\n\n"))
    tokenizer = str(shared_data / "tokenizer-codellama")
    done = prepared(input=[Path("c")], output=Path("set"), tokenizer=tokenizer)
    assert Counter(texts_in(Path("set"))) == Counter(text.split("\n\n"))
    assert done.summary["bytes_per_token"] > 2.5
    assert metadata(Path("set")).dtype == "uint16"


def test_the_command_that_mends_a_damaged_set_makes_the_same_one_again(house: Path) -> None:
    save_tokenizer("later")  # the newest one, which is not the one that made the set
    path = Path(str(prepared(input=[Path("cleaned")], tokenizer="letters", window=16).path))
    before = read_manifest(path)
    shard = next(path.glob("tokens_*.npy"))
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(RefusedError) as caught:
        open_tokens(path, val_split=0.3)
    parsed = parse_stage(shlex.split(caught.value.remedy.partition("main.py ")[2]))
    list(parsed.stage.events(parsed.settings, threading.Event()))
    after = read_manifest(path)
    assert before is not None
    assert after is not None
    assert after.fingerprint == before.fingerprint
    assert (after.made_by.options, after.inputs) == (before.made_by.options, before.inputs)


def test_a_folder_called_like_a_known_tokenizer_is_that_folder(house: Path) -> None:
    save_tokenizer("gpt2")
    assert prepared(input=[Path("cleaned")], tokenizer="gpt2").summary["tokenizer"] == "gpt2"
