"""checkpoint_best and checkpoint_latest in every form, and folders set aside or half-deleted."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs import folders, inventory
from pipeline.runs.deletion import delete
from tests.pipeline.test_resume import resume, weights
from tests.pipeline.test_train import run_folder, train
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import lively_model, save_step
from utils.errors import UsageError


def as_copies(run: Path) -> None:
    """What scp -r makes of a run."""
    copied = run.with_name("copied")
    shutil.copytree(run, copied)  # follows links
    shutil.rmtree(run)
    copied.rename(run)


def as_files(run: Path) -> None:
    """What unpacking on a disk without links leaves."""
    for link in (run / "checkpoint_best", run / "checkpoint_latest"):
        name = str(link.readlink())
        link.unlink()
        link.write_text(name)


def as_lonely_copies(run: Path) -> None:
    """Only what the links showed was copied."""
    as_copies(run)
    for checkpoint in folders.step_folders(run):
        shutil.rmtree(checkpoint)


def as_half_copies(run: Path) -> None:
    as_copies(run)
    shutil.rmtree(run / "checkpoint_best")
    (run / "checkpoint_best").symlink_to("checkpoint_step_000008")


def as_links(run: Path) -> None:
    pass


FORMS = [as_links, as_copies, as_files, as_half_copies, as_lonely_copies]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_run_goes_on_whatever_its_links_have_become(
    prepared: Path, form: Callable[[Path], None]
) -> None:
    whole = run_folder(train(name="whole"))
    run = run_folder(train(max_steps=8, schedule="constant", name="moved"))
    form(run)
    shown = {c.step: (c.best, c.latest) for c in inventory.checkpoints_in(run)}
    assert shown[8][1]
    assert inventory.resolve(str(run), Path("checkpoints")).step == 8
    for way in ("checkpoint_latest", "checkpoint_best"):
        assert inventory.resolve(str(run / way), Path("checkpoints")).step == 8
    resume(run, max_steps=12)
    assert folders.pointed(run, "latest") == folders.step_folder(run, 12)
    assert folders.pointed(run, "best") is not None
    assert (run / "checkpoint_latest").is_symlink()
    assert not list(run.glob(".*deleted*"))
    assert weights(run, 12).keys() == weights(whole, 12).keys()


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS, 1314])
def test_a_run_is_trained_where_no_links_can_be_made(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(self: Path, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    run = run_folder(train(eval_every=1, keep_checkpoints=1, name="fat"))
    assert (run / "checkpoint_latest").read_text() == "checkpoint_step_000012\n"
    assert not (run / "checkpoint_best").is_symlink()
    best = folders.pointed(run, "best")
    assert best is not None
    as_copies(run)
    resume(run, max_steps=14)
    assert folders.pointed(run, "latest") == folders.step_folder(run, 14)
    assert folders.pointed(run, "best") is not None


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS[:4])
def test_pruning_protects_the_best_in_every_form(
    prepared: Path, form: Callable[[Path], None]
) -> None:
    run = run_folder(train(max_steps=12, keep_checkpoints=9))
    folders.point(run, "best", folders.step_folder(run, 8))
    form(run)
    folders.point(run, "best", folders.step_folder(run, 4)) if form is as_half_copies else None
    best = folders.pointed(run, "best")
    folders.prune(run, 1)
    left = {folders.step_folder(run, 12), best}
    assert set(folders.step_folders(run)) == left


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS[:3])
def test_deleting_a_checkpoint_corrects_its_links_in_every_form(
    prepared: Path, form: Callable[[Path], None]
) -> None:
    run = run_folder(train(max_steps=8))
    form(run)
    delete(folders.step_folder(run, 8), Path("checkpoints"))
    assert folders.pointed(run, "latest") == folders.step_folder(run, 4)
    delete(folders.step_folder(run, 4), Path("checkpoints"))
    assert not [path.name for path in run.iterdir() if path.name.startswith("checkpoint")]


def _killed_at(call: int, work: Callable[[], None], *, linkless: bool) -> bool:
    """Do `work` in a process that is killed before its file operation `call`, counted from 1;
    whether it came so far. `linkless` is a file system without symbolic links."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    done = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **how: Any) -> Any:
            nonlocal done
            done += 1
            if done == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **how)

        return run

    for owner, names in (
        (os, ("symlink", "rename", "replace", "unlink", "rmdir", "fsync")),
        (shutil, ("rmtree",)),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    if linkless:
        os.symlink = _refuse
    try:
        work()
    finally:
        os._exit(0)


def _point_best(run: Path) -> None:
    folders.point(run, "best", folders.step_folder(run, 8))


@pytest.mark.slow
@pytest.mark.parametrize("linkless", [False, True], ids=["links", "no links"])
@pytest.mark.parametrize(
    ("work", "form"),
    [*((_point_best, form) for form in FORMS[:4]), *((folders.restore_links, f) for f in FORMS)],
)
def test_a_kill_at_any_operation_on_a_link_loses_no_best(
    prepared: Path,
    form: Callable[[Path], None],
    work: Callable[[Path], None],
    linkless: bool,
) -> None:
    run = Path("checkpoints/run_2026_01_02_10_00")
    for call in range(1, 100):
        shutil.rmtree("checkpoints", ignore_errors=True)
        for step in (4, 8):
            save_step(run, step, lively_model(step, num_layers=1))
        folders.point(run, "best", folders.step_folder(run, 4))
        form(run)
        killed = _killed_at(call, partial(work, run), linkless=linkless)
        assert folders.step_folders(run) or folders.copies(run)  # anybody who looks at the run
        best = folders.pointed(run, "best") or run / "checkpoint_best"
        step = json.loads((best / "state.json").read_bytes())["step"]
        before = 8 if form is as_half_copies else 4
        assert step in ({before, 8} if work is _point_best else {before})
        folders.restore_links(run)
        assert folders.pointed(run, "best") is not None, call
        if not killed:
            break
    assert not killed
    assert call > 1 or form in (as_links, as_files)


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_link_that_was_taken_away_does_not_come_back(workspace: Path) -> None:
    run = Path("checkpoints/run_2026_01_02_10_00")
    folder = save_step(run, 4, lively_model(4, num_layers=1))
    folders.point(run, "best", folder)
    (run / ".checkpoint_best.next").symlink_to(folder.name)
    folders.remove_link(run, "best")
    assert folders.step_folders(run) == [folder]
    assert folders.pointed(run, "best") is None


def test_folders_of_an_older_layout_are_no_copies(tmp_path: Path) -> None:
    for which in ("best", "latest"):
        (tmp_path / f"checkpoint_{which}").mkdir()
        assert folders.followed(tmp_path / f"checkpoint_{which}").name == f"checkpoint_{which}"
    assert folders.copies(tmp_path) == []
    folders.restore_links(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_a_checkpoint_copied_out_of_its_run_is_named_as_such(prepared: Path) -> None:
    run = run_folder(train(max_steps=4))
    shutil.copytree(folders.step_folder(run, 4), "elsewhere/checkpoint_best")
    with pytest.raises(UsageError, match="outside of its run") as error:
        resume(Path("elsewhere/checkpoint_best"))
    assert error.value.commands == (("train", "--init-from", "elsewhere/checkpoint_best"),)
    assert Path("elsewhere/checkpoint_best").is_dir()


# Damage again and again.


@pytest.mark.slow
def test_a_step_that_is_damaged_again_and_again_is_set_aside_each_time(prepared: Path) -> None:
    run = run_folder(train(max_steps=8))
    for _ in range(3):
        (folders.step_folder(run, 8) / "model.safetensors").write_bytes(b"damaged")
        events = run_stage("train", train={"resume": "auto"})
        assert finished(events).summary["steps"] == 8
    aside = sorted(path.name for path in run.glob("*.corrupt"))
    stem = "checkpoint_step_000008"
    assert aside == [f"{stem}.2.corrupt", f"{stem}.3.corrupt", f"{stem}.corrupt"]
    assert {c.step for c in inventory.checkpoints_in(run)} == {4, 8}


@pytest.mark.slow
def test_what_a_kill_left_of_a_deletion_is_cleaned_up(prepared: Path) -> None:
    run = run_folder(train(max_steps=4, eval_every=2, keep_checkpoints=1))
    for name in (".deleted_checkpoint_step_000002", ".deleted_checkpoint_step_000004"):
        (run / name).mkdir()
        (run / name / "model.safetensors").write_bytes(b"half")
    resume(run, max_steps=8)
    assert not list(run.glob(".deleted*"))
