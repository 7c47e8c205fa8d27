"""Going on with a run: from which checkpoint, with which settings, and what may not change.

A run's folder holds its own settings in run.json: resuming takes them from there, so that a
changed config.json cannot alter a run half-way. What the user types with --resume wins where it
leaves the past intact, and is refused where it does not. The run is locked before its newest
checkpoint is looked for, so that two processes never go on with the same one.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from time import time

import msgspec

from model.config import ModelConfig
from pipeline.options.config import Config, TrainOptions, Typed, typed_in
from pipeline.runs import folders
from pipeline.runs.damaged import is_step
from pipeline.runs.record import (
    RECORD,
    Epoch,
    RunRecord,
    read_record,
    record_of,
    recorded_options,
)
from pipeline.train.setup import (
    MOST_VALIDATION_BATCHES,
    Setup,
    assemble,
    length_note,
    open_data,
    run_length,
    windows_per_epoch,
)
from utils.artefacts import MANIFEST
from utils.errors import RefusedError, UsageError
from utils.files import home_path
from utils.scheduler import lr_multiplier

# What a resumed run cannot change: which window comes at which step, and what the optimizer's
# saved state means.
_FIXED = frozenset(("window", "seed", "val_split", "optimizer", "init_from"))
_SPLIT = ("batch_size", "gradient_accumulation_steps")
_BELONGS = {"data": "on other data", "tokenizer": "with another tokenizer"}
_NOTED_RATE_CHANGE = 0.05  # of the peak


def resume_run(
    config: Config, options: TrainOptions, typed: Typed, lock: Callable[[Path], object]
) -> Setup:
    """Find where to go on and what with; `lock` keeps others from writing to a folder.

    A checkpoint that is not the newest of its run is gone on with in a run of its own.

    Raises:
        UsageError, RefusedError: there is nothing to go on with, another process trains it, it is
            damaged, or what was typed does not belong to it.
    """
    run, named = place_to_resume(config, options)
    newest = folders.step_folders(run)[-1:]
    if named is None or not is_step(named) or [named] == newest:
        lock(run)
        if (run / RECORD).is_file() or newest:
            folders.restore_links(run)
    auto = options.resume == "auto"
    notes: list[str] = []
    if named is None:
        checkpoint, notes = folders.newest_intact(run, skip_corrupt=auto)
    else:
        checkpoint = folders.followed(named)
    if not is_step(checkpoint):
        raise UsageError(
            f"{checkpoint} is a checkpoint outside of its run, which cannot be found.",
            remedy="begin a new run with its weights: {}",
            commands=[("train", "--init-from", str(checkpoint))],
        )
    record = _record(run, checkpoint, notes, named=named is not None)
    merged, model = settings_to_resume(config, options, run, record, typed)
    data, tokenizer = open_data(config, merged)
    found = {"data": data.fingerprint, "tokenizer": tokenizer.fingerprint}
    _check_belongs(run, record.fingerprints, found)
    # Epochs that were typed now count as they do now.
    epoch = "text" if "epochs" in typed_in("train", typed) else record.epoch
    setup = assemble(run, merged, model, data, tokenizer, checkpoint, None, notes, epoch)
    setup = replace(setup, origin=record.initial, record=record)
    changes = _what_changes(recorded_options(run, record), record.epoch, setup)
    twice = length_note(options, typed) if "train.epochs" in typed else []
    setup = replace(setup, notes=[*notes, *twice, *changes])
    if checkpoint != folders.step_folders(run)[-1] and setup.steps_done < setup.total_steps:
        return _branch(config, options, setup)
    return setup


def place_to_resume(config: Config, options: TrainOptions) -> tuple[Path, Path | None]:
    """The run that --resume means, and the checkpoint in it where it names one; the latest one
    is no name of its own, it stands for the run.

    Raises:
        UsageError: there is nothing of that name, or no checkpoint in it.
    """
    assert options.resume is not None
    if options.resume == "auto":
        return folders.find_run(config.paths.checkpoints_dir, options.name), None
    path = home_path(options.resume)
    if not path.exists():
        path = folders.find_run(config.paths.checkpoints_dir, options.resume)
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


def settings_to_resume(
    config: Config, options: TrainOptions, run: Path, record: RunRecord, typed: Typed
) -> tuple[TrainOptions, ModelConfig]:
    """The settings and the model that a run goes on with: its own, and what was typed.

    Raises:
        UsageError: what was typed would change what the run has done already.
        RefusedError: the record is of another version.
    """
    own = typed_in("train", typed)
    _refuse_changes(record, options, own)
    kept = recorded_options(run, record)
    changes = {name: getattr(options, name) for name in own - {"resume", "name"}}
    if "epochs" in own and "max_steps" not in own:
        changes["max_steps"] = None  # the length that was typed counts, not the one before
    changes |= _validated_windows(kept, kept.model_copy(update=changes), own)
    model = ModelConfig.model_validate_json(msgspec.json.encode(record.model), strict=True)
    _refuse_another_model(config, model, typed)
    return kept.model_copy(update={"data": Path(record.data), **changes}), model


def _refuse_changes(record: RunRecord, options: TrainOptions, typed: Iterable[str]) -> None:
    now = options.model_dump(mode="json")
    for name in sorted(_FIXED.intersection(typed)):
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
            f"A resumed run cannot change --{changed.replace('_', '-')} and with it the windows "
            "per step.",
            found=f"the run has {before[0]} × {before[1]}, the command line says "
            f"{after[0]} × {after[1]}",
            remedy="leave it out, give --batch-size and --gradient-accumulation-steps with the "
            "same product, or start a new run without --resume",
        )


def _validated_windows(
    kept: TrainOptions, merged: TrainOptions, typed: Iterable[str]
) -> dict[str, int]:
    """The validation batches that score the same windows in batches of another size."""
    if merged.batch_size == kept.batch_size or "eval_batches" in typed:
        return {}
    windows = (kept.eval_batches or MOST_VALIDATION_BATCHES) * kept.batch_size
    return {"eval_batches": -(-windows // merged.batch_size)}


def _refuse_another_model(config: Config, model: ModelConfig, typed: Typed) -> None:
    for name in sorted(typed_in("model", typed)):
        before, now = getattr(model, name, None), getattr(config.model, name, None)
        if before != now:
            raise UsageError(
                f"A resumed run keeps its model: --model.{name.replace('_', '-')} cannot change.",
                found=f"the run has {before}, the command line says {now}",
                remedy="leave it out, or start a new run without --resume",
            )


def _check_belongs(run: Path, expected: dict[str, str], found: dict[str, str]) -> None:
    for what, fingerprint in expected.items():
        if found[what] != fingerprint:
            raise RefusedError(
                f"{run.name} was trained {_BELONGS[what]}.",
                found=f"fingerprint {found[what][:16]}…, where the run expects {fingerprint[:16]}…",
                remedy="give the matching --data, or start a new run without --resume",
            )


def _what_changes(before: TrainOptions, epoch: Epoch, setup: Setup) -> list[str]:
    """What goes on otherwise than it was, for the user to know."""
    after, notes = setup.options, []
    if before.batch_size != after.batch_size:
        exact = "" if setup.model.dropout == 0 else ", with other dropout"
        notes.append(
            f"Each step now learns from its windows as {after.batch_size} × "
            f"{after.gradient_accumulation_steps}, before as {before.batch_size} × "
            f"{before.gradient_accumulation_steps}: the same windows, the same numbers up to "
            f"rounding{exact}."
        )
    return [*notes, *_rate_changes(before, epoch, setup)]


def _rate_changes(before: TrainOptions, epoch: Epoch, setup: Setup) -> list[str]:
    """What another length does to the learning rate, where it jumps."""
    _, old = run_length(before, windows_per_epoch(setup.data, epoch))
    new, done = setup.total_steps, setup.steps_done
    if new == old or not 0 < done < new:
        return []
    was = _rate(before, done - 1, old)
    now, last = _rate(setup.options, done, new), _rate(setup.options, new - 1, new)
    peak = setup.options.learning_rate
    if abs(now - was) <= _NOTED_RATE_CHANGE * peak:
        return []
    return [
        f"With {new:,} steps in place of {old:,} the learning rate goes at once from {was:.2g} at "
        f"step {done:,} to {now:.2g} (its peak is {peak:.2g}), and to {last:.2g} by step {new:,}."
    ]


def _rate(options: TrainOptions, step: int, total: int) -> float:
    """AdamW's learning rate at 0-based `step`."""
    return options.learning_rate * lr_multiplier(
        step,
        total,
        schedule=options.schedule,
        warmup_steps=options.warmup_steps,
        cooldown=options.cooldown,
        min_ratio=options.min_lr_ratio,
    )


def _branch(config: Config, options: TrainOptions, setup: Setup) -> Setup:
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
    run = folders.new_run(config.paths.checkpoints_dir, name, time())
    note = f"{checkpoint} is not the newest of its run: going on in {run.name}."
    return replace(setup, folder=run, parent=checkpoint, record=None, notes=[*setup.notes, note])
