"""Everything a tuning needs, checked and put together before the first step."""

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.config import ModelConfig, parameter_count
from model.huggingface.config import read_model_config
from pipeline import corpora
from pipeline.conversations.example_set import FOLDER, ExampleSet, open_examples
from pipeline.missing import MissingError
from pipeline.options.command import tuning_command
from pipeline.options.config import Config, Settings, SftOptions, Typed, typed_in
from pipeline.options.tuning import usual_epochs, usual_rate
from pipeline.runs import folders, inventory
from pipeline.runs.record import recorded_options
from pipeline.sft.packing import rows_needed
from pipeline.tokenizer.load import load_tokenizer, sibling_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.train.found_run import (
    check_belongs,
    find_run_to_resume,
    going_on,
    merged_options,
)
from pipeline.train.init_from import Initial
from pipeline.train.run_setup import RunSetup, length_note
from utils.artefacts import Source
from utils.errors import HatcheryError, RefusedError, UsageError

_USUAL_WINDOW = 512

# What a resumed run cannot change: which conversations come at which step, and what the optimizer's
# saved state means.
_FIXED = frozenset((
    "checkpoint", "window", "packing", "seed", "optimizer", "method", "lora", "lora_rank",
    "lora_alpha", "lora_dropout", "beta", "nll_weight",
))  # fmt: skip


@dataclass(frozen=True)
class TuneSetup(RunSetup):
    """A run that learns to answer as in a set of conversations. `examples` are the numbers of
    those that it learns from, `held_out` of those that it is measured by, of pairs where answers
    are preferred; `rows` how many rows an epoch has."""

    command = "sft"
    validations = 5

    options: SftOptions
    data: ExampleSet = field(kw_only=True)
    examples: npt.NDArray[np.int64] = field(kw_only=True)
    held_out: npt.NDArray[np.int64] = field(kw_only=True)
    packed: bool = field(kw_only=True)
    rows: int = field(kw_only=True)

    @property
    def data_source(self) -> Source:
        return Source(str(self.data.folder), self.data.fingerprint)

    @property
    def window(self) -> int:
        assert self.options.window is not None
        return self.options.window

    def epochs_at(self, step: int, tokens: int) -> float:
        return step / self.steps_per_epoch

    @property
    def tokens(self) -> int:
        """Positions that an epoch reads, without what is left of rows."""
        return int((self.data.lengths[self._encoded] - 1).sum())

    @property
    def learned(self) -> int:
        """Targets that an epoch learns."""
        return sum(int(self.data.learned(int(i))[1:].sum()) for i in self._encoded)

    @property
    def _encoded(self) -> npt.NDArray[np.int64]:
        """The numbers of what the examples are encoded as: of a pair both answers."""
        if self.options.method == "sft":
            return self.examples
        both = 2 * self.examples[:, None] + np.arange(2)  # as `ExampleSet.pair` numbers them
        return both.reshape(-1)


def begin_run(config: Config, options: SftOptions, typed: Typed) -> TuneSetup:
    """Resolve checkpoint, conversations and tokenizer of a new run, and make its folder.

    Raises:
        UsageError, RefusedError: something is missing, damaged or does not belong together.
    """
    base = find_base(config, options)
    data = open_examples(_data_folder(config, options))
    _check_kind(Settings(config, typed), options, data)
    tokenizer = _tokenizer(config, base, data)
    window = _window(Settings(config, typed), options, base, data)
    rate = options.learning_rate or usual_rate(
        parameter_count(base.model), lora=options.lora, preferences=options.method == "dpo"
    )
    options = options.model_copy(update={"window": window, "learning_rate": rate})
    setup = _assembled(Path(), options, base, data, tokenizer)
    kind = f"sft_{inventory.safe_name(data.metadata.name)}"
    folder = folders.new_run(config.paths.checkpoints_dir, options.name, time.time(), kind)
    notes = [*setup.notes, *length_note("sft", options, typed)]
    return replace(setup, folder=folder, notes=notes, initial=base, origin=base.origin())


