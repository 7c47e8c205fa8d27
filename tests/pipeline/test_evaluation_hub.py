"""Sets of tasks from an imitation of the Hugging Face hub on this machine."""

import errno
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pipeline.benchmark.selection import select
from pipeline.evaluation import hub
from pipeline.evaluation.data import TaskData
from pipeline.evaluation.hub import fetch, files_of_split, is_here, read_cached
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import HubSet
from pipeline.events import Progress
from tests.support.servers.hub import COMMIT, CONVERTED, CONVERTED_COMMIT, Hub, serving
from tests.support.stage_runner import finished, run_stage, typed_settings
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from utils.errors import NetworkError, RefusedError
from utils.files import DiskFullError

DATA = Path("data")
PIQA = {"goal": "Cool a drink", "sol1": "Add ice.", "sol2": "Boil it.", "label": 0}
WINOGRANDE = {"sentence": "A _ b.", "option1": "x", "option2": "y", "answer": "1"}
PAIR = {"sentence_good": "She sings.", "sentence_bad": "She sing.", "linguistics_term": "agreement"}


def parquet(*rows: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return file.getvalue()


@pytest.fixture
def server(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories = {
        "baber/piqa": {
            "README.md": b"of piqa",
            "piqa.py": b"raise SystemExit",
            "piqa_train.parquet": parquet(PIQA | {"goal": "wrong"}),
            "piqa_validation.parquet": parquet(PIQA, PIQA | {"label": 1}),
        },
        "allenai/winogrande": {"winogrande.py": b"raise SystemExit"},
        f"allenai/winogrande@{CONVERTED}": {
            "winogrande_xl/validation/0000.parquet": parquet(WINOGRANDE),
            "winogrande_xs/validation/0000.parquet": parquet(WINOGRANDE | {"answer": "2"}),
        },
        "nyu-mll/blimp": {
            f"{name}/train-00000-of-00001.parquet": parquet(PAIR | {"UID": name})
            for name in ("a", "b", "c")
        },
        "aps/super_glue": {"copa/validation-00000-of-00001.parquet": parquet({"text": "none"})},
        "cimec/lambada": {"plain_text/train.jsonl": b"{}\n"},
    }
    with serving(repositories) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(hub, "_WAIT", 0.0)
        yield running


def fetched(task: str, stop: threading.Event | None = None) -> TaskData | None:
    """What fetching returns at its end."""
    running = fetch(TASKS[task], DATA, stop or threading.Event())
    while True:
        try:
            assert isinstance(next(running), Progress)
        except StopIteration as end:
            found: TaskData | None = end.value
            return found


def resolved(server: Hub) -> set[str]:
    return {path.rpartition("/")[2] for path in server.asked if "/resolve/" in path}


def test_a_set_is_fetched_once_with_its_commit_and_never_code(server: Hub) -> None:
    data = fetched("piqa")
    assert data is not None
    assert (data.origin, data.revision) == ("hub", COMMIT)
    assert data.where == "baber/piqa validation"
    assert [item.gold for item in data.items] == [0, 1]
    assert resolved(server) == {"piqa_validation.parquet"}
    assert any("142f6d7367fd9877f0fb3b5734ea6a545f54cdd1" in path for path in server.asked)
    server.asked.clear()
    assert read_cached(TASKS["piqa"], DATA) == data
    assert select(*_settings(tasks=["piqa"])) == {TASKS["piqa"]: data}
    assert server.asked == []


def _settings(**options: Any) -> Any:
    config = typed_settings(benchmark=options).config
    return config, config.benchmark


def test_rows_that_a_script_makes_are_taken_as_the_hub_converted_them(server: Hub) -> None:
    data = fetched("winogrande")
    assert data is not None
    assert data.revision == CONVERTED_COMMIT
    assert [item.gold for item in data.items] == [0]


def test_all_configurations_of_a_set_are_fetched(server: Hub) -> None:
    data = fetched("blimp")
    assert data is not None
    assert len(data.items) == 3


@pytest.mark.slow
def test_what_was_fetched_belongs_to_the_default_tasks(server: Hub) -> None:
    before = select(*_settings())
    assert all(task.embedded for task in before)
    fetched("piqa")
    assert [*select(*_settings())] == [TASKS["piqa"], *before]
    assert TASKS["piqa"] not in select(*_settings(tasks=["embedded_grammar"]))


def test_what_was_fetched_is_data_as_any_other_folder(server: Hub) -> None:
    data = fetched("piqa")
    assert data is not None
    (DATA / "benchmarks").rename("copied")
    [(task, copied)] = select(*_settings(data=[Path("copied")])).items()
    assert task is TASKS["piqa"]
    assert copied is not None
    assert (copied.items, copied.fingerprint) == (data.items, data.fingerprint)


def test_a_busy_hub_is_asked_again(server: Hub) -> None:
    server.failing = 2
    assert fetched("piqa") is not None


def test_a_hub_that_cannot_be_reached_names_the_ways_offline(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="piqa could not be fetched: baber/piqa") as refused:
        fetched("piqa")
    assert "--data piqa=FILE" in refused.value.remedy
    [command] = refused.value.commands
    names = command[-1].split(",")
    assert all(TASKS[name].embedded for name in names)
    assert not is_here(TASKS["piqa"], DATA)


def test_a_full_disk_is_no_fault_of_the_network(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(DiskFullError, match="no room to fetch piqa"):
        fetched("piqa")
    assert not is_here(TASKS["piqa"], DATA)


@pytest.mark.parametrize(
    ("task", "found", "requests"),
    [("arc_easy", "404", 1), ("lambada_standard", "no rows among plain_text/train.jsonl", 2)],
)
def test_what_the_hub_has_not_is_not_asked_for_again(
    server: Hub, task: str, found: str, requests: int
) -> None:
    with pytest.raises(NetworkError) as refused:
        fetched(task)
    assert found in refused.value.found
    assert len(server.asked) <= requests


def test_rows_that_are_none_of_the_task_are_not_kept(server: Hub) -> None:
    with pytest.raises(RefusedError, match="does not hold the items of copa"):
        fetched("copa")
    assert not is_here(TASKS["copa"], DATA)


def test_a_damaged_set_is_refused_by_name(server: Hub) -> None:
    fetched("piqa")
    [file] = (DATA / "benchmarks/piqa").glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b"ice", b"Ice"))
    with pytest.raises(RefusedError, match=file.name):
        read_cached(TASKS["piqa"], DATA)


def test_a_stop_leaves_nothing_half_fetched(server: Hub) -> None:
    stop = threading.Event()
    stop.set()
    assert fetched("blimp", stop) is None
    assert not is_here(TASKS["blimp"], DATA)


def test_a_benchmark_fetches_what_it_asks_and_says_where_it_is_from(server: Hub) -> None:
    save_step(Path("checkpoints/a"), 1, lively_model(), byte_tokenizer())
    events = run_stage("benchmark", benchmark={"checkpoint": ["a"], "tasks": ["piqa"]})
    result = finished(events).summary["results"]["a"]["piqa"]
    assert (result["origin"], result["n"]) == ("hub", 2)
    assert result["recipe"]["revision"] == COMMIT
    [text] = Path("benchmark_results").glob("*.txt")
    assert f"commit {COMMIT[:12]}" in text.read_text()
    assert any(isinstance(e, Progress) and "fetching PIQA" in e.message for e in events)


@pytest.mark.parametrize(
    ("config", "split", "names", "chosen"),
    [
        ("ARC-Easy", "test", ["ARC-Challenge/test-00000-of-00001.parquet",
                              "ARC-Easy/test-00000-of-00001.parquet",
                              "ARC-Easy/train-00000-of-00001.parquet"], [1]),
        (None, "validation", ["data/train-00000-of-00001.parquet",
                              "data/validation-00000-of-00001.parquet"], [1]),
        ("wikitext-2-raw-v1", "test", ["wikitext-103-raw-v1/wikitext-103-raw-v1-test.parquet",
                                       "wikitext-2-raw-v1/wikitext-2-raw-v1-test.parquet"], [1]),
        ("default", "test", ["data/lambada_test_en.jsonl", "de/test/0000.parquet",
                             "default/test/0000.parquet"], [2]),
        ("default", "test", ["test.jsonl", "README.md"], [0]),
        ("copa", "validation", ["boolq/validation-00000-of-00001.parquet"], []),
        ("*", "train", ["a/train-00000-of-00001.parquet", "a/partial-train/0000.parquet",
                        "b/train/0000.parquet", "b/train/0001.parquet"], [0, 2, 3]),
        (None, "test", ["test.py", "contest.parquet"], []),
    ],
)  # fmt: skip
def test_the_files_of_a_split_are_told_by_their_paths(
    config: str | None, split: str, names: list[str], chosen: list[int]
) -> None:
    found = files_of_split(names, HubSet("someone/set", config, split))
    assert found == [names[n] for n in chosen]
