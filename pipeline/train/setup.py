"""Everything a training run needs, checked and put together before the first step."""

import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from model.config import ModelConfig
from pipeline import corpora, missing
from pipeline.missing import MissingError
from pipeline.options.command import train_command
from pipeline.options.config import Config, Settings, TrainOptions, Typed
from pipeline.runs import folders
from pipeline.runs.record import Epoch
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.token_set import TokenSet, TooShortError, open_tokens
from pipeline.train.init_from import Initial, find_initial
from pipeline.train.run_setup import RunSetup, length_note
from utils.artefacts import Source, read_manifest
from utils.errors import RefusedError, UsageError


@dataclass(frozen=True)
class Setup(RunSetup):
    """A run that learns to predict the next token of a token set."""

    command = "train"

    options: TrainOptions
    data: TokenSet = field(kw_only=True)

    @property
    def data_source(self) -> Source:
        return Source(str(self.data.folder), self.data.fingerprint)

    @property
    def window(self) -> int:
        """Training context, tokens."""
        return self.data.train.window

    def epochs_at(self, step: int, tokens: int) -> float:
        return tokens / self.data.train.tokens


def begin_run(config: Config, options: TrainOptions, typed: Typed) -> Setup:
    """Resolve options, data, tokenizer and model of a new run, and make its folder.

    Raises:
        UsageError, RefusedError: something is missing, contradictory or does not belong together.
    """
    initial = find_initial(config, options, typed, fetch=True)
    model, data, tokenizer = open_inputs(config, options, typed, initial=initial)
    folder = folders.new_run(config.paths.checkpoints_dir, options.name, time.time())
    origin = None if initial is None else initial.origin()
    notes = [*notes_on(options, data), *length_note("train", options, typed)]
    if data.train.window != data.metadata.window:
        options = options.model_copy(update={"window": data.train.window})  # kept on resuming
    setup = assemble(folder, options, model, data, tokenizer, notes=notes)
    return replace(setup, initial=initial, origin=origin)


def notes_on(options: TrainOptions, data: TokenSet) -> list[str]:
    """What a new run with these settings does with its tokens that nobody asked for."""
    notes, prepared = [], data.metadata.window
    if options.window is None and data.train.window < prepared:
        notes.append(
            f"The model's context is {data.train.window} tokens: the window is that, not the "
            f"{prepared} that the tokens were prepared with."
        )
    return [*notes, data.held_out] if data.held_out else notes


def open_inputs(
    config: Config,
    options: TrainOptions,
    typed: Typed,
    *,
    check: Literal["full", "sizes"] = "full",
    initial: Initial | None = None,
) -> tuple[ModelConfig, TokenSet, Tokenizer]:
    """The model of a new run, fitted to its data, and the tokens with their tokenizer; `check` is
    that of `open_tokens`, and `initial` what --init-from means where that is known already.

    Raises:
        UsageError, RefusedError: something is missing, contradictory or does not belong together.
    """
    initial = initial or find_initial(config, options, typed, fetch=check == "full")
    try:
        data, tokenizer = open_data(config, options, check, _own_context(config.model, initial))
    except TooShortError as error:
        changes = {"train.window": error.shorter}
        raise error.advising(train_command(Settings(config, typed), changes)) from None
    if initial is None:
        return _fit_model(Settings(config, typed), data, tokenizer), data, tokenizer
    initial.check(Settings(config, typed), options, data, tokenizer)
    return initial.model, data, tokenizer


