"""`runs list|delete`: training runs and their checkpoints from the command line."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from cyclopts import App, Parameter

from app.commands.flags import EVERYWHERE
from app.commands.help import new_app
from app.commands.settings import load_config
from app.terminal.layout import Console, confirmed, print_line, table
from pipeline.runs import folders
from pipeline.runs.damaged import Fault, faults, folder_size
from pipeline.runs.deletion import delete
from pipeline.runs.inventory import LOOSE, Run, list_runs
from utils.errors import ExitCode, UsageError
from utils.units import ago, human_bytes

_LISTED = 8  # runs that a message names

_Json = Annotated[bool, Parameter(name="--json", help="Print JSON", group=EVERYWHERE, negative=())]
_Config = Annotated[
    Path | None,
    Parameter(name="--config", help="Settings stronger than config.json", group=EVERYWHERE),
]
_Names = Annotated[str, Parameter(help="Runs, or RUN/CHECKPOINT, by folder or --name")]


class Deletable(NamedTuple):
    """A run or one of its checkpoints: its folder, what to call it, its bytes."""

    path: Path
    called: str
    size: int


def runs_app() -> App:
    """The sub-application `runs`."""
    app = new_app(
        name="main.py runs",
        help="List training runs, or delete runs and checkpoints.",
        version_flags=[],
    )
    commands: dict[str, Callable[..., int]] = {"list": list_all, "delete": delete_some}
    for order, (name, command) in enumerate(commands.items()):
        app.command(command, name=name, sort_key=order)
    return app


def list_all(*, config: _Config = None, as_json: _Json = False) -> int:
    """List all runs, newest first."""
    folder = _folder(config)
    rows = [_facts(run) for run in list_runs(folder)]
    listed = {row["name"] for row in rows}
    rows += [_fault(fault) for fault in faults(folder) if _alone(fault, listed)]
    if as_json:
        for row in rows:
            print_line(json.dumps(row))
    elif rows:
        shown = table([_row(row, faulty=any(one["fault"] for one in rows)) for row in rows])
        shown.columns[0].no_wrap = True
        Console().print(shown)
    else:
        Console(stderr=True).say(
            f"No runs in {folder.absolute()}. A first one: python main.py quickstart"
        )
    return ExitCode.DONE


def delete_some(
    *names: _Names,
    yes: Annotated[bool, Parameter(help="Do not ask", negative=())] = False,
    config: _Config = None,
    as_json: _Json = False,
) -> int:
    """Delete runs or checkpoints: runs delete RUN, runs delete RUN/checkpoint_step_000100."""
    if not names:
        raise UsageError(
            "There is nothing to delete.", remedy="name a run: {}", commands=[("runs", "list")]
        )
    folder = _folder(config)
    chosen = list(dict.fromkeys(_chosen(name, folder) for name in names))
    if not yes:
        _ask(chosen)
    for one in chosen:
        delete(one.path, folder)
        if as_json:
            print_line(json.dumps({"deleted": str(one.path), "bytes": one.size}))
        else:
            Console().say(f"deleted {one.called}: {human_bytes(one.size)} free")
    return ExitCode.DONE


def _ask(chosen: list[Deletable]) -> None:
    """Ask before anything goes.

    Raises:
        UsageError: nobody is there to answer, or the answer is no.
    """
    named = ", ".join(f"{one.called} ({human_bytes(one.size)})" for one in chosen)
    answer = confirmed(f"Delete {named}? There is no way back.")
    if answer is None:
        raise UsageError(
            "Deleting asks first, and nobody is there to answer.",
            found=f"this would go: {named}",
            remedy="add --yes",
        )
    if not answer:
        raise UsageError("Nothing was deleted.", found="the answer was not yes")


def _chosen(name: str, folder: Path) -> Deletable:
    """What a name means: a run, a checkpoint in one as RUN/CHECKPOINT, or a path of either.

    Raises:
        UsageError: nothing is called so, or several runs are.
    """
    typed = Path(name)
    if typed.is_dir() and folder.resolve() in typed.resolve().parents:
        typed = typed.resolve().relative_to(folder.resolve())
    run, _, inside = str(typed).partition("/")
    found = _runs_called(run, folder)
    if len(found) > 1:
        raise UsageError(
            f"Several runs are called {run}.",
            found=", ".join(path.name for path in found[:_LISTED]),
            remedy="give the whole name of one",
        )
    path = found[0] / inside if found and inside else found[0] if found else None
    if path is None or not path.is_dir():
        raise _nothing_called(name, folder, found)
    path = folders.followed(path)  # "best" and "latest" are names of others
    checkpoints = len(folders.step_folders(path)) if not inside else 0
    several = "s" if checkpoints != 1 else ""
    kind = "" if inside else f" with {checkpoints} checkpoint{several}"
    return Deletable(path, f"{path.relative_to(folder)}{kind}", folder_size(path))


def _runs_called(name: str, folder: Path) -> list[Path]:
    """The run of exactly this name, else all that were given it with --name."""
    if name in ("", ".", "..", LOOSE) or not folder.is_dir():
        return []
    if (folder / name).is_dir():
        return [folder / name]
    entries = (entry for entry in folder.iterdir() if entry.is_dir())
    return sorted(entry for entry in entries if folders.is_called(entry.name, name))


def _nothing_called(name: str, folder: Path, found: list[Path]) -> UsageError:
    if found:
        there = [path.name for path in folders.step_folders(found[0])]
        what = f"{found[0].name} has no checkpoint of the name in {name}."
    else:
        there = [run.name for run in list_runs(folder)]
        what = f"There is no run {name}."
    listed = ", ".join(there[:_LISTED]) or f"nothing in {folder.absolute()}"
    return UsageError(what, found=listed, remedy="{}", commands=[("runs", "list")])


def _folder(config: Path | None) -> Path:
    return load_config({}, config).config.paths.checkpoints_dir


def _facts(run: Run) -> dict[str, Any]:
    steps = [c.step for c in run.checkpoints if c.step is not None]
    losses = [c.val_loss for c in run.checkpoints if c.val_loss is not None]
    return {
        "name": run.name,
        "checkpoints": len(run.checkpoints),
        "last_step": max(steps, default=None),
        "best_val_loss": min(losses, default=None),
        "bytes": sum(c.size for c in run.checkpoints),
        "modified": run.modified,
        "fault": None,
    }


def _alone(fault: Fault, listed: set[str]) -> bool:
    """Whether a fault stands for a run that has nothing usable."""
    return fault.run is None and fault.path.name not in listed


def _fault(fault: Fault) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("last_step", "best_val_loss"))
    return {
        "name": fault.path.name,
        "checkpoints": 0,
        **nothing,
        "bytes": fault.size,
        "modified": fault.modified,
        "fault": fault.why,
    }


def _row(facts: dict[str, Any], *, faulty: bool) -> dict[str, Any]:
    loss = facts["best_val_loss"]
    row = {
        "run": facts["name"],
        "checkpoints": facts["checkpoints"],
        "step": facts["last_step"],
        "val loss": "-" if loss is None else f"{loss:.4f}",
        "size": human_bytes(facts["bytes"]),
        "age": ago(max(0.0, time.time() - facts["modified"])),
    }
    return row | ({"": facts["fault"] or ""} if faulty else {})
