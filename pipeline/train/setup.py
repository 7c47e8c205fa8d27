"""Everything a training run needs, checked and put together before the first step.

A run's folder holds its own settings in run.json: resuming takes them from there, so that a
changed config.json cannot alter a run half-way. What the user types with --resume wins where it
leaves the past intact, and is refused where it does not.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from model.config import ModelConfig, flops_per_token
from model.huggingface.generation_config import GenerationConfig, read_generation_config
from pipeline.options.config import Config, TrainOptions, Typed, typed_in
from pipeline.runs import folders
from pipeline.runs.record import RunRecord, read_record
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.token_set import TokenSet, open_tokens
from pipeline.train.init_from import Initial, find_initial
from utils import VERSION
from utils.artefacts import Source
from utils.errors import RefusedError, UsageError
from utils.files import write_json
from utils.hardware import has_compiler

# What a resumed run cannot change: which batch comes at which step, and what the optimizer's
# saved state means.
_FIXED = frozenset(
    ("batch_size", "gradient_accumulation_steps", "window", "seed", "val_split", "optimizer",
     "init_from")
)  # fmt: skip

MOST_VALIDATION_BATCHES = 200
"""Batches of a validation at most, where --eval-batches sets no limit."""

_WORTH_COMPILING_STEPS = 300  # on a GPU
_WORTH_COMPILING_SECONDS = 900.0  # of the whole run on a CPU
_USUAL_MFU = 0.4  # share of the matrix-product ceiling that training reaches
_BELONGS = {"data": "on other data", "tokenizer": "with another tokenizer"}


@dataclass(frozen=True)
class Setup:
    """A run about to start or go on; `initial` are weights that a new one begins with, `origin`
    says where those of any run came from."""

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


def prepare_run(config: Config, options: TrainOptions, typed: Typed) -> Setup:
    """Resolve options, data, tokenizer and model; on --resume also where to go on.

    Raises:
        UsageError, RefusedError: something is missing, contradictory or does not belong together.
    """
    if options.resume is not None:
        return _resumed(config, options, typed)
    initial = find_initial(config, options, typed, fetch=True)
    model, data, tokenizer = open_inputs(config, options, typed, initial=initial)
    folder = folders.new_run(config.paths.checkpoints_dir, options.name, time.time())
    origin = None if initial is None else initial.origin()
    setup = _setup(folder, options, model, data, tokenizer)
    return replace(setup, initial=initial, origin=origin)


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
    data, tokenizer = _open_data(config, options, check)
    if initial is None:
        return _fit_model(config.model, data, tokenizer), data, tokenizer
    initial.check(config, options, data, tokenizer)
    return initial.model, data, tokenizer


def _resumed(config: Config, options: TrainOptions, typed: Typed) -> Setup:
    run, checkpoint, notes = _where_to_resume(config, options)
    record = read_record(run)
    merged, model = settings_to_resume(config, options, record, typed)
    data, tokenizer = _open_data(config, merged)
    found = {"data": data.fingerprint, "tokenizer": tokenizer.fingerprint}
    _check_belongs(run, record.fingerprints, found)
    parent = None
    if checkpoint != folders.step_folders(run)[-1]:
        parent = checkpoint
        run = folders.new_run(
            config.paths.checkpoints_dir, options.name or merged.name, time.time()
        )
        notes.append(f"{checkpoint} is not the newest of its run: going on in {run.name}.")
    setup = _setup(run, merged, model, data, tokenizer, checkpoint, parent, notes)
    return replace(setup, origin=record.initial)


def settings_to_resume(
    config: Config, options: TrainOptions, record: RunRecord, typed: Typed
) -> tuple[TrainOptions, ModelConfig]:
    """The settings and the model that a run goes on with: its own, and what was typed.

    Raises:
        UsageError: what was typed would change what the run has done already.
    """
    own = typed_in("train", typed)
    _refuse_changes(record, options, own)
    changes = {name: getattr(options, name) for name in own - {"resume", "name"}}
    kept = TrainOptions.model_validate_json(msgspec.json.encode(record.options))
    model = ModelConfig.model_validate_json(msgspec.json.encode(record.model), strict=True)
    _refuse_another_model(config, model, typed)
    return kept.model_copy(update={"data": Path(record.data), **changes}), model


def _where_to_resume(config: Config, options: TrainOptions) -> tuple[Path, Path, list[str]]:
    """The run, the checkpoint to load, and notes on damaged ones that were set aside."""
    assert options.resume is not None
    if options.resume == "auto":
        run = folders.find_run(config.paths.checkpoints_dir, options.name)
        checkpoint, notes = folders.newest_intact(run, skip_corrupt=True)
        return run, checkpoint, notes
    path = Path(options.resume)
    if not path.exists():
        path = folders.find_run(config.paths.checkpoints_dir, options.resume)
    path = folders.followed(path)
    path = path.resolve() if path.is_symlink() else path
    if (path / "run.json").is_file():
        return path, folders.newest_intact(path, skip_corrupt=False)[0], []
    if not (path.parent / "run.json").is_file():
        raise UsageError(
            f"{path} is not a run or a checkpoint inside one.",
            remedy="give a folder under checkpoints/, or --resume auto",
        )
    return path.parent, path, []


def _refuse_changes(record: RunRecord, options: TrainOptions, typed: Iterable[str]) -> None:
    for name in _FIXED.intersection(typed):
        before, now = record.options.get(name), options.model_dump(mode="json")[name]
        if before != now:
            raise UsageError(
                f"A resumed run cannot change --{name.replace('_', '-')}.",
                found=f"the run has {before}, the command line says {now}",
                remedy="leave it out, or start a new run without --resume",
            )


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


def _open_data(
    config: Config, options: TrainOptions, check: Literal["full", "sizes"] = "full"
) -> tuple[TokenSet, Tokenizer]:
    source = config.dataset.source
    folder = options.data or config.tokens_dir(source, test=options.test)
    if options.data is None and not folder.is_dir():
        raise UsageError(
            f"There are no tokens of {source} yet.",
            found=f"no folder {folder}",
            remedy="make them: {}",
            commands=[("prepare", "--source", source, *["--test"] * options.test)],
        )
    data = open_tokens(folder, window=options.window, val_split=options.val_split, check=check)
    tokenizer = load_tokenizer(data.metadata.tokenizer.path, config.paths.tokenizers_dir)
    data.check_tokenizer(tokenizer)
    return data, tokenizer


def _fit_model(model: ModelConfig, data: TokenSet, tokenizer: Tokenizer) -> ModelConfig:
    """The model with the tokenizer's vocabulary, and positions enough for the window.

    Raises:
        RefusedError: an explicit vocab_size is too small for the tokenizer.
        UsageError: an explicit max_position_embeddings is shorter than the window.
    """
    given, window = model.model_fields_set, data.train.window
    update: dict[str, int] = {}
    if "vocab_size" not in given:
        update["vocab_size"] = tokenizer.vocab_size
    elif model.vocab_size < tokenizer.vocab_size:
        raise RefusedError(
            f"model.vocab_size {model.vocab_size} is too small for the tokenizer.",
            found=f"{tokenizer.name} has {tokenizer.vocab_size} ids",
            remedy="leave model.vocab_size out: it is then taken from the tokenizer",
        )
    if model.max_position_embeddings < window:
        if "max_position_embeddings" in given:
            raise UsageError(
                f"A window of {window} tokens does not fit into the model.",
                found=f"model.max_position_embeddings is {model.max_position_embeddings}",
                remedy=f"--window {model.max_position_embeddings}, or leave "
                "model.max_position_embeddings out",
            )
        update["max_position_embeddings"] = window
    return model.model_copy(update=update)


def _setup(
    folder: Path,
    options: TrainOptions,
    model: ModelConfig,
    data: TokenSet,
    tokenizer: Tokenizer,
    resume_from: Path | None = None,
    parent: Path | None = None,
    notes: list[str] | None = None,
) -> Setup:
    steps_per_epoch, total = run_length(options, len(data.train))
    return Setup(
        folder, options, model, data, tokenizer, total, steps_per_epoch,
        resume_from, parent, notes or [],
    )  # fmt: skip


def run_length(options: TrainOptions, windows: int) -> tuple[float, int]:
    """Optimizer steps of an epoch over `windows` training windows, and of the whole run."""
    per_epoch = windows / (options.batch_size * options.gradient_accumulation_steps)
    return per_epoch, options.max_steps or max(1, math.ceil(options.epochs * per_epoch))


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


def write_record(setup: Setup) -> None:
    """Write the run.json of a run about to start or go on.

    What was changed on resuming is kept, so that the next resume goes on in the same way.
    """
    path = setup.folder / "run.json"
    before = read_record(setup.folder) if path.exists() else None
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
    )
    if record != before:
        write_json(path, msgspec.to_builtins(record))
