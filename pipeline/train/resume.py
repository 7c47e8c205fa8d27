"""Going on with a run of the train stage; see `pipeline.train.found_run`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from model.config import ModelConfig
from pipeline.options.config import Config, TrainOptions, Typed, typed_in
from pipeline.runs.record import RunRecord, recorded_options
from pipeline.train.found_run import (
    check_belongs,
    find_run_to_resume,
    going_on,
    merged_options,
    require_trained_by,
)
from pipeline.train.setup import Setup, assemble, open_data, run_length, windows_per_epoch
from utils.errors import UsageError

# What a resumed run cannot change: which window comes at which step, and what the optimizer's
# saved state means.
_FIXED = frozenset(("window", "seed", "val_split", "optimizer", "init_from"))


def resume_run(
    config: Config, options: TrainOptions, typed: Typed, lock: Callable[[Path], object]
) -> Setup:
    """Find where to go on and what with; `lock` keeps others from writing to a folder.

    A checkpoint that is not the newest of its run is gone on with in a run of its own.

    Raises:
        UsageError, RefusedError: there is nothing to go on with, another process trains it, it is
            damaged, or what was typed does not belong to it.
    """
    run, checkpoint, record, notes = find_run_to_resume(config, options, "train", lock)
    merged, model = settings_to_resume(config, options, run, record, typed)
    data, tokenizer = open_data(config, merged)
    found = {"data": data.fingerprint, "tokenizer": tokenizer.fingerprint}
    check_belongs(run, record.fingerprints, found)
    # Epochs that were typed now count as they do now.
    epoch = "text" if "epochs" in typed_in("train", typed) else record.epoch
    setup = assemble(run, merged, model, data, tokenizer, checkpoint, None, notes, epoch)
    setup = replace(setup, origin=record.initial, record=record)
    before = recorded_options(run, record)
    assert isinstance(before, TrainOptions)
    _, old_steps = run_length(before, windows_per_epoch(data, record.epoch))
    return going_on(config, options, typed, before, old_steps, setup)


def settings_to_resume(
    config: Config, options: TrainOptions, run: Path, record: RunRecord, typed: Typed
) -> tuple[TrainOptions, ModelConfig]:
    """The settings and the model that a run goes on with: its own, and what was typed.

    Raises:
        UsageError: what was typed would change what the run has done already, or another stage
            trains it.
        RefusedError: the record is of another version.
    """
    require_trained_by("train", run, record)
    kept = recorded_options(run, record)
    assert isinstance(kept, TrainOptions)
    own = typed_in("train", typed)
    merged = merged_options(kept, record, options, own, _FIXED)
    model = ModelConfig.model_validate_json(msgspec.json.encode(record.model), strict=True)
    _refuse_another_model(config, model, typed)
    data = merged.data if "data" in own else Path(record.data)
    return merged.model_copy(update={"data": data}), model


def _refuse_another_model(config: Config, model: ModelConfig, typed: Typed) -> None:
    for name in sorted(typed_in("model", typed)):
        before, now = getattr(model, name, None), getattr(config.model, name, None)
        if before != now:
            raise UsageError(
                f"A resumed run keeps its model: --model.{name.replace('_', '-')} cannot change.",
                found=f"the run has {before}, the command line says {now}",
                remedy="leave it out, or start a new run without --resume",
            )
