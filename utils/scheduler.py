"""Learning-rate schedules: pure functions of the step, so a resumed run continues exactly."""

import math
from typing import Literal, TypeAlias

ScheduleName: TypeAlias = Literal["cosine", "wsd", "constant"]


def lr_multiplier(
    step: int,
    total_steps: int,
    *,
    schedule: ScheduleName,
    warmup_steps: int,
    cooldown: float,
    min_ratio: float,
) -> float:
    """Share of the peak learning rate for 0-based optimizer `step` of `total_steps`.

    Linear warm-up, then: `cosine` falls along half a cosine to `min_ratio` (Loshchilov and
    Hutter, 2017); `wsd` stays at the peak and falls linearly to `min_ratio` over the last
    `cooldown` share of the steps (Hägele et al., 2024); `constant` stays.
    Warm-up never takes more than half of a short run.
    """
    warmup = min(warmup_steps, total_steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        begin = warmup
    else:
        begin = max(warmup, total_steps - round(cooldown * total_steps))
    if step < begin:
        return 1.0
    progress = min(1.0, (step - begin) / max(1, total_steps - begin))
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1 - progress
    return min_ratio + (1 - min_ratio) * fall
