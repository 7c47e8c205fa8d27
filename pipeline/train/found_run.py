"""What going on with a run is for every stage that trains: which checkpoint, which settings of
its own, and what may not change.

A run's folder holds its own settings in run.json: resuming takes them from there, so that a
changed config.json cannot alter a run half-way. What the user types with --resume wins where it
leaves the past intact, and is refused where it does not. The run is locked before its newest
checkpoint is looked for, so that two processes never go on with the same one.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from time import time
from typing import NamedTuple, TypeVar

from pipeline.options.config import Config, TrainingOptions, Typed
from pipeline.runs import folders
from pipeline.runs.damaged import is_step
from pipeline.runs.record import RECORD, RunRecord, read_record, record_of
from pipeline.train.run_setup import MOST_VALIDATION_BATCHES, RunSetup, length_note
from utils.artefacts import MANIFEST
from utils.errors import RefusedError, UsageError
from utils.files import home_path

_Options = TypeVar("_Options", bound=TrainingOptions)
_Setup = TypeVar("_Setup", bound=RunSetup)

_SPLIT = ("batch_size", "gradient_accumulation_steps")
_BELONGS = {"data": "on other data", "tokenizer": "with another tokenizer"}
_BEGIN_WITH = {"train": ("--init-from",), "sft": ("--checkpoint",)}
_NOTED_RATE_CHANGE = 0.05  # of the peak


class FoundRun(NamedTuple):
    """A run to go on with: where, from which checkpoint, what it has on record, and what the user
    should know."""

    folder: Path
    checkpoint: Path
    record: RunRecord
    notes: list[str]


def find_run_to_resume(
    config: Config, options: TrainingOptions, command: str, lock: Callable[[Path], object]
) -> FoundRun:
    """Where --resume goes on; `lock` keeps others from writing to a folder.

    Raises:
        UsageError, RefusedError: there is nothing to go on with, another process trains it, it is
            damaged, or another stage trains it than `command`.
    """
    run, named = place_to_resume(config, options, command)
    newest = folders.step_folders(run)[-1:]
    if named is None or not is_step(named) or [named] == newest:
        lock(run)
        if (run / RECORD).is_file() or newest:
            folders.restore_links(run)
    notes: list[str] = []
    if named is None:
        checkpoint, notes = folders.newest_intact(run, skip_corrupt=options.resume == "auto")
    else:
        checkpoint = folders.followed(named)
    if not is_step(checkpoint):
        raise UsageError(
            f"{checkpoint} is a checkpoint outside of its run, which cannot be found.",
            remedy="begin a new run with its weights: {}",
            commands=[(command, *_BEGIN_WITH[command], str(checkpoint))],
        )
    record = _record(run, checkpoint, notes, named=named is not None)
    require_trained_by(command, run, record)
    return FoundRun(run, checkpoint, record, notes)


def place_to_resume(
    config: Config, options: TrainingOptions, command: str = "train"
) -> tuple[Path, Path | None]:
    """The run that --resume of the stage `command` means, and the checkpoint in it where it names
    one; the latest one is no name of its own, it stands for the run.

    Raises:
        UsageError: there is nothing of that name, or no checkpoint in it.
    """
    assert options.resume is not None
    if options.resume == "auto":
        return folders.find_run(config.paths.checkpoints_dir, options.name, command), None
    path = home_path(options.resume)
    if not path.exists():
        path = folders.find_run(config.paths.checkpoints_dir, options.resume, command)
    if path.name == "checkpoint_latest":
        path = path.parent
    path = folders.followed(path)
    path = path.resolve() if path.is_symlink() else path
    if (path / MANIFEST).is_file() and path.name.startswith("checkpoint_"):
        return path.parent, path
    if folders.step_folders(path) or folders.copies(path):
        return path, None
    raise UsageError(
        f"{path} is not a run or a checkpoint inside one.",
        found="a run that ended before its first checkpoint" * (path / RECORD).is_file(),
        remedy="give a folder under checkpoints/, or --resume auto",
    )


def require_trained_by(command: str, run: Path, record: RunRecord) -> None:
    """Refuse a run that another stage trains.

    Raises:
        UsageError: names the command that goes on with it.
    """
    if record.command != command:
        raise UsageError(
            f"{run.name} was not trained by {command}, but by {record.command}.",
            remedy="go on with it so: {}",
            commands=[(record.command, "--resume", str(run))],
        )


def _record(run: Path, checkpoint: Path, notes: list[str], *, named: bool) -> RunRecord:
    """What the run was started with; where run.json is damaged and the checkpoint was named, what
    that one holds of it."""
    try:
        return read_record(run)
    except RefusedError as error:
        if not named:
            raise
        notes.append(f"{error.problem} The settings are those that {checkpoint.name} holds.")
        return record_of(checkpoint)


def merged_options(
    kept: _Options, record: RunRecord, options: _Options, own: set[str], fixed: frozenset[str]
) -> _Options:
    """The settings `kept` on record with those of `options` that were typed, `own`; the names in
    `fixed` cannot change.

    Raises:
        UsageError: what was typed would change what the run has done already.
    """
    _refuse_changes(record, options, own, fixed)
    changes = {name: getattr(options, name) for name in own - {"resume", "name"}}
    if "epochs" in own and "max_steps" not in own:
        changes["max_steps"] = None  # the length that was typed counts, not the one before
    changes |= _validated_rows(kept, kept.model_copy(update=changes), own)
    return kept.model_copy(update=changes)


def _refuse_changes(
    record: RunRecord, options: TrainingOptions, typed: Iterable[str], fixed: frozenset[str]
) -> None:
    now = options.model_dump(mode="json")
    for name in sorted(fixed.intersection(typed)):
        if record.options.get(name) != now[name]:
            raise UsageError(
                f"A resumed run cannot change --{name.replace('_', '-')}.",
                found=f"the run has {record.options.get(name)}, the command line says {now[name]}",
                remedy="leave it out, or start a new run without --resume",
            )
    before = [record.options.get(name, 1) for name in _SPLIT]
    after = [now[name] if name in typed else old for name, old in zip(_SPLIT, before, strict=True)]
    if after[0] * after[1] != before[0] * before[1]:
        [changed, *_] = [n for n, a, b in zip(_SPLIT, before, after, strict=True) if a != b]
        raise UsageError(
            f"A resumed run cannot change --{changed.replace('_', '-')} and with it the rows "
            "per step.",
            found=f"the run has {before[0]} × {before[1]}, the command line says "
            f"{after[0]} × {after[1]}",
            remedy="leave it out, give --batch-size and --gradient-accumulation-steps with the "
            "same product, or start a new run without --resume",
        )


def _validated_rows(
    kept: TrainingOptions, merged: TrainingOptions, typed: Iterable[str]
) -> dict[str, int]:
    """The validation batches that score the same rows in batches of another size."""
    if merged.batch_size == kept.batch_size or "eval_batches" in typed:
        return {}
    rows = (kept.eval_batches or MOST_VALIDATION_BATCHES) * kept.batch_size
    return {"eval_batches": -(-rows // merged.batch_size)}


def check_belongs(run: Path, expected: dict[str, str], found: dict[str, str]) -> None:
    """Refuse other data or another tokenizer than a run has on record.

    Raises:
        RefusedError: names what differs.
    """
    for what, fingerprint in expected.items():
        if found[what] != fingerprint:
            raise RefusedError(
                f"{run.name} was trained {_BELONGS[what]}.",
                found=f"fingerprint {found[what][:16]}…, where the run expects {fingerprint[:16]}…",
                remedy="give the matching --data, or start a new run without --resume",
            )


def going_on(
    config: Config,
    options: TrainingOptions,
    typed: Typed,
    before: TrainingOptions,
    old_steps: int,
    setup: _Setup,
) -> _Setup:
    """`setup` with what it changes of the settings `before`, with which the run was to take
    `old_steps`, said; in a run of its own where its checkpoint is not the newest of its run.

    Raises:
        RefusedError: that checkpoint is gone.
    """
    notes, section = list(setup.notes), setup.command
    if f"{section}.epochs" in typed:
        notes += length_note(section, options, typed)
    setup = replace(setup, notes=[*notes, *_what_changes(before, old_steps, setup)])
    newest = folders.step_folders(setup.folder)[-1]
    if setup.resume_from != newest and setup.steps_done < setup.total_steps:
        return _branch(config, options, setup)
    return setup


def _what_changes(before: TrainingOptions, old_steps: int, setup: RunSetup) -> list[str]:
    """What goes on otherwise than it was, for the user to know."""
    after, notes = setup.options, []
    if before.batch_size != after.batch_size:
        exact = "" if setup.model.dropout == 0 else ", with other dropout"
        notes.append(
            f"Each step now learns from its rows as {after.batch_size} × "
            f"{after.gradient_accumulation_steps}, before as {before.batch_size} × "
            f"{before.gradient_accumulation_steps}: the same rows, the same numbers up to "
            f"rounding{exact}."
        )
    return [*notes, *_rate_changes(before, old_steps, setup)]


def _rate_changes(before: TrainingOptions, old: int, setup: RunSetup) -> list[str]:
    """What another length does to the learning rate, where it jumps."""
    new, done = setup.total_steps, setup.steps_done
    if new == old or not 0 < done < new:
        return []
    was = _rate(before, done - 1, old)
    now, last = _rate(setup.options, done, new), _rate(setup.options, new - 1, new)
    peak = setup.options.peak_rate
    if abs(now - was) <= _NOTED_RATE_CHANGE * peak:
        return []
    return [
        f"With {new:,} steps in place of {old:,} the learning rate goes at once from {was:.2g} at "
        f"step {done:,} to {now:.2g} (its peak is {peak:.2g}), and to {last:.2g} by step {new:,}."
    ]


def _rate(options: TrainingOptions, step: int, total: int) -> float:
    """AdamW's learning rate at 0-based `step`."""
    return options.peak_rate * options.lr_multiplier(step, total)


def _branch(config: Config, options: TrainingOptions, setup: _Setup) -> _Setup:
    """The same in a new run, whose parent is the checkpoint."""
    checkpoint = setup.resume_from
    assert checkpoint is not None
    if not (checkpoint / MANIFEST).is_file():
        raise RefusedError(
            f"{checkpoint} is not there any more.",
            found="the training of its run went on and deletes older checkpoints",
            remedy="choose another one, or wait until that training has ended",
        )
    name = options.name or setup.options.name
    kind = folders.kind_of(setup.folder.name)
    run = folders.new_run(config.paths.checkpoints_dir, name, time(), kind)
    note = f"{checkpoint} is not the newest of its run: going on in {run.name}."
    return replace(setup, folder=run, parent=checkpoint, record=None, notes=[*setup.notes, note])
