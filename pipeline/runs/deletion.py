"""Deleting runs and checkpoints: never under a process at work, never half.

A thing is renamed to a hidden name first, so that a kill leaves nothing that looks whole, and the
links of its run are set right before it goes.
"""

import shutil
from contextlib import ExitStack
from pathlib import Path

from pipeline.runs import folders
from pipeline.runs.damaged import is_step
from pipeline.runs.inventory import val_loss_of
from utils.errors import HatcheryError
from utils.files import FolderLock, sync_folder


def delete(path: Path, checkpoints_dir: Path) -> None:
    """Delete a run, a checkpoint or what is left of one under `checkpoints_dir`.

    Raises:
        RefusedError: a process is writing to the run; names it.
        HatcheryError: it is not there, does not lie under `checkpoints_dir`, or cannot be removed.
    """
    _require_inside(path, checkpoints_dir)
    run = path if path.parent == checkpoints_dir else path.parent
    with ExitStack() as stack:
        if run.is_dir() and not run.name.startswith("."):
            stack.enter_context(FolderLock(run))
            stack.callback((run / ".lock").unlink, missing_ok=True)  # it names this process
        try:
            if path.parent != checkpoints_dir:
                _redirect(path.parent, path)
            hidden = path.with_name(f".deleted_{path.name.removeprefix('.deleted_')}")
            if hidden != path:
                if hidden.exists():
                    _remove(hidden)
                path.replace(hidden)
                sync_folder(path.parent)
            _remove(hidden)
        except OSError as error:
            raise HatcheryError(
                f"{path} could not be deleted: {error.strerror}.",
                found=str(error.filename or path),
                remedy=f"look into it: ls -la {path.parent}",
            ) from error


def _require_inside(path: Path, checkpoints_dir: Path) -> None:
    if folders.is_link(path) or not path.exists():
        raise HatcheryError(
            f"{path} is not there any more.",
            found="a link" if folders.is_link(path) else "nothing of that name",
        )
    if checkpoints_dir not in path.parents[:2]:
        raise HatcheryError(
            f"{path} is not a run or a checkpoint in {checkpoints_dir}.",
            remedy="remove it by hand if it should go",
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _redirect(run: Path, deleted: Path) -> None:
    """Point the links of `run` that name `deleted` at what is left, or take them away."""
    left = [folder for folder in folders.step_folders(run) if folder != deleted]
    losses = {folder: val_loss_of(folder) for folder in left}
    scored = [(loss, folder) for folder, loss in losses.items() if loss is not None]
    successors = {"best": min(scored)[1] if scored else None, "latest": left[-1] if left else None}
    for link in folders.links(run):
        which = link.name.removeprefix("checkpoint_")
        if link == deleted or folders.followed(link) != deleted:
            continue
        successor = successors.get(which)
        if successor is not None and is_step(deleted):
            folders.point(run, which, successor)
        else:
            folders.remove_link(run, which)
