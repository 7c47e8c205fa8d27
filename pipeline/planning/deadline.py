"""A deadline turned into a size: the steps that fit, and the model worth training in that time."""

import math
import re
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from model.config import CHINCHILLA_RATIO, ModelConfig
from pipeline.planning.inputs import Inputs
from pipeline.train.fitting import MOST_EPOCHS
from utils.errors import UsageError

_UNITS = {"d": 86400, "h": 3600, "min": 60, "m": 60, "s": 1}
_DEEPEST = 96
_MOST_STEPS = 1 << 40


Limit: TypeAlias = Literal["time", "text", "memory"]


class OptimalSize(NamedTuple):
    """A model by its depth, trained for `steps`; `limit` says what keeps it from being larger."""

    depth: int
    steps: int
    parameters: int
    seconds: float
    limit: Limit


def seconds_until(deadline: str, now: datetime) -> float:
    """Seconds from `now` until "08:00", today or tomorrow, or in a duration such as "1h30m".

    Raises:
        UsageError: neither of both, or no time at all.
    """
    clock = re.fullmatch(r"(\d{1,2}):(\d{2})", deadline)
    if clock is not None and int(clock[1]) < 24 and int(clock[2]) < 60:
        at = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (at - now if at > now else at + timedelta(days=1) - now).total_seconds()
    parts = re.findall(r"(\d+(?:\.\d+)?)(d|h|min|m|s) ?", deadline)
    seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
    if "".join(count + unit for count, unit in parts) != deadline.replace(" ", "") or not seconds:
        raise UsageError(
            f"--finish-by {deadline} is no time of day and no duration.",
            remedy="write it as 08:00, 90m, 8h or 1h30m",
        )
    return seconds


def steps_that_fit(inputs: Inputs, tokens_per_second: float, seconds: float) -> int:
    """The most steps of this very training that end in time; 0 where not even one does."""

    def fits(steps: int) -> bool:
        options = inputs.options.model_copy(update={"max_steps": steps})
        trained = inputs._replace(options=options).estimated(tokens_per_second=tokens_per_second)
        return trained.seconds is not None and trained.seconds <= seconds

    first = inputs.steps_done + 1
    if not fits(first):
        return 0
    below, above = first, first + 1
    while above < _MOST_STEPS and fits(above):
        below, above = above, 2 * above
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if fits(middle) else (below, middle)
    return below


def optimal_size(inputs: Inputs, flops_per_second: float, seconds: float) -> OptimalSize | Limit:
    """The largest model that sees `CHINCHILLA_RATIO` tokens per parameter in that time, at the
    speed at which this machine trains now; where not even the smallest one can, what there is too
    little of.

    No text is read more than four times, and what does not fit into memory is left out.
    """
    best: OptimalSize | None = None
    for depth in range(1, _DEEPEST + 1):
        once = inputs._replace(model=_of_depth(depth, inputs), steps_done=0)
        short = once.estimated()
        steps = math.ceil(CHINCHILLA_RATIO * short.parameters / short.tokens_per_step)
        options = inputs.options.model_copy(update={"max_steps": steps, "resume": None})
        plan = once._replace(options=options).estimated()
        takes = plan.flops / flops_per_second
        limits: list[tuple[Limit, bool]] = [
            ("time", takes > seconds),
            ("text", plan.epochs > MOST_EPOCHS),
            ("memory", not plan.fits),
        ]
        for limit, is_exceeded in limits:
            if is_exceeded:
                return limit if best is None else best._replace(limit=limit)
        best = OptimalSize(depth, steps, plan.parameters, takes, "time")
    assert best is not None
    return best


def _of_depth(depth: int, inputs: Inputs) -> ModelConfig:
    """What `--model.depth` makes of these tokens."""
    model = ModelConfig(depth=depth, vocab_size=inputs.model.vocab_size)
    longest = max(model.max_position_embeddings, inputs.corpus.window)
    return model.model_copy(update={"max_position_embeddings": longest})
