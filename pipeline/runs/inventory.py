"""What can be loaded: runs and the checkpoints in them, our own and those of older layouts.

Looks at names, links and small JSON files only; weights are not read and torch is not imported.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runs import folders, pretrained
from pipeline.runs.progress import progress_of
from pipeline.runs.record import state_of
from utils.errors import UsageError
from utils.files import home_path

if TYPE_CHECKING:
    from pipeline.options.config import Config

LOOSE = "(no run)"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_OURS = re.compile(r"checkpoint_step_\d+$")
_NUMBER = re.compile(r"(\d+)")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Checkpoint:
    """Something that can be loaded. `size` is bytes on disk, `modified` seconds since 1970;
    `val_loss` is nats per token, None where it was not measured at this step."""

    path: Path
    run: str
    name: str
    step: int | None
    val_loss: float | None
    size: int
    modified: float
    best: bool = False
    latest: bool = False

    @property
    def label(self) -> str:
        """Run and checkpoint in a few words."""
        return self.name if self.run == LOOSE else f"{self.run} {self.name}"

    @property
    def id(self) -> str:
        """The same for programs: RUN/step-500."""
        counted = self.step is not None and self.name == f"step {self.step:,}"
        name = safe_name(f"step-{self.step}" if counted else self.name)
        return name if self.run == LOOSE else f"{safe_name(self.run)}/{name}"


@dataclass(frozen=True)
class Run:
    """A folder of checkpoints, newest first."""

    name: str
    checkpoints: tuple[Checkpoint, ...]

    @property
    def modified(self) -> float:
        return max(checkpoint.modified for checkpoint in self.checkpoints)

    @property
    def default(self) -> Checkpoint:
        """The best, else the latest, else the newest checkpoint."""
        ranked = sorted(self.checkpoints, key=lambda c: (c.best, c.latest), reverse=True)
        return ranked[0]


def safe_name(name: str) -> str:
    """Letters, digits, dot, dash and underscore; never the name of a folder above."""
    return _UNSAFE.sub("-", name).strip("-.") or "unnamed"


def list_runs(checkpoints_dir: Path) -> list[Run]:
    """All runs that hold a checkpoint, newest first; last, as one more, what is in no run."""
    found: list[Run] = []
    loose: list[Checkpoint] = []
    for entry in _entries(checkpoints_dir):
        if _weights(entry) is not None and (entry.is_file() or _is_checkpoint(entry)):
            loose += _described([entry], LOOSE)
        elif entry.is_dir() and (checkpoints := checkpoints_in(entry)):
            found.append(Run(entry.name, checkpoints))
    found.sort(key=lambda run: run.modified, reverse=True)
    return [*found, Run(LOOSE, _newest_first(loose))] if loose else found


def checkpoints_in(run: Path) -> tuple[Checkpoint, ...]:
    """The checkpoints of a run folder, newest first."""
    folders.step_folders(run)  # finishes what a kill interrupted
    entries = [entry for entry in _entries(run) if not _is_alias(entry)]
    marks = {which: folders.pointed(run, which) for which in ("best", "latest")}
    return _newest_first(
        [
            replace(
                checkpoint,
                best=checkpoint.best or checkpoint.path == marks["best"],
                latest=checkpoint.latest or checkpoint.path == marks["latest"],
            )
            for checkpoint in _described(entries, run.name)
        ]
    )


def val_loss_of(checkpoint: Path) -> float | None:
    """The recorded validation loss of a checkpoint, nats per token."""
    return _val_loss(checkpoint, state_of(checkpoint))


def resolve(where: str, checkpoints_dir: Path) -> Checkpoint:
    """What the user typed: a checkpoint folder, a `.pt` file, a run by folder or name, or a model
    of the Hugging Face hub (gpt2, owner/name, owner/name@revision), which is fetched once.

    A run stands for its best checkpoint, else its latest.

    Raises:
        UsageError: there is nothing of that name, or no checkpoint in it.
        NetworkError: a model of the hub is not here and cannot be fetched.
    """
    path = home_path(where)
    if not path.exists():
        identity = pretrained.hub_id(where)
        if identity is None or is_run(where, checkpoints_dir):
            return _run_called(where, checkpoints_dir).default
        [fetched] = _described([pretrained.fetch(identity)], LOOSE)
        return replace(fetched, name=where)
    real = folders.followed(path)
    real = real.resolve() if real.is_symlink() else real
    inside = checkpoints_in(real) if real.is_dir() and not _is_checkpoint(real) else ()
    if inside:
        return Run(real.name, inside).default
    in_run = real.name.startswith("checkpoint")
    described = list(_described([real], real.absolute().parent.name if in_run else LOOSE))
    if not described:
        content = sorted(e.name for e in real.iterdir()) if real.is_dir() else [real.name]
        raise UsageError(
            f"{path} holds no checkpoint.",
            found=", ".join(content[:8]) or "an empty folder",
            remedy="choose a run, a checkpoint folder with config.json and model.safetensors, or "
            "a .pt file",
        )
    return described[0]


def steps_of(where: str, checkpoints_dir: Path) -> tuple[Checkpoint, ...]:
    """The checkpoints of a run that say their step, oldest first: a run by name or folder, or by a
    checkpoint in it.

    Raises:
        UsageError: there is no such run, or it is a model that belongs to none.
    """
    path = home_path(where)
    if path.exists():
        real = folders.followed(path)
        real = real.resolve() if real.is_symlink() else real
        found = checkpoints_in(real) if real.is_dir() and not _is_checkpoint(real) else ()
        run = real.absolute().parent
        if not found and (folders.step_folders(run) or real.name.startswith("checkpoint")):
            found = checkpoints_in(run)
    elif pretrained.hub_id(where) is None or is_run(where, checkpoints_dir):
        found = _run_called(where, checkpoints_dir).checkpoints
    else:
        found = ()
    steps = {checkpoint.step: checkpoint for checkpoint in found if checkpoint.step is not None}
    if not steps:
        what = ", ".join(checkpoint.name for checkpoint in found[:8])
        raise UsageError(
            f"{where} is no run with checkpoints of several steps.",
            found=what or f"{'no' if path.exists() else 'a hub model, not a'} checkpoint of a step",
            remedy="name a run, by its name or folder; a model alone is named as a checkpoint",
        )
    return tuple(steps[step] for step in sorted(steps))


def newest(config: "Config") -> Checkpoint:
    """The best checkpoint of the newest run.

    Raises:
        MissingError: there is no run; names the commands that make one.
    """
    folder = config.paths.checkpoints_dir
    known = list_runs(folder)
    if not known:
        from pipeline import missing  # reads the settings, which a board does not wait for

        raise missing.MissingError(
            f"There is no trained model in {folder} yet.",
            commands=missing.model(config),
            do="train one",
        )
    return known[0].default


def require_known(where: str, checkpoints_dir: Path) -> None:
    """Refuse the name of nothing, without reading what a known one names: in milliseconds, before
    torch is loaded. A model of the hub may be fetched, and so counts as known.

    Raises:
        UsageError: there is nothing of that name.
    """
    if home_path(where).exists():
        return
    if pretrained.hub_id(where) is None and not is_run(where, checkpoints_dir):
        _run_called(where, checkpoints_dir)


def is_run(name: str, checkpoints_dir: Path) -> bool:
    """Whether a run goes by that name."""
    return any(folders.is_called(run.name, name) for run in list_runs(checkpoints_dir))


def _run_called(name: str, checkpoints_dir: Path) -> Run:
    known = list_runs(checkpoints_dir)
    for run in known:
        if folders.is_called(run.name, name):
            return run
    if known:
        found = f"in {checkpoints_dir}: {', '.join(run.name for run in known[:8])}"
    else:
        found = f"no runs in {checkpoints_dir.absolute()}"
    meant = folders.meant(name, [run.name for run in known])
    raise UsageError(
        f"There is no checkpoint or run {name}.",
        found=found,
        remedy=f"{meant}give one of these, a folder or a .pt file"
        if known
        else f"if your runs are elsewhere, change to the folder with {checkpoints_dir}/ or give "
        f"--paths.checkpoints-dir; else train one: {{}}",
        commands=() if known else [("quickstart",)],
    )


def _entries(folder: Path) -> list[Path]:
    """What lies in `folder`, without hidden names and checkpoints set aside as corrupt; nothing
    where there is no folder (any more)."""
    found = sorted(folder.glob("[!.]*")) if folder.is_dir() else []
    return [entry for entry in found if entry.suffix != ".corrupt"]


def _is_alias(entry: Path) -> bool:
    """Whether it is only another name of something in the same folder."""
    target = folders.followed(entry)
    return target != entry and target.resolve().parent == entry.parent.resolve()


def _is_checkpoint(folder: Path) -> bool:
    """Whether it is one checkpoint, not a run: by its files, or by the name of an old layout."""
    return _is_hugging_face(folder) or (
        folder.name.startswith("checkpoint") and bool(list(folder.glob("*.pt")))
    )


def _is_hugging_face(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / n).is_file() for n in _WEIGHTS)


def _weights(entry: Path) -> Path | None:
    """What to load for `entry`: a folder, a `.pt` file, or the one inside a folder."""
    if entry.is_file():
        return entry if entry.suffix == ".pt" else None
    if _is_hugging_face(entry):
        return entry
    inside = sorted(entry.glob("*.pt"), key=lambda path: ("model" not in path.stem, path.name))
    return inside[0] if inside else None


def _described(entries: Sequence[Path], run: str) -> Iterator[Checkpoint]:
    for entry in entries:
        try:
            path = _weights(entry)
            if path is None:
                continue
            files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
            size = sum(file.stat().st_size for file in files)
            modified = path.stat().st_mtime
        except FileNotFoundError:
            continue  # deleted while we looked
        state = state_of(entry)
        stem = entry.stem if entry.is_file() else entry.name
        step = state["step"] if isinstance(state.get("step"), int) else _step(stem)
        words = re.split(r"[^a-z]", stem)
        yield Checkpoint(
            path=path,
            run=run,
            name=stem if step is None or not _OURS.match(stem) else f"step {step:,}",
            step=step,
            val_loss=_val_loss(entry, state),
            size=size,
            modified=modified,
            best="best" in words,
            latest="latest" in words,
        )


def _val_loss(checkpoint: Path, state: dict[str, Any]) -> float | None:
    """The loss that was measured at the checkpoint's own step; a state holds the last one
    measured, which may be that of an earlier step."""
    step, loss = state.get("step"), state.get("val_loss")
    if loss is None and step is not None and step == state.get("best_step"):
        loss = state.get("best_loss")
    return loss if isinstance(loss, float) and _is_measured(checkpoint, state) else None


def _is_measured(checkpoint: Path, state: dict[str, Any]) -> bool:
    """Whether the loss in a state is that of its own step; where neither the state says so nor
    the run's events, as in older layouts, it is taken to be."""
    step = state.get("step")
    if step is None or step == state.get("best_step"):
        return True
    if "val_step" in state:
        return bool(step == state["val_step"])
    progress = progress_of(checkpoint.parent) if _OURS.match(checkpoint.name) else None
    return progress is None or not progress.validated or step in progress.validated


def _step(stem: str) -> int | None:
    numbers = _NUMBER.findall(stem)
    return int(numbers[-1]) if numbers else None


def _newest_first(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    return tuple(sorted(checkpoints, key=lambda c: (c.step or 0, c.modified), reverse=True))
