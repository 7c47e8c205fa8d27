"""The plan stage: what a training would need, before it starts.

Arithmetic answers in a moment; `--probe` then times a few real steps, and only that loads torch.
"""

from collections.abc import Generator, Iterator
from datetime import datetime
from threading import Event as StopSignal
from typing import TYPE_CHECKING, Any

import msgspec

from model.config import CHINCHILLA_RATIO
from pipeline.events import Event, Finished, Progress, Started, Warned
from pipeline.options.command import train_command
from pipeline.options.config import Config, PlanOptions, Settings, Typed
from pipeline.planning.deadline import optimal_size, seconds_until, steps_that_fit
from pipeline.planning.estimate import Estimate
from pipeline.planning.inputs import Inputs, read_inputs
from pipeline.planning.remedies import Remedy, remedies
from pipeline.planning.wording import lines
from utils.errors import UsageError, as_typed
from utils.hardware import keep_heap
from utils.units import human_count, human_seconds

if TYPE_CHECKING:
    from pipeline.planning.probe import Probe

_COMPUTE_OPTIMAL = f"{CHINCHILLA_RATIO} tokens per parameter"
_TOO_LITTLE = {
    "time": f"by then not even the smallest model sees {_COMPUTE_OPTIMAL}",
    "text": f"this text is too small for {_COMPUTE_OPTIMAL} of even the smallest model",
    "memory": "not even the smallest model fits into memory",
}
_LIMITS = {
    "time": f"the largest that sees {_COMPUTE_OPTIMAL} by then",
    "text": "the largest that this text feeds",
    "memory": "the largest that fits into memory",
}


def run(config: Config, options: PlanOptions, stop: StopSignal, typed: Typed) -> Iterator[Event]:
    """Say what `train` with these settings would need.

    The summary's `plan` is a table to read, `numbers` the same and more for programs, `advice`
    lists what would help.

    Raises:
        UsageError, RefusedError: what training itself would refuse; a deadline without a probe.
    """
    own = config.train.data is not None or config.train.resume is not None
    yield Started("plan", "Plan a training" if own else config.titled("Plan a training on"))
    seconds = None
    if options.finish_by is not None:
        seconds = seconds_until(options.finish_by, datetime.now())
        if not options.probe:
            raise UsageError(
                "A deadline needs to know how fast this machine is.", remedy="leave out --no-probe"
            )
    inputs = read_inputs(config, typed)
    for note in inputs.notes:
        yield Warned(note)
    plan = inputs.estimated(price_per_hour=options.price_per_hour)
    measured: Probe | None = None
    if options.probe and not plan.fits:
        yield Warned("It does not fit into memory, so nothing was timed.")
    elif options.probe:
        measured = yield from _probe(config, inputs, stop)
        if stop.is_set():
            yield Finished(stopped=True)
            return
        plan = inputs.estimated(
            tokens_per_second=measured.tokens_per_second, price_per_hour=options.price_per_hour
        )
    yield Finished(_summary(Settings(config, typed), inputs, plan, measured, seconds))


def _probe(config: Config, inputs: Inputs, stop: StopSignal) -> Generator[Event, None, "Probe"]:
    keep_heap()  # as training does, and before torch is loaded
    yield Progress(0, message="loading torch")
    from pipeline.planning.probe import probing

    yield Progress(0, unit="steps", message="timing real steps")
    steps = probing(config.model_copy(update={"model": inputs.model}), inputs.options, stop)
    while True:
        try:
            yield Progress(next(steps), unit="steps", message="timing real steps")
        except StopIteration as ended:
            measured: Probe = ended.value
            return measured


def _summary(
    settings: Settings,
    inputs: Inputs,
    plan: Estimate,
    measured: "Probe | None",
    seconds: float | None,
) -> dict[str, Any]:
    rows = [
        {"what": line.name, "estimate": line.figure, "": ("! " if line.worry else "") + line.remark}
        for line in lines(plan)
    ]
    advice = remedies(inputs, plan)
    summary: dict[str, Any] = {"plan": rows, "numbers": [numbers(plan, measured)]}
    if seconds is not None:
        summary |= _until(settings, inputs, plan, seconds)
    for number, remedy in enumerate(advice, 1):
        summary[f"remedy_{number}"] = _advice(settings, remedy)
    return summary | {"start_it": _typed(settings, {})}


def _typed(settings: Settings, changes: dict[str, Any]) -> str:
    return as_typed(train_command(settings, changes))


def _advice(settings: Settings, remedy: Remedy) -> str:
    return f"{remedy.title} ({remedy.effect}): {_typed(settings, remedy.changes)}"


def _until(settings: Settings, inputs: Inputs, plan: Estimate, seconds: float) -> dict[str, Any]:
    """What a deadline allows: steps of this model, and the model that makes most of the time."""
    if plan.tokens_per_second is None or plan.seconds is None:
        return {}
    given = human_seconds(seconds)
    steps = steps_that_fit(inputs, plan.tokens_per_second, seconds)
    if steps:
        these = _typed(settings, {"train.max_steps": steps})
        summary = {"in_time": f"{steps:,} steps of this model in {given}: {these}"}
    else:
        summary = {"in_time": f"not even one step of this model in {given}"}
    if inputs.options.resume is not None:
        return summary
    sized = optimal_size(inputs, plan.flops / plan.seconds, seconds)
    if isinstance(sized, str):
        return summary | {"best_size": f"none: {_TOO_LITTLE[sized]}"}
    changes = {"model.depth": sized.depth, "train.max_steps": sized.steps}
    return summary | {
        "best_size": f"{human_count(sized.parameters)} parameters, {_LIMITS[sized.limit]}, about "
        f"{human_seconds(sized.seconds)}: {_typed(settings, changes)}"
    }


def numbers(plan: Estimate, measured: "Probe | None" = None) -> dict[str, Any]:
    """The estimate as JSON values; sizes in bytes, times in seconds."""
    memory = plan.memory
    result: dict[str, Any] = msgspec.to_builtins(
        {
            name: getattr(plan, name)
            for name in plan.__struct_fields__
            if name not in ("model", "memory")
        }
    )
    result["memory"] = memory._asdict() | {"total": memory.total, "fits": plan.fits}
    result["disk"]["fits"] = plan.disk.fits
    result["cost"] = plan.cost
    if measured is not None:
        result["probe"] = measured._asdict()
    return result
