"""The training that fits a text and a machine: how large a model the text feeds in a short time.

A first training should end, and should teach as much as its text can. So the model is the largest
preset that sees enough tokens, where no text is read more than a few times and the whole takes an
hour at most; speed is a guess by the kind of device until somebody has measured it.
"""

from typing import Any, NamedTuple

from model.config import CHINCHILLA_RATIO, PRESETS, ModelConfig, flops_per_token, parameter_count
from pipeline.options.config import Config

MOST_EPOCHS = 4.0
"""Epochs of a text that teach almost as much as new text (Muennighoff et al. 2023)."""

_SIZES = ("1B", "760M", "350M", "125M", "small", "mini", "tiny")
_ENOUGH = CHINCHILLA_RATIO / 2  # tokens per parameter
_PATIENCE = 3600.0  # seconds
_LARGEST_BATCH, _SMALLEST_BATCH = 16, 4  # windows
_FEW_STEPS = 300
_SHIPPED = {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 2}
"""The shape in the config.json that comes with the program, which is nobody's wish."""

# Arithmetic operations per second that training usually reaches.
_PER_CORE = 30e9
_USUAL_SPEED = {"cuda": 3e13, "mps": 1.5e12}


class Fitting(NamedTuple):
    """A preset with the steps and the batch to train it with, in windows; `seconds` is a guess
    unless the speed was measured."""

    preset: str
    parameters: int
    batch_size: int
    window: int
    max_steps: int
    seconds: float

    def changes(self, config: Config) -> dict[str, Any]:
        """As settings, by dotted names: those that differ and that nobody has said in `config`."""
        default, train = Config().train, config.train
        found: dict[str, Any] = {"model.preset": self.preset}
        if _said_batch(config) is None and self.batch_size != train.batch_size:
            found["train.batch_size"] = self.batch_size
        if train.max_steps is None and train.epochs == default.epochs:
            found["train.max_steps"] = self.max_steps
        return found


def usual_speed(device: str, cores: int) -> float:
    """Operations per second that training may reach on a kind of device."""
    return _USUAL_SPEED.get(device, _PER_CORE * max(1, cores))


def fitting(
    config: Config, tokens: int, window: int, vocab_size: int, flops_per_second: float
) -> Fitting:
    """The training that fits a text of `tokens`, prepared in windows of `window` tokens at most,
    on a machine of that speed; in the batches that `config` says, where it does."""
    for preset in _SIZES:
        context = min(window, PRESETS[preset]["max_position_embeddings"])
        model = ModelConfig(preset=preset, vocab_size=vocab_size)  # type: ignore[arg-type]
        parameters, each = parameter_count(model), flops_per_token(model, context)
        in_time = _PATIENCE * flops_per_second / each
        seen = min(CHINCHILLA_RATIO * parameters, MOST_EPOCHS * tokens, in_time)
        if seen >= _ENOUGH * parameters or preset == _SIZES[-1]:
            break
    batch = _said_batch(config) or _LARGEST_BATCH
    if _said_batch(config) is None:
        while batch > _SMALLEST_BATCH and seen < _FEW_STEPS * batch * context:
            batch //= 2
    steps = max(1, int(seen / (batch * context)))
    seconds = steps * batch * context * each / flops_per_second
    return Fitting(preset, parameters, batch, context, steps, seconds)


def _said_batch(config: Config) -> int | None:
    """The windows per step that somebody has said; None where they are the default."""
    default, train = Config().train, config.train
    said = train.batch_size * train.gradient_accumulation_steps
    return None if said == default.batch_size * default.gradient_accumulation_steps else said


def is_unset(config: Config) -> bool:
    """Whether nobody has said how large the new model is: its shape is as it comes with the
    program."""
    default, model = Config(), config.model
    if config.train.resume is not None or config.train.init_from is not None:
        return False
    shape = {name: getattr(model, name) for name in _SHIPPED}
    usual = {name: getattr(default.model, name) for name in _SHIPPED}
    return model.preset is None and model.depth is None and shape in (_SHIPPED, usual)
