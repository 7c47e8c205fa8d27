"""The rehearsal of training, resuming and generating, with the real model and the real shapes."""

import gc
import itertools
import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from model import device as devices
from model.config import parameter_count
from pipeline.events import Event, Metric, Sample, Warned
from pipeline.nested import revised
from pipeline.options.command import train_command
from pipeline.options.config import NOTHING_TYPED, Config, Settings
from pipeline.rehearsal.context import NotTriedError, Record, Rehearsal, Trial, refuse_unwritable
from pipeline.rehearsal.data_stages import encoded
from pipeline.rehearsal.verdicts import Concern, judged, losses, memory
from pipeline.runs import folders, inventory
from pipeline.tokens.token_set import TooShortError
from pipeline.train.run_setup import compiling_pays
from pipeline.train.setup import Setup, open_inputs
from utils.artefacts import read_manifest
from utils.errors import HatcheryError, RefusedError, UsageError
from utils.hardware import machine
from utils.units import human_bytes, human_count, human_seconds

_HELD_OUT = 10  # documents of a sample at least, so that there is something to validate on
_EVAL_BATCHES = 4
_NEW_TOKENS = 64
_SAME = ("model.safetensors", "optimizer.safetensors")


def train(rehearsal: Rehearsal) -> Trial:
    """Train a few steps, validate, sample and save twice.

    Raises:
        NotTriedError: there are no tokens.
        HatcheryError: what train would end with.
    """
    paths = rehearsal.config.paths
    refuse_unwritable(paths.checkpoints_dir)
    refuse_unwritable(paths.logs_dir)
    folder = yield from _tokens(rehearsal)
    setup = _opened(rehearsal, folder)
    device = devices.pick_device(setup.options.device)
    compiled = _compiled(setup, device)
    changes = {"compile": "on" if compiled else "off", "device": str(device)}
    config = _settings(rehearsal, folder)
    config = revised(config, train=revised(config.train, **changes))
    record = yield from rehearsal.follow("train", config)
    rehearsal.trained, rehearsal.training = record, config
    steps = [metric for metric in record.of(Metric) if "loss" in metric.values]
    figures = [*_figures(rehearsal, setup, steps), "compiled" if compiled else "", rehearsal.basis]
    return judged("train", figures, _concerns(rehearsal, setup, record, steps))


def _tokens(rehearsal: Rehearsal) -> Generator[Event, None, Path]:
    """Tokens to train on: those named, of this rehearsal, the user's, or of a stand-in."""
    named = rehearsal.config.train.data
    if named is None and rehearsal.tokens is not None:
        return rehearsal.tokens
    if own := named or rehearsal.users_tokens:
        manifest = read_manifest(own) if own.is_dir() else None
        rehearsal.whole_tokens = manifest.facts.get("tokens") if manifest is not None else None
        rehearsal.basis, rehearsal.sample, rehearsal.asked_ids = f"on the tokens in {own}", None, 0
        return own
    try:
        documents = yield from rehearsal.stand_in()
        return (yield from encoded(rehearsal, documents, "stand_in_tokens"))
    except HatcheryError as error:
        raise NotTriedError(f"nothing could stand in for tokens: {error.problem}") from error


def _settings(rehearsal: Rehearsal, folder: Path) -> Config:
    """The user's settings of training, shortened; a save before the last step to resume from."""
    options, steps = rehearsal.config.train, rehearsal.options.steps
    changes: dict[str, Any] = {
        "data": folder,
        "resume": None,
        "name": None,
        "max_steps": steps,
        "log_every": 1,
        "eval_every": steps,
        "eval_batches": min(options.eval_batches or _EVAL_BATCHES, _EVAL_BATCHES),
        "sample_every": steps,
        "checkpoint_every": steps - 1,
        "keep_checkpoints": max(2, options.keep_checkpoints),
    }
    manifest = read_manifest(folder) if rehearsal.partial else None
    if manifest is not None:
        share = min(0.4, _HELD_OUT / max(manifest.facts["documents"], 1))
        changes["val_split"] = max(options.val_split, share)
    config = rehearsal.in_workspace(train=changes)
    return revised(config, model=_with_asked_ids(rehearsal, config))


def _with_asked_ids(rehearsal: Rehearsal, config: Config) -> Any:
    """The model with all ids that were asked for, where a sample could not fill them.

    Raises:
        RefusedError: it would not have them on all the text either.
    """
    model, asked = config.model, rehearsal.asked_ids
    if not asked:
        return model
    if "vocab_size" not in model.model_fields_set:
        return revised(model, vocab_size=asked)
    if model.vocab_size < asked:
        raise RefusedError(
            f"model.vocab_size {model.vocab_size} is too small for the tokenizer.",
            found=f"tokenize.vocab_size asks for {asked} ids",
            remedy="leave model.vocab_size out: it is then taken from the tokenizer",
        )
    return model


def _opened(rehearsal: Rehearsal, folder: Path) -> Setup:
    """What the run on all the text would begin with, as far as the sample tells.

    Raises:
        NotTriedError: the sample fills no window, though all the text would.
        UsageError, RefusedError: see `pipeline.train.setup.begin_run`.
    """
    config, options = _settings(rehearsal, folder), rehearsal.config.train
    try:
        model, data, tokenizer = open_inputs(config, config.train, NOTHING_TYPED)
    except UsageError as error:
        manifest = read_manifest(folder)
        window = options.window or rehearsal.config.prepare.window
        here = manifest.facts["tokens"] if manifest is not None and rehearsal.partial else math.inf
        if here < 2 * window < (rehearsal.whole_tokens or math.inf):
            more = min(10_000, 10 * rehearsal.options.documents)
            raise NotTriedError(
                f"the sliver is too small: {error.problem} --documents {more} takes more"
            ) from error
        if isinstance(error, TooShortError):  # of the user's text, not of the sample
            changes = {"train.window": error.shorter}
            raise error.advising(train_command(Settings(rehearsal.config), changes)) from None
        raise
    tokens = rehearsal.whole_tokens or data.metadata.tokens
    per_step = options.batch_size * options.gradient_accumulation_steps
    each = max(1.0, tokens * (1 - options.val_split) / data.train.window) / per_step
    total = options.max_steps or max(1, math.ceil(options.epochs * each))
    return Setup(folder, options, model, tokenizer, total, each, data=data)


