"""`runs`: what it lists, and what it deletes only after a yes."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import main
from pipeline.runs import folders
from tests.support import hostile
from tests.support.run_folders import finished_run

ONE, TWO = "run_2026_11_20_10_00_shake", "run_2026_11_21_10_00_code"
Typed = Callable[..., int]


@pytest.fixture
def typed(workspace: Path) -> Typed:
    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main.main(arguments)
        return int(ended.value.code or 0)

    return run


def names() -> set[str]:
    return {path.name for path in Path("checkpoints").iterdir()}


def test_all_runs_are_listed_also_those_without_a_checkpoint(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(ONE)
    finished_run(TWO)
    Path("checkpoints/run_2026_11_22_10_00_none").mkdir()
    assert typed("runs") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in (ONE, TWO, "run_2026_11_22_10_00_none"))
    assert typed("runs", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {line["name"]: line for line in lines}
    assert found[ONE]["checkpoints"] >= 1
    assert found[ONE]["bytes"] > 0
    assert found["run_2026_11_22_10_00_none"]["fault"]


def test_without_runs_the_folder_and_the_first_step_are_named(
    typed: Typed, capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    assert typed("runs", "list") == 0
    told = capsys.readouterr().err
    assert str(workspace / "checkpoints") in told.replace("\n", "")
    assert "quickstart" in told


@pytest.mark.parametrize(
    "name",
    [
        ONE,
        "shake",
        f"checkpoints/{ONE}",
        f"./checkpoints/{ONE}/",
        f"checkpoints/../checkpoints/{ONE}",
    ],
)
def test_a_run_is_deleted_by_any_of_its_names(typed: Typed, name: str) -> None:
    finished_run(ONE)
    finished_run(TWO)
    assert typed("runs", "delete", name, "--yes") == 0
    assert names() == {TWO}


def test_one_checkpoint_is_deleted_and_best_means_the_one_it_names(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(ONE)
    for step in run.glob("checkpoint_step_*"):
        (step / "manifest.json").touch()
    before = folders.step_folders(run)
    folders.point(run, "best", before[0])
    assert typed("runs", "delete", f"{ONE}/checkpoint_best", "--yes", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "checkpoint_step_" in told["deleted"]
    assert len(folders.step_folders(run)) == len(before) - 1


@pytest.mark.parametrize(
    "name",
    ["nope", "", ".", "..", "../x", "/etc", "shake/none", "checkpoints", f"{ONE}/../{TWO}/.."],
)
def test_what_is_no_run_is_refused_and_nothing_goes(typed: Typed, name: str) -> None:
    finished_run(ONE)
    finished_run(TWO)
    assert typed("runs", "delete", name, "--yes") in (1, 2)
    assert names() == {ONE, TWO}


def test_of_several_runs_of_a_name_none_is_chosen(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(ONE)
    finished_run(ONE.replace("10_00", "11_00"))
    assert typed("runs", "delete", "shake", "--yes") == 2
    assert ONE in capsys.readouterr().err
    assert len(names()) == 2


def test_where_nobody_can_answer_yes_must_be_typed(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(ONE)
    assert typed("runs", "delete", "shake") == 2
    assert "add --yes" in capsys.readouterr().err
    assert names() == {ONE}
    assert typed("runs", "delete") == 2


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("yes", 0), ("n", 1), ("", 1), ("Y ", 0)])
def test_it_asks_before_it_deletes(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    finished_run(ONE)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdin, "readline", lambda: f"{answer}\n", raising=False)
    typed("runs", "delete", "shake")
    assert len(names()) == left


def test_hostile_names_of_runs_reach_the_terminal_harmless(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate(hostile.FRAGMENTS):
        name = f"run_2026_11_21_10_{number:02}_{text.replace('/', '').replace(chr(0), '')[:40]}"
        folder = os.fsdecode(os.fsencode("checkpoints/") + name.encode("utf-8", "surrogatepass"))
        Path(folder).mkdir(parents=True)
    assert typed("runs") == 0
    assert not set(capsys.readouterr().out) & set("\x1b\x07\u202e\x9b")
    assert typed("runs", "--json") == 0
    assert not set(capsys.readouterr().out) & set("\x1b\x07\u202e\x9b")
