"""What a training would need, by arithmetic alone. Never imports torch, reads no file.

`estimate` takes everything it depends on; `pipeline.planning.inputs` finds that out.
"""

import math
from typing import Literal, TypeAlias

import msgspec

from model.config import CHINCHILLA_RATIO, ModelConfig, flops_per_token, parameter_count
from pipeline.options.config import TrainOptions
from pipeline.planning.activations import Shape
from pipeline.planning.memory import Memory, optimizer_bytes, peak_memory
from pipeline.planning.target import Target, in_half
from pipeline.runs.record import Epoch
from pipeline.tokens.token_set import GPU_SHARE, RAM_SHARE
from pipeline.train.fitting import MOST_EPOCHS
from pipeline.train.run_setup import MOST_VALIDATION_BATCHES, validation_interval
from pipeline.train.setup import run_length

Verdict: TypeAlias = Literal["balanced", "overfitting", "undertrained", "small"]

_UNDERTRAINED, _SMALL = CHINCHILLA_RATIO / 2, CHINCHILLA_RATIO * 5
_SMALL_FILES = 1 << 20  # description, state and tokenizer of a checkpoint
_TIGHT = 0.9


class Corpus(msgspec.Struct, frozen=True):
    """A token set as training sees it: tokens and windows to learn from, windows to validate on,
    all in windows of `window` tokens, and the bytes of its shards. `epoch` is what the epochs of a
    run count."""

    name: str
    tokens: int
    windows: int
    val_windows: int
    window: int
    bytes: int
    epoch: Epoch = "text"

    @property
    def windows_per_epoch(self) -> float:
        """See `pipeline.train.setup.windows_per_epoch`."""
        return self.tokens / self.window if self.epoch == "text" else self.windows

    @property
    def overlap(self) -> float:
        """Share of a window that the one after it holds too."""
        return max(0.0, 1 - self.tokens / (self.windows * self.window))


class Disk(msgspec.Struct, frozen=True):
    """Bytes on disk: `kept` checkpoints of `each` when it is over, `needed` on the way."""

    each: int
    kept: int
    needed: int
    free: int

    @property
    def fits(self) -> bool:
        return self.needed <= self.free


class Estimate(msgspec.Struct, frozen=True):
    """Everything known before the first step. Sizes in bytes, times in seconds.

    `steps` counts the whole run, of which `steps_done` are done already; `tokens_seen` counts a
    token each time it is seen, `epochs` how often that is; `flops` is the arithmetic still to do.
    `seconds` is None while nobody has measured how fast this machine is.
    """

    model: ModelConfig
    corpus: Corpus
    target: Target
    parameters: int
    steps: int
    steps_done: int
    tokens_per_step: int
    epochs: float
    tokens_seen: int
    tokens_per_parameter: float
    verdict: Verdict
    half: bool
    memory: Memory
    disk: Disk
    flops: float
    tokens_per_second: float | None
    seconds: float | None
    price_per_hour: float | None

    @property
    def fits(self) -> bool:
        """Whether the memory that is free now is enough."""
        return self.memory.total <= self.target.memory_free

    @property
    def tight(self) -> bool:
        """Whether it fits with little to spare."""
        return self.fits and self.memory.total > _TIGHT * self.target.memory_free

    @property
    def cost(self) -> float | None:
        if self.seconds is None or self.price_per_hour is None:
            return None
        return self.price_per_hour * self.seconds / 3600


def estimate(
    model: ModelConfig,
    options: TrainOptions,
    corpus: Corpus,
    target: Target,
    *,
    steps_done: int = 0,
    tokens_per_second: float | None = None,
    price_per_hour: float | None = None,
) -> Estimate:
    """What training `model` on `corpus` with `options` needs on `target`.

    `tokens_per_second` is the speed of training once measured, None when it is not known.
    """
    steps_per_epoch, steps = run_length(options, corpus.windows_per_epoch)
    half = in_half(options.precision, target)
    shape = Shape(model, options.batch_size, corpus.window, half, target.kind)
    accumulation = options.gradient_accumulation_steps
    tokens_per_step = shape.tokens * accumulation
    remaining = max(0, steps - steps_done)
    seen = steps * tokens_per_step
    parameters = parameter_count(model)
    epochs = seen / corpus.tokens
    validations = _validation_tokens(options, corpus, steps, steps_per_epoch, steps_done)
    # Validation takes the forward pass alone, a third of a training step's arithmetic.
    work = remaining * tokens_per_step + validations / 3
    return Estimate(
        model=model,
        corpus=corpus,
        target=target,
        parameters=parameters,
        steps=steps,
        steps_done=steps_done,
        tokens_per_step=tokens_per_step,
        epochs=epochs,
        tokens_seen=seen,
        tokens_per_parameter=seen / parameters,
        verdict=_verdict(seen / parameters, corpus.tokens / parameters, epochs),
        half=half,
        memory=peak_memory(
            shape,
            optimizer=options.optimizer,
            checkpointing=options.gradient_checkpointing,
            accumulates=accumulation > 1,
            token_bytes=_resident(corpus, target),
        ),
        disk=_disk(model, options, steps, steps_per_epoch, steps_done, target),
        flops=flops_per_token(model, corpus.window) * work,
        tokens_per_second=tokens_per_second,
        seconds=None if tokens_per_second is None else work / tokens_per_second,
        price_per_hour=price_per_hour,
    )


def _resident(corpus: Corpus, target: Target) -> int:
    """Bytes of the tokens that training would read into memory, instead of mapping the file."""
    share = GPU_SHARE if target.kind == "cuda" else RAM_SHARE
    return corpus.bytes if corpus.bytes <= share * target.memory_free else 0


def _verdict(per_parameter: float, text_per_parameter: float, epochs: float) -> Verdict:
    if epochs > MOST_EPOCHS and text_per_parameter < CHINCHILLA_RATIO:
        return "overfitting"
    if per_parameter < _UNDERTRAINED:
        return "undertrained"
    return "small" if per_parameter > _SMALL else "balanced"


def _validation_tokens(
    options: TrainOptions, corpus: Corpus, steps: int, steps_per_epoch: float, steps_done: int
) -> int:
    """Tokens that all validations still to come will score."""
    every = validation_interval(options, steps_per_epoch, steps)
    limit = options.eval_batches or MOST_VALIDATION_BATCHES
    batches = min(limit, math.ceil(corpus.val_windows / options.batch_size))
    return _times(every, steps, steps_done) * batches * options.batch_size * corpus.window


def _times(every: int, steps: int, steps_done: int) -> int:
    """How often something happens that is due at every multiple and at the last step."""
    return -(-steps // every) - steps_done // every if steps > steps_done else 0


def _disk(
    model: ModelConfig,
    options: TrainOptions,
    steps: int,
    steps_per_epoch: float,
    steps_done: int,
    target: Target,
) -> Disk:
    each = 4 * parameter_count(model) + optimizer_bytes(model, options.optimizer) + _SMALL_FILES
    every = options.checkpoint_every or validation_interval(options, steps_per_epoch, steps)
    saves = _times(every, steps, steps_done)
    kept = min(saves, options.keep_checkpoints + 1)  # the best one beside the newest
    return Disk(each, kept, min(saves, kept + 1) * each, target.disk_free)