def _compiled(setup: Setup, device: Any) -> bool:
    """Whether the real run would be compiled."""
    if setup.options.compile != "auto":
        return setup.options.compile == "on"
    dtype = devices.pick_dtype(setup.options.precision, device)
    return compiling_pays(setup, device.type, devices.measured_matmul_ceiling(device, dtype))


def _figures(rehearsal: Rehearsal, setup: Setup, steps: Sequence[Metric]) -> list[str]:
    """Size, shape, speed, memory, and the time of the whole run."""
    options, window = setup.options, setup.data.train.window
    windows = options.batch_size * options.gradient_accumulation_steps
    # The first step warms up or compiles, and a save lies before the last: the fastest counts.
    seconds = min(later.time - before.time for before, later in itertools.pairwise(steps))
    figures = [
        f"{human_count(parameter_count(setup.model))} parameters",
        f"{len(steps)} steps of {windows:,} x {window:,} tokens",
        f"{windows * window / seconds:,.0f} tokens/s",
        f"{human_bytes(_peak(steps))} memory",
    ]
    if options.max_steps is not None or rehearsal.whole_tokens is not None:
        whole = human_seconds(setup.total_steps * seconds)
        figures.append(f"all {setup.total_steps:,} steps in about {whole}")
    return figures


def _peak(steps: Sequence[Metric]) -> float:
    return max(metric.values["memory"] or 0.0 for metric in steps)


def _concerns(
    rehearsal: Rehearsal, setup: Setup, record: Record, steps: Sequence[Metric]
) -> list[Concern | None]:
    on_host = devices.pick_device(setup.options.device).type != "cuda"
    checkpoint = folders.step_folders(record.path)[-1]
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    kept = min(setup.options.keep_checkpoints, setup.total_steps) + 2  # best, and the next one
    return [
        losses([metric.values["loss"] for metric in steps]),
        memory(_peak(steps), machine().memory) if on_host else None,
        rehearsal.fits_on_disk(rehearsal.config.paths.checkpoints_dir / "run", size * kept),
        *(Concern(warned.message, warned.remedy) for warned in record.of(Warned)),
    ]


def resume(rehearsal: Rehearsal) -> Trial:
    """Go on from the checkpoint before the last step, and compare the end.

    Raises:
        NotTriedError: there is none.
        HatcheryError: what train --resume would end with.
    """
    if rehearsal.trained is None or rehearsal.training is None:
        raise NotTriedError("it needs a checkpoint, and train made none")
    saved = folders.step_folders(rehearsal.trained.path)
    if len(saved) < 2:
        raise NotTriedError("only one checkpoint could be saved")
    before, last = saved[-2:]
    gc.collect()  # what training held is not to be there twice
    options = revised(rehearsal.training.train, resume=str(before))
    config = revised(rehearsal.training, train=options)
    record = yield from rehearsal.follow("resume", config, "train")
    repeated = folders.step_folders(record.path)[-1]
    figure = f"goes on after step {folders.step_of(before)}"
    if _checksums(last) == _checksums(repeated):
        return judged("resume", [figure, "equal to the last bit"])
    ends = [r.of(Metric)[-1].values.get("val_loss") for r in (rehearsal.trained, record)]
    return judged("resume", [figure], [_difference(ends[0], ends[1])])


def _checksums(checkpoint: Path) -> list[str]:
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    return [manifest.files[name].sha256 for name in _SAME]


def _difference(first: float | None, second: float | None) -> Concern:
    values = f"validation loss {first} and {second}"
    if first is not None and second is not None and math.isclose(first, second, rel_tol=1e-3):
        return Concern(f"equal but for rounding, as is usual on a GPU: {values}")
    return Concern(f"not equal to the undisturbed run: {values}", "--precision fp32 is steadier")


def generate(rehearsal: Rehearsal) -> Trial:
    """Let the rehearsed checkpoint write, else the user's newest.

    Raises:
        NotTriedError: there is none.
        HatcheryError: what inference would end with.
    """
    gc.collect()
    options, basis = rehearsal.config.inference, ""
    if rehearsal.trained is not None:
        where = rehearsal.trained.path
    else:
        try:
            where = inventory.newest(rehearsal.config).path
        except UsageError as error:
            raise NotTriedError("it needs a checkpoint, and train made none") from error
        basis = f"with {where}"
    changes = {
        "checkpoint": [str(where)],
        "prompt": "The" if options.prompt is None else options.prompt,
        "max_length": min(options.max_length, _NEW_TOKENS),
        "seed": 1,
    }
    record = yield from rehearsal.follow("inference", rehearsal.in_workspace(inference=changes))
    samples = record.of(Sample)
    tokens = sum(len(sample.token_ids) for sample in samples)
    speed = samples[0].statistics.get("tokens_per_second", 0.0) if samples else 0.0
    figures = [f"{tokens:,} tokens", f"{speed:,.0f} tokens/s" if speed else "", basis]
    concerns = [Concern(warned.message, warned.remedy) for warned in record.of(Warned)]
    return judged("inference", figures, concerns)
