"""What an estimate is made from, as training would find it: settings, model, tokens, machine.

A run that goes on brings its own settings. Nothing is checked byte by byte, loaded or repaired
here, so it takes milliseconds; training does that. Never imports torch.
"""

from pathlib import Path
from typing import NamedTuple

from model.config import ModelConfig
from pipeline.options.config import Config, TrainOptions, Typed
from pipeline.planning.estimate import Corpus, Estimate, estimate
from pipeline.planning.target import Target, find_target
from pipeline.runs import folders
from pipeline.runs.damaged import is_step
from pipeline.runs.record import Epoch, read_record
from pipeline.tokens.token_set import TokenSet
from pipeline.train.found_run import place_to_resume
from pipeline.train.resume import settings_to_resume
from pipeline.train.setup import notes_on, open_inputs


class Inputs(NamedTuple):
    """Settings, model fitted to its tokens, tokens, machine, steps that are done already, and
    what a new run does with its tokens that nobody asked for."""

    options: TrainOptions
    model: ModelConfig
    corpus: Corpus
    target: Target
    steps_done: int
    notes: tuple[str, ...] = ()

    def estimated(
        self, *, tokens_per_second: float | None = None, price_per_hour: float | None = None
    ) -> Estimate:
        """What this training needs."""
        return estimate(
            self.model,
            self.options,
            self.corpus,
            self.target,
            steps_done=self.steps_done,
            tokens_per_second=tokens_per_second,
            price_per_hour=price_per_hour,
        )


def read_inputs(config: Config, typed: Typed) -> Inputs:
    """What `train` would start from with these settings.

    Raises:
        UsageError, RefusedError: what training would refuse: no tokens yet, a model that does not
            fit them, no run to resume.
    """
    options, steps_done = config.train, 0
    epoch: Epoch = "text"
    if options.resume is not None:
        run, steps_done = _run_to_resume(config, options)
        record = read_record(run)
        if "train.epochs" not in typed:
            epoch = record.epoch
        options, model = settings_to_resume(config, options, run, record, typed)
        config = config.model_copy(update={"model": model})
        options = options.model_copy(update={"init_from": None})  # it has weights of its own now
    model, data, _ = open_inputs(config, options, typed, check="sizes")
    target = find_target(options.device, config.paths.checkpoints_dir)
    notes = () if options.resume is not None else tuple(notes_on(options, data))
    return Inputs(options, model, _corpus(config, data, epoch), target, steps_done, notes)


def _corpus(config: Config, data: TokenSet, epoch: Epoch) -> Corpus:
    return Corpus(
        name=data.metadata.source or config.source,
        tokens=data.train.tokens,
        windows=len(data.train),
        val_windows=len(data.val),
        window=data.train.window,
        bytes=data.bytes,
        epoch=epoch,
    )


def _run_to_resume(config: Config, options: TrainOptions) -> tuple[Path, int]:
    """The run that --resume names, and the steps it has done."""
    run, named = place_to_resume(config, options)
    checkpoints = [named] if named is not None else folders.step_folders(run)
    return run, max((folders.step_of(c) for c in checkpoints if is_step(c)), default=0)
