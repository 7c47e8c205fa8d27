"""The quickstart: all stages in one go, and nothing twice."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.events import Event, Progress, Sample, Saved, Started, Warned
from pipeline.options.config import Settings
from pipeline.quickstart import _fault_of, loops
from pipeline.runs import folders
from pipeline.stages import find
from tests.support.stage_runner import finished, run_stage, typed_settings


@pytest.fixture
def small_library(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python library of a few files instead of the whole one."""
    library = workspace / "library"
    library.mkdir()
    (library / "os.py").write_text("# an operating system\n")
    for number in range(60):
        lines = [f"def f_{number}_{i}(value):\n    return value * {i}\n" for i in range(20)]
        (library / f"part{number}.py").write_text("\n".join(lines))
    monkeypatch.setattr("sysconfig.get_path", lambda name, *_, **__: str(library))
    return workspace


def quickstart(**options: Any) -> list[Event]:
    settings = {"max_steps": 4, "vocab_size": 300}
    return run_stage("quickstart", quickstart=settings | options)


def made(events: list[Event]) -> dict[str, bool]:
    """What was made, each told once, and whether it was there already."""
    kinds = ("cleaned", "tokenizer", "tokens", "run")
    told = [e for e in events if isinstance(e, Saved) and e.kind in kinds]
    told = [e for e in told if not Path(e.path).name.startswith("sft_")]
    assert len({e.kind for e in told}) == len(told)
    return {e.kind: "unchanged" in e.facts for e in told}


@pytest.mark.slow
def test_one_command_goes_from_a_library_to_text(small_library: Path) -> None:
    events = quickstart()
    assert made(events) == dict.fromkeys(("cleaned", "tokenizer", "tokens", "run"), False)
    path = finished(events).path
    assert path is not None
    assert folders.pointed(Path(path), "best") is not None
    texts = [e for e in events if isinstance(e, Sample) and e.step is None]
    assert len(texts) == 1  # its best
    assert "its best of 16" in finished(events).summary["the text above"]
    assert all(text.token_ids for text in texts)
    assert "inference --checkpoint" in finished(events).summary["talk to it"]


@pytest.mark.slow
def test_its_own_length_is_not_told_to_contradict_the_configuration(small_library: Path) -> None:
    """The config.json that is shipped names epochs, which a planned length leaves unused."""
    chosen = {"max_steps": 2, "vocab_size": 300}
    config = typed_settings(quickstart=chosen, train={"epochs": 2.0}).config
    events = list(find("quickstart").events(Settings(config), threading.Event()))
    finished(events)
    assert not [e for e in events if isinstance(e, Warned) and "both say" in e.message]


@pytest.mark.slow
def test_a_second_run_does_nothing_again(small_library: Path) -> None:
    first = finished(quickstart()).path
    again = quickstart()
    assert made(again) == dict.fromkeys(("cleaned", "tokenizer", "tokens", "run"), True)
    assert finished(again).path == first
    assert len(list(Path("checkpoints").glob("run_*"))) == 1


@pytest.mark.slow
def test_timing_the_machine_leaves_no_run_behind(small_library: Path) -> None:
    """Whose probes once took the name of the run that they were for."""
    planned = {"max_steps": None, "minutes": 0.001}
    first = quickstart(**planned)
    assert [e.stage for e in first if isinstance(e, Started)].count("plan") == 1
    (run,) = Path("checkpoints").glob("run_*")
    assert Path(finished(first).path or "").resolve() == run.resolve()
    again = quickstart(**planned)
    assert made(again)["run"] is True
    assert [e for e in again if isinstance(e, Warned) and "keeps the length" in e.message]


def test_a_stop_while_timing_the_machine_trains_nothing(small_library: Path) -> None:
    def planning(event: Event) -> bool:
        return isinstance(event, Started) and event.stage == "plan"

    events = run_stage(
        "quickstart", stop_when=planning, quickstart={"minutes": 0.001, "vocab_size": 300}
    )
    assert finished(events).stopped
    assert not Path("checkpoints").exists()


@pytest.mark.slow
def test_an_interrupted_training_goes_on(small_library: Path) -> None:
    def third_step(event: Event) -> bool:
        return isinstance(event, Progress) and event.unit == "steps" and event.done >= 3

    settings = {"max_steps": 400, "vocab_size": 300}
    stopped = run_stage("quickstart", stop_when=third_step, quickstart=settings)
    assert finished(stopped).stopped
    run = next(Path("checkpoints").glob("run_*"))
    done = folders.step_of(folders.step_folders(run)[-1])
    assert done < 400
    resumed = run_stage("quickstart", stop_when=third_step, quickstart=settings)
    started = [(e.title, e.run) for e in resumed if isinstance(e, Started) and e.stage == "train"]
    assert started == [(f"Train {run.name} on python", str(run))]
    assert folders.step_of(folders.step_folders(run)[-1]) > done


def _text(text: str, *ids: int) -> Sample:
    return Sample(text, token_ids=list(ids) or list(range(60)))


@pytest.mark.parametrize(
    ("text", "again"),
    [
        (_text("import warnings\n" * 15), True),
        (_text("a\nb\nb\nb\nc"), True),
        (_text("x", *[1, 2] * 30), True),
        (_text("x", *range(6), *[7] * 60), True),
        (_text("def f():\n\n\n\n    return 1"), False),
        (_text("a\na\nb\na\na"), False),
        (_text("x", *range(200)), False),
        (_text("short", 1, 2, 3), False),
    ],
)
def test_a_text_that_repeats_itself_is_known(text: Sample, again: bool) -> None:
    assert loops(text) == again


def test_the_text_that_is_shown_is_whole_likely_and_without_loops() -> None:
    def text(name: str, perplexity: float, *, count: int = 60, looping: bool = False) -> Sample:
        ids = [1] * count if looping else list(range(count))
        return Sample(name, token_ids=ids, statistics={"perplexity": perplexity})

    texts = [
        text("loops", 1.1, looping=True),
        text("short", 1.2, count=5),
        text("good", 9.0),
        text("better", 4.0),
        text("unlikely", 300.0),
    ]
    assert min(texts, key=_fault_of).text == "better"


@pytest.mark.slow
def test_with_chat_it_goes_on_to_a_tuned_run_and_does_nothing_twice(small_library: Path) -> None:
    for number in range(40):
        names = [f'def f{number}_{i}(a):\n    """Multiply by {i}."""\n' for i in range(3)]
        Path(f"library/part{number}.py").write_text("\n".join(names))
    first = finished(quickstart(chat=True, max_steps=2))
    assert first.path is not None
    tuned = Path(first.path)
    assert folders.trained_by(tuned) == "sft"
    assert folders.is_called(tuned.name, "first_chat")
    assert first.summary == {"chat with it": f"python main.py chat {tuned}"}
    weights = {p: p.stat().st_mtime_ns for p in Path("checkpoints").glob("*/*/model.safetensors")}
    again = quickstart(chat=True, max_steps=2)
    assert finished(again).path == first.path
    assert all(made(again).values())
    assert weights == {p: p.stat().st_mtime_ns for p in weights}
    assert finished(quickstart(max_steps=2)).summary["teach it to answer"] == (
        "python main.py quickstart --chat"
    )
