"""Everything a training run needs, checked and put together before the first step."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from model.config import ModelConfig, flops_per_token
from model.huggingface.generation_config import GenerationConfig, read_generation_config
from pipeline import corpora, missing
from pipeline.missing import MissingError
from pipeline.options.command import train_command
from pipeline.options.config import Config, Settings, TrainOptions, Typed
from pipeline.runs import folders
from pipeline.runs.record import Epoch, RunRecord, write_record
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.token_set import TokenSet, TooShortError, open_tokens
from pipeline.train.init_from import Initial, find_initial
from utils import VERSION
from utils.artefacts import Source, read_manifest
from utils.errors import RefusedError, UsageError
from utils.hardware import has_compiler

MOST_VALIDATION_BATCHES = 200
"""Batches of a validation at most, where --eval-batches sets no limit."""

_WORTH_COMPILING_STEPS = 300  # on a GPU
_WORTH_COMPILING_SECONDS = 900.0  # of the whole run on a CPU
_USUAL_MFU = 0.4  # share of the matrix-product ceiling that training reaches


@dataclass(frozen=True)
class Setup:
    """A run about to start or go on; `initial` are weights that a new one begins with, `origin`
    says where those of any run came from. `record` is what a run that goes on has on record, and
    `parent` the checkpoint of another run that this one branches off. `epoch` is what the run's
    epochs count."""

    folder: Path
    options: TrainOptions
    model: ModelConfig
    data: TokenSet
    tokenizer: Tokenizer
    total_steps: int
    steps_per_epoch: float
    resume_from: Path | None
    parent: Path | None
    notes: list[str]
    initial: Initial | None = None
    origin: Source | None = None
    record: RunRecord | None = None
    epoch: Epoch = "text"

    @property
    def steps_done(self) -> int:
        """Optimizer steps before the first one."""
        return 0 if self.resume_from is None else folders.step_of(self.resume_from)

    @property
    def window(self) -> int:
        """Training context, tokens."""
        return self.data.train.window

    @property
    def generation(self) -> GenerationConfig:
        """What the weights that it begins with, or goes on from, declare of their texts."""
        began = None if self.initial is None else self.initial.path
        path = self.resume_from or began
        return GenerationConfig() if path is None else read_generation_config(path)

    @property
    def sources(self) -> list[Source]:
        """What its checkpoints are made from: the tokens, and the first weights if given."""
        data = Source(str(self.data.folder), self.data.fingerprint)
        return [data, *filter(None, [self.origin])]

    @property
    def fingerprints(self) -> dict[str, str]:
        """What must still be the same when the run goes on."""
        return {"data": self.data.fingerprint, "tokenizer": self.tokenizer.fingerprint}


def begin_run(config: Config, options: TrainOptions, typed: Typed) -> Setup:
    """Resolve options, data, tokenizer and model of a new run, and make its folder.

    Raises:
        UsageError, RefusedError: something is missing, contradictory or does not belong together.
    """
    initial = find_initial(config, options, typed, fetch=True)
    model, data, tokenizer = open_inputs(config, options, typed, initial=initial)
    folder = folders.new_run(config.paths.checkpoints_dir, options.name, time.time())
    origin = None if initial is None else initial.origin()
    notes = [*notes_on(options, data), *length_note(options, typed)]
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
        folder, options, model, data, tokenizer, total, steps_per_epoch,
        resume_from, parent, notes or [], epoch=epoch,
    )  # fmt: skip


def windows_per_epoch(data: TokenSet, epoch: Epoch) -> float:
    """Windows of an epoch, as a run counts it."""
    return data.train.epoch if epoch == "text" else len(data.train)


def run_length(options: TrainOptions, windows: float) -> tuple[float, int]:
    """Optimizer steps of an epoch of so many windows, and of the whole run."""
    per_epoch = windows / (options.batch_size * options.gradient_accumulation_steps)
    return per_epoch, options.max_steps or max(1, math.ceil(options.epochs * per_epoch))


def length_note(options: TrainOptions, typed: Typed) -> list[str]:
    """That of two lengths given in one place only one counts, where that is so."""
    both = {"max_steps", "epochs"} <= options.model_fields_set and options.max_steps is not None
    if not both or len({"train.max_steps", "train.epochs"} & typed) == 1:
        return []  # what was typed is stronger than a file, which is as it should be
    return [
        f"max_steps {options.max_steps:,} and epochs {options.epochs:g} both say how long to "
        "train: max_steps decides, epochs is not used."
    ]


def validation_interval(options: TrainOptions, steps_per_epoch: float, total_steps: int) -> int:
    """Steps between validations: by default ten in an epoch, or in a run shorter than one."""
    return options.eval_every or max(1, math.ceil(min(steps_per_epoch, total_steps) / 10))


def compiling_pays(setup: Setup, device_type: str, ceiling: float) -> bool:
    """Whether the run is long compared to the half minute to minute that compiling takes.

    `ceiling` is `model.device.measured_matmul_ceiling` of the device.
    """
    if device_type != "cpu":
        return device_type == "cuda" and setup.total_steps >= _WORTH_COMPILING_STEPS
    options, window = setup.options, setup.window
    tokens = options.batch_size * options.gradient_accumulation_steps * window
    flops = flops_per_token(setup.model, window) * tokens * setup.total_steps
    seconds = flops / (_USUAL_MFU * ceiling)
    return seconds >= _WORTH_COMPILING_SECONDS and has_compiler()


def save_record(setup: Setup) -> None:
    """Write the run.json of a run about to start or go on, where it would change.

    What was changed on resuming is kept, so that the next resume goes on in the same way.
    """
    before = setup.record
    parent = None if setup.parent is None else str(setup.parent)
    record = RunRecord(
        options=setup.options.model_dump(mode="json"),
        model=setup.model.model_dump(mode="json"),
        data=str(setup.data.folder),
        fingerprints=setup.fingerprints,
        created=before.created if before else time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        version=before.version if before else VERSION,
        parent=before.parent if before else parent,
        initial=before.initial if before else setup.origin,
        epoch=setup.epoch,
        checksum=before.checksum if before else "",
    )
    if record != before or not record.checksum:
        write_record(setup.folder, record)