def resume_run(
    config: Config, options: SftOptions, typed: Typed, lock: Callable[[Path], object]
) -> TuneSetup:
    """Find where to go on and what with; see `pipeline.train.resume.resume_run`.

    Raises:
        UsageError, RefusedError: there is nothing to go on with, another process trains it, it is
            damaged, or what was typed does not belong to it.
    """
    run, checkpoint, record, notes = find_run_to_resume(config, options, "sft", lock)
    kept = recorded_options(run, record)
    assert isinstance(kept, SftOptions)
    own = typed_in("sft", typed)
    merged = merged_options(kept, record, options, own, _FIXED)
    folder = _data_folder(config, options) if "data" in own else Path(record.data)
    data = open_examples(folder)
    model = read_model_config(checkpoint / "config.json")
    here = Initial(checkpoint.name, checkpoint, model)
    tokenizer = _tokenizer(config, here, data)
    found = {"data": data.fingerprint, "tokenizer": tokenizer.fingerprint}
    check_belongs(run, record.fingerprints, found)
    setup = _assembled(run, merged, here, data, tokenizer)
    if merged.lora:
        base_weights(config, run, merged, model, record.initial)
    setup = replace(
        setup, resume_from=checkpoint, notes=notes, origin=record.initial, record=record
    )
    old_steps = _assembled(run, kept, here, data, tokenizer).total_steps
    return going_on(config, options, typed, kept, old_steps, setup)


def find_base(config: Config, options: SftOptions) -> Initial:
    """The weights that a new run begins with.

    Raises:
        UsageError, RefusedError: there are none, or of a model that is not computed here.
        NetworkError: a model of the hub is not here and cannot be fetched.
    """
    folder = config.paths.checkpoints_dir
    if options.checkpoint is not None:
        found = inventory.resolve(options.checkpoint, folder)
    else:
        known = inventory.list_runs(folder)
        pretrained = [run for run in known if folders.trained_by(folder / run.name) != "sft"]
        found = pretrained[0].default if pretrained else inventory.newest(config)
    if found.path.is_dir():
        return Initial(found.label, found.path, read_model_config(found.path / "config.json"))
    from model.checkpoint import describe  # torch, which alone reads a .pt file

    return Initial(found.label, found.path, describe(found.path))


def base_weights(
    config: Config, run: Path, options: SftOptions, model: ModelConfig, origin: Source | None
) -> Path:
    """Where the weights are that `run` began with.

    Raises:
        RefusedError: they are gone, or are not those any more; names a command that goes on from
            the run's merged weights.
    """
    path, found = None, "nothing on record"
    if origin is not None:
        path, found = Path(origin.path), f"no {origin.path}"
    if path is not None and not path.exists() and options.checkpoint is not None:
        with suppress(HatcheryError):  # weights of the hub are on record by their address
            path = inventory.resolve(options.checkpoint, config.paths.checkpoints_dir).path
    if path is not None and path.exists() and origin is not None:
        here = Initial(options.checkpoint or path.name, path, model).origin()
        if here.fingerprint == origin.fingerprint:
            return path
        found = f"{path} holds other weights by now"
    words = ["--checkpoint", str(run), *(["--method", "dpo"] if options.method == "dpo" else [])]
    raise RefusedError(
        f"{run.name} cannot go on: the weights that it began with are gone.",
        found=found,
        remedy="put them back, or begin a new run with what was learned so far: {}",
        commands=[("sft", *words, *(["--lora"] if options.lora else []))],
    )


def _check_kind(settings: Settings, options: SftOptions, data: ExampleSet) -> None:
    """Refuse conversations where pairs of answers are compared, and pairs where answers are
    learned.

    Raises:
        RefusedError: names the command for what the set is for.
    """
    wanted = {"sft": "conversations", "dpo": "preferences"}[options.method]
    kind = data.metadata.kind
    if kind == wanted:
        return
    other = "dpo" if kind == "preferences" else "sft"
    what = "pairs of a chosen and a rejected answer" if other == "dpo" else "conversations"
    raise RefusedError(
        f"Method {options.method} does not learn from what is in {data.folder}.",
        found=what,
        remedy="learn from it so: {}",
        commands=[tuning_command(settings, {"method": other})],
    )


def _data_folder(config: Config, options: SftOptions) -> Path:
    """The folder of the set that is meant: a path, a name, or the newest one.

    Raises:
        MissingError: there is none.
    """
    home = config.paths.data_dir / FOLDER
    if options.data is not None:
        named = home / options.data
        return named if not options.data.exists() and named.is_dir() else options.data
    made = corpora.example_sets(config.paths.data_dir)
    if not made:
        raise MissingError(
            "There are no conversations to tune on yet.",
            f"no set of them in {home}",
            commands=[("lima", "--input", "FILE")],
        )
    return made[0][0]