def open_data(
    config: Config,
    options: TrainOptions,
    check: Literal["full", "sizes"] = "full",
    context: int | None = None,
) -> tuple[TokenSet, Tokenizer]:
    """The tokens that `options` name and their tokenizer, checked as `open_tokens` does. Where no
    window is chosen, one that was prepared longer than `context` tokens becomes that.

    Raises:
        UsageError, RefusedError: they are missing, damaged or do not belong together.
    """
    source = config.source
    if options.data is None and corpora.means_path(source, config.paths.data_dir):
        raise corpora.path_for_name(source)
    folder = options.data or config.tokens_dir(source, test=options.test)
    if options.data is None and not folder.is_dir():
        raise MissingError(
            f"There are no tokens of {source} yet.",
            f"no folder {folder}{corpora.others_than(source, config.paths.data_dir)}",
            commands=missing.tokens(config, source, test=options.test),
        )
    window = options.window
    if window is None and context is not None and folder.is_dir():
        window = _shorter_window(folder, context)
    data = open_tokens(folder, window=window, val_split=options.val_split, check=check)
    tokenizer = load_tokenizer(data.metadata.tokenizer.path, config.paths.tokenizers_dir)
    data.check_tokenizer(tokenizer)
    return data, tokenizer


def _own_context(model: ModelConfig, initial: Initial | None) -> int | None:
    """The longest window that a new run may use: the context of the weights that it begins with,
    or the one that a setting or a preset gives its model; None where it takes that of the data."""
    if initial is not None:
        return initial.model.max_position_embeddings
    given = "max_position_embeddings" in model.model_fields_set
    return model.max_position_embeddings if given else None


def _shorter_window(folder: Path, context: int) -> int | None:
    """`context`, where the tokens were prepared with a longer window; else None: theirs."""
    manifest = read_manifest(folder)
    prepared = None if manifest is None else manifest.made_by.options.get("window")
    return context if isinstance(prepared, int) and context < prepared else None


def _fit_model(settings: Settings, data: TokenSet, tokenizer: Tokenizer) -> ModelConfig:
    """The model with the tokenizer's vocabulary, and positions enough for the window.

    Raises:
        RefusedError: an explicit vocab_size is too small for the tokenizer.
        UsageError: an explicit max_position_embeddings is shorter than an explicit window.
    """
    model = settings.config.model
    given, window = model.model_fields_set, data.train.window
    update: dict[str, int] = {}
    if "vocab_size" not in given:
        update["vocab_size"] = tokenizer.vocab_size
    elif model.vocab_size < tokenizer.vocab_size:
        raise RefusedError(
            f"model.vocab_size {model.vocab_size} is too small for the tokenizer.",
            found=f"{tokenizer.name} has {tokenizer.vocab_size} ids",
            remedy="leave model.vocab_size out: it is then taken from the tokenizer; or give as "
            "many: {}",
            commands=[train_command(settings, {"model.vocab_size": tokenizer.vocab_size})],
        )
    if model.max_position_embeddings < window:
        if "max_position_embeddings" in given:
            context = model.max_position_embeddings
            raise UsageError(
                f"A window of {window} tokens does not fit into the model.",
                found=f"model.max_position_embeddings is {context}",
                remedy="take a shorter window: {}; or give the model a longer context: {}",
                commands=[
                    train_command(settings, {"train.window": context}),
                    train_command(settings, {"model.max_position_embeddings": window}),
                ],
            )
        update["max_position_embeddings"] = window
    return model.model_copy(update=update)


def assemble(
    folder: Path,
    options: TrainOptions,
    model: ModelConfig,
    data: TokenSet,
    tokenizer: Tokenizer,
    resume_from: Path | None = None,
    parent: Path | None = None,
    notes: list[str] | None = None,
    epoch: Epoch = "text",
) -> Setup:
    """A setup with the length that its options give it on these data."""
    steps_per_epoch, total = run_length(options, windows_per_epoch(data, epoch))
    return Setup(
        folder, options, model, tokenizer, total, steps_per_epoch,
        resume_from, parent, notes or [], epoch=epoch, data=data,
    )  # fmt: skip


def windows_per_epoch(data: TokenSet, epoch: Epoch) -> float:
    """Windows of an epoch, as a run counts it."""
    return data.train.epoch if epoch == "text" else len(data.train)


def run_length(options: TrainOptions, windows: float) -> tuple[float, int]:
    """Optimizer steps of an epoch of so many windows, and of the whole run."""
    per_epoch = windows / (options.batch_size * options.gradient_accumulation_steps)
    return per_epoch, options.max_steps or max(1, math.ceil(options.epochs * per_epoch))
