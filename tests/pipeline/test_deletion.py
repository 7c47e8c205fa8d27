"""Faults in the folder of runs, and deleting runs and checkpoints."""

import errno
import json
from pathlib import Path

import pytest

from app.tui.runs.tree import look, rows
from pipeline.runs import folders
from pipeline.runs.damaged import faults
from pipeline.runs.deletion import delete
from pipeline.runs.inventory import checkpoints_in, resolve
from utils.artefacts import build_folder
from utils.errors import HatcheryError, RefusedError
from utils.files import FolderLock

HOME = Path("checkpoints")


@pytest.fixture
def run(workspace: Path) -> Path:
    """A run with three checkpoints, the second of them best."""
    folder = HOME / "run_2026_01_01_10_00_hen"
    for step, loss in ((10, 3.0), (20, 2.0), (30, 2.5)):
        checkpoint(folder, step, loss)
    (folder / "run.json").write_text("{}")
    folders.point(folder, "best", folders.step_folder(folder, 20))
    folders.point(folder, "latest", folders.step_folder(folder, 30))
    return folder


def checkpoint(run: Path, step: int, loss: float) -> Path:
    folder = folders.step_folder(run, step)
    with build_folder(folder, kind="checkpoint", command="train", options={}) as builder:
        builder.write("config.json", "{}")
        builder.write("model.safetensors", "weights")
        builder.write("state.json", json.dumps({"step": step, "val_loss": loss}))
    return folder


def test_deleting_the_best_makes_the_next_best_the_best(run: Path) -> None:
    delete(folders.step_folder(run, 20), HOME)
    assert folders.pointed(run, "best") == folders.step_folder(run, 30)
    assert folders.pointed(run, "latest") == folders.step_folder(run, 30)
    assert [folders.step_of(path) for path in folders.step_folders(run)] == [10, 30]


def test_a_run_does_not_look_busy_after_something_in_it_was_deleted(run: Path) -> None:
    delete(folders.step_folder(run, 20), HOME)
    assert look(HOME).writing == frozenset()


def test_deleting_the_latest_makes_the_one_before_the_latest(run: Path) -> None:
    delete(folders.step_folder(run, 30), HOME)
    assert folders.pointed(run, "latest") == folders.step_folder(run, 20)
    assert folders.pointed(run, "best") == folders.step_folder(run, 20)


def test_deleting_the_last_checkpoint_leaves_no_link_behind(run: Path) -> None:
    for step in (10, 20, 30):
        delete(folders.step_folder(run, step), HOME)
    assert not [entry for entry in run.iterdir() if entry.name.startswith("checkpoint_")]


def test_a_run_goes_with_all_it_holds_and_nothing_else(run: Path) -> None:
    other = HOME / "run_2026_01_02_10_00"
    checkpoint(other, 5, 1.0)
    delete(run, HOME)
    assert [path.name for path in HOME.iterdir()] == [other.name]


def test_nothing_is_deleted_under_a_process_at_work(run: Path) -> None:
    before = sorted(run.rglob("*"))
    with FolderLock(run):
        for path in (run, folders.step_folder(run, 10)):
            with pytest.raises(RefusedError, match="Another process"):
                delete(path, HOME)
    assert sorted(path for path in run.rglob("*") if path.name != ".lock") == [
        path for path in before if path.name != ".lock"
    ]


def test_a_deletion_that_was_cut_short_leaves_nothing_that_looks_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(HatcheryError, match="could not be deleted"):
            delete(folders.step_folder(run, 20), HOME)
    assert [folders.step_of(path) for path in folders.step_folders(run)] == [10, 30]
    assert folders.pointed(run, "best") == folders.step_folder(run, 30)
    [left] = faults(HOME)
    assert left.why == "left over from a deletion"
    delete(left.path, HOME)
    assert faults(HOME) == []


def test_only_what_lies_in_the_folder_of_runs_can_be_deleted(run: Path) -> None:
    Path("mine").mkdir()
    for path in (Path("mine"), HOME, run / "checkpoint_best", HOME / "gone"):
        with pytest.raises(HatcheryError):
            delete(path, HOME)
    assert Path("mine").is_dir()


