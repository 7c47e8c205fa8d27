"""An estimate in words: the same lines for the terminal and for the app's card."""

from typing import NamedTuple

from model.config import CHINCHILLA_RATIO
from pipeline.planning.estimate import Estimate
from pipeline.planning.memory import Memory
from utils.units import human_bytes, human_count, human_seconds

_NOTED_OVERLAP = 0.02  # of a window; less comes from the last one of each shard
_NAMES = {"working": "update", "gaps": "allocator", "process": "program"}


class Line(NamedTuple):
    """One thing to know: its name, the figure, what it means, and whether to worry."""

    name: str
    figure: str
    remark: str = ""
    worry: bool = False


def lines(plan: Estimate) -> list[Line]:
    """Everything about a training, most basic first; cost only where a price is set."""
    found = [_model(plan), _data(plan), _length(plan), _memory(plan), _disk(plan), _time(plan)]
    if plan.cost is not None:
        figure = f"{plan.cost:,.2f} at {plan.price_per_hour:,.2f} an hour"
        found.append(Line("Cost", figure))
    return found


def _model(plan: Estimate) -> Line:
    model = plan.model
    heads = f"{model.num_heads} heads"
    if model.kv_heads != model.num_heads:
        heads += f", {model.kv_heads} KV"
    shape = f"{model.num_layers} layers × {model.hidden_size}, {heads}"
    return Line("Model", f"{human_count(plan.parameters)} parameters", shape)


def _data(plan: Estimate) -> Line:
    per_parameter = plan.corpus.tokens / plan.parameters
    figure = f"{plan.corpus.name} · {human_count(plan.corpus.tokens)} tokens"
    remark = f"{per_parameter:.2g} per parameter"
    if plan.corpus.overlap >= _NOTED_OVERLAP:
        remark += f", windows overlap by {plan.corpus.overlap:.0%}"
    return Line("Data", figure, remark)


def _length(plan: Estimate) -> Line:
    epochs = f"{plan.epochs:.2g}"
    figure = f"{plan.steps:,} steps × {plan.tokens_per_step:,} tokens = "
    figure += f"{epochs} epoch{'s' * (epochs != '1')}"
    if plan.steps_done:
        figure += f", {min(plan.steps_done, plan.steps):,} done"
    return Line("Training", figure, verdict(plan), plan.verdict != "balanced")


def verdict(plan: Estimate) -> str:
    """What tokens per parameter and epochs let expect."""
    ratio = f"{plan.tokens_per_parameter:.2g} tokens per parameter"
    optimal = human_count(CHINCHILLA_RATIO * plan.parameters)
    match plan.verdict:
        case "overfitting":
            return f"expect overfitting: it reads the text {plan.epochs:.2g} times"
        case "undertrained":
            return f"undertrained: {ratio}, Chinchilla would want {optimal} tokens"
        case "small":
            return f"a larger model would learn more: {ratio}"
        case "balanced":
            return f"balanced: {ratio}, Chinchilla wants {CHINCHILLA_RATIO}"


def _memory(plan: Estimate) -> Line:
    fits = "just fits" if plan.tight else "fits" if plan.fits else "does not fit"
    free = human_bytes(plan.target.memory_free)
    figure = f"{human_bytes(plan.memory.total)} of {free} free: {fits}"
    return Line("Memory", figure, parts(plan.memory), plan.tight or not plan.fits)


def parts(memory: Memory) -> str:
    """The parts of the peak that matter, largest first, in the unit of the last."""
    sizes = [(size, name) for name, size in memory._asdict().items() if isinstance(size, int)]
    shown = [(s, n) for s, n in sorted(sizes, reverse=True) if s >= memory.total / 100]
    unit, bytes_each, digits = (
        ("GiB", 1 << 30, 1) if memory.total >= 10 << 30 else ("MiB", 1 << 20, 0)
    )
    named = [f"{_NAMES.get(name, name)} {size / bytes_each:,.{digits}f}" for size, name in shown]
    return f"{' · '.join(named)} {unit}"


def _disk(plan: Estimate) -> Line:
    disk = plan.disk
    count = "1 checkpoint" if disk.kept == 1 else f"{disk.kept} checkpoints"
    total = human_bytes(disk.kept * disk.each)
    figure = f"{count} × {human_bytes(disk.each)} = {total}"
    remark = f"of {human_bytes(disk.free)} free"
    if not disk.fits:
        remark += f": needs {human_bytes(disk.needed)} on the way, does not fit"
    return Line("Disk", figure, remark, not disk.fits)


def _time(plan: Estimate) -> Line:
    if plan.seconds is None or plan.tokens_per_second is None:
        return Line("Time", "not measured", f"on {plan.target.name}")
    speed = f"{plan.tokens_per_second:,.0f} tokens/s on {plan.target.name}"
    return Line("Time", human_seconds(plan.seconds), speed)