def _tokenizer(config: Config, base: Initial, data: ExampleSet) -> Tokenizer:
    """The tokenizer of the weights, which must be the one that encoded the conversations, with the
    same template.

    Raises:
        RefusedError: it is another one; names the command that makes the set anew.
    """
    assert base.path is not None
    folder, ours = sibling_tokenizer(base.path), data.metadata.tokenizer
    own = load_tokenizer(folder or ours.path, config.paths.tokenizers_dir)
    template = hashlib.sha256(own.chat_template.encode()).hexdigest()
    anew = [data.remake(tokenizer=str(folder))] if folder is not None else []
    if own.fingerprint != ours.fingerprint:
        raise RefusedError(
            f"The conversations in {data.folder} were encoded by another tokenizer than that of "
            f"{base.name}.",
            found=f"fingerprint {ours.fingerprint[:16]}… ({ours.name}), where the weights need "
            f"{own.fingerprint[:16]}…",
            remedy="make the set again with it: {}" if anew else "choose other conversations",
            commands=anew,
        )
    if template != data.metadata.template_sha256:
        raise RefusedError(
            f"The conversations in {data.folder} were written by another chat template than that "
            f"of {base.name}.",
            found=f"SHA-256 {data.metadata.template_sha256[:16]}…, where the tokenizer beside the "
            f"weights has {template[:16]}…",
            remedy="make the set again with it: {}" if anew else "choose other conversations",
            commands=anew,
        )
    if own.vocab_size > base.model.vocab_size:
        raise RefusedError(
            f"The tokenizer {own.name} has more ids than {base.name} knows.",
            found=f"{own.vocab_size:,} ids, {base.model.vocab_size:,} embeddings",
            remedy="choose the checkpoint that was trained with it",
        )
    return own


def _window(settings: Settings, options: SftOptions, base: Initial, data: ExampleSet) -> int:
    """Tokens of a row: as many as the longest conversation needs, no more than the context.

    Raises:
        RefusedError: a conversation is longer than the context, or than the row that was chosen.
        UsageError: the row that was chosen is longer than the context.
    """
    context = base.model.max_position_embeddings
    longest = int(data.lengths.max()) - 1
    if longest > context:
        raise RefusedError(
            f"A conversation in {data.folder} is longer than {base.name} can read.",
            found=f"{longest + 1:,} tokens; its context is {context:,} tokens",
            remedy="make the set again without the longer ones: {}",
            commands=[data.remake(max_length=context)],
        )
    if options.window is None:
        return min(context, max(longest, _USUAL_WINDOW))
    if options.window > context:
        raise UsageError(
            f"Rows of {options.window} tokens do not fit into {base.name}.",
            found=f"its context is {context} tokens",
            remedy="take shorter ones: {}",
            commands=[tuning_command(settings, {"window": context})],
        )
    if options.window < longest:
        raise RefusedError(
            f"A conversation in {data.folder} does not fit into a row of {options.window} tokens.",
            found=f"{longest:,} tokens to read",
            remedy="take longer rows: {}",
            commands=[tuning_command(settings, {"window": longest})],
        )
    return options.window


def _assembled(
    folder: Path, options: SftOptions, base: Initial, data: ExampleSet, tokenizer: Tokenizer
) -> TuneSetup:
    """A setup with the length that its options give it on these data.

    Raises:
        RefusedError: there are too few conversations to learn from and to be measured by.
    """
    assert options.window is not None
    examples, empty = _learnable(data, data.train)
    held_out, no_measure = _learnable(data, data.val)
    if not len(examples) or not len(held_out):
        raise RefusedError(
            f"There are too few conversations in {data.folder}.",
            found=f"{len(examples)} to learn from, {len(held_out)} held out",
            remedy="make a set of more: {}",
            commands=[("lima", "--input", "FILE")],
        )
    lengths = data.item_lengths[examples] - 1
    several = len(lengths) > 1 and int(np.sort(lengths)[:2].sum()) <= options.window
    packed = options.packing == "on" or (options.packing == "auto" and several)
    packed = packed and options.method == "sft"  # the answers of a pair have a row each
    rows = rows_needed(lengths, options.window, packed=packed)
    per_epoch = -(-rows // (options.batch_size * options.gradient_accumulation_steps))
    epochs = options.epochs or usual_epochs(per_epoch)
    total = options.max_steps
    if total is None:
        total = max(1, math.ceil(epochs * per_epoch))
        options = options.model_copy(update={"epochs": epochs})  # kept on resuming
    empty += no_measure
    notes = [f"{empty:,} conversations hold nothing to learn and are left out."] if empty else []
    return TuneSetup(
        folder, options, base.model, tokenizer, total, per_epoch, notes=notes,
        data=data, examples=examples, held_out=held_out, packed=packed, rows=rows,
    )  # fmt: skip


def _learnable(data: ExampleSet, items: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
    """Those of which at least one token is learned, of pairs one of each answer, and the number of
    the others: their loss would be the mean over nothing."""
    pairs = data.metadata.kind == "preferences"

    def learns(item: int) -> bool:
        examples = data.pair(item) if pairs else (item,)
        return all(data.learned(example)[1:].any() for example in examples)

    kept = [int(item) for item in items if learns(int(item))]
    return np.asarray(kept, np.int64), len(items) - len(kept)