def test_each_fault_says_what_is_wrong(run: Path) -> None:
    (folders.step_folder(run, 10) / "model.safetensors").write_text("cut")
    (folders.step_folder(run, 20) / "state.json").unlink()
    (folders.step_folder(run, 30) / "manifest.json").write_text("{")
    (run / "checkpoint_step_000040").mkdir()
    (run / "checkpoint_step_000050.corrupt").mkdir()
    (run / ".checkpoint_step_000060.building").mkdir()
    (HOME / "run_2026_01_05_10_00").mkdir()
    found = {fault.path.name: fault.why for fault in faults(HOME)}
    assert found == {
        "checkpoint_step_000010": "damaged: model.safetensors has 3 bytes of 7",
        "checkpoint_step_000020": "damaged: state.json is missing",
        "checkpoint_step_000030": "damaged: manifest.json cannot be trusted",
        "checkpoint_step_000040": "half-written: no manifest.json",
        "checkpoint_step_000050.corrupt": "damaged, and set aside",
        ".checkpoint_step_000060.building": "half-written: saving it was cut short, or goes on now",
        run.name: "no checkpoint yet",
        "run_2026_01_05_10_00": "no run.json and no checkpoint",
    }


def test_the_tree_lists_runs_with_their_checkpoints_and_faults_below(run: Path) -> None:
    (run / "checkpoint_step_000040").mkdir()
    (HOME / "run_2026_01_05_10_00").mkdir()
    shown = [(row.kind, row.name, row.best, row.latest) for row in rows(look(HOME))]
    assert sorted(shown) == sorted(
        [
            ("run", "run_2026_01_05_10_00", False, False),
            ("run", run.name, False, False),
            ("checkpoint", "step 30", False, True),
            ("checkpoint", "step 20", True, False),
            ("checkpoint", "step 10", False, False),
            ("fault", "checkpoint_step_000040", False, False),
        ]
    )
    top = next(row for row in rows(look(HOME)) if row.name == run.name)
    assert (top.loss, top.step) == (2.0, 30)


def test_the_tree_can_be_folded_and_filtered(run: Path) -> None:
    assert [row.name for row in rows(look(HOME), closed={run.name})] == [run.name]
    assert rows(look(HOME), words="fox") == []
    assert len(rows(look(HOME), words="HEN")) == 4


def test_a_run_that_a_process_writes_to_is_told_without_taking_its_lock(run: Path) -> None:
    with FolderLock(run):
        assert look(HOME).writing == {run.name}
    with FolderLock(run):  # looking has not left it taken
        pass


def test_a_folder_that_is_not_there_holds_nothing(workspace: Path) -> None:
    assert rows(look(HOME)) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_on_a_disk_without_symbolic_links_a_file_names_the_checkpoint(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refused)
    run = HOME / "run_2026_01_01_10_00"
    (run.mkdir(parents=True), (run / "run.json").write_text("{}"))
    for step, loss in ((10, 3.0), (20, 2.0), (30, 2.5)):
        checkpoint(run, step, loss)
        folders.point(run, "latest", folders.step_folder(run, step))
    folders.point(run, "best", folders.step_folder(run, 20))
    assert folders.pointed(run, "latest") == folders.step_folder(run, 30)
    assert resolve(str(run / "checkpoint_best"), HOME).path == folders.step_folder(run, 20)
    assert len(checkpoints_in(run)) == 3
    assert resolve(str(run), HOME).path == folders.step_folder(run, 20)
    assert folders.prune(run, 1) == [folders.step_folder(run, 10)]
    delete(folders.step_folder(run, 20), HOME)
    assert folders.pointed(run, "best") == folders.step_folder(run, 30)
    with pytest.raises(HatcheryError, match="not there any more"):
        delete(run / "checkpoint_best", HOME)
    delete(folders.step_folder(run, 30), HOME)
    assert sorted(entry.name for entry in run.iterdir()) == ["run.json"]
