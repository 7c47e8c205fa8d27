"""What to change where a training does not fit or would teach little: only changes that help."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from model.config import CHINCHILLA_RATIO, PRESETS, ModelConfig
from pipeline.planning.estimate import Corpus, Estimate
from pipeline.planning.inputs import Inputs
from pipeline.tokens.windows import count_windows
from pipeline.train.fitting import MOST_EPOCHS
from utils.units import human_bytes, human_count

_SIZES = ("1B", "760M", "350M", "125M", "small", "mini", "tiny")
# What a run that goes on may still change.
_FREE = {
    *("train.max_steps", "train.gradient_checkpointing", "train.keep_checkpoints"),
    *("train.batch_size", "train.gradient_accumulation_steps"),  # their product stays the same
}


class Remedy(NamedTuple):
    """A change of settings, by dotted names, in words, and what it would give."""

    title: str
    effect: str
    changes: dict[str, Any]


def remedies(inputs: Inputs, plan: Estimate) -> list[Remedy]:
    """Changes that mend what is wrong with `plan`, most harmless first; none where all is well."""
    found: list[Remedy] = []
    if not plan.fits or plan.tight:
        found += _less_memory(inputs, plan)
    elif plan.verdict != "balanced":
        found += _better_length(inputs, plan)
    if not plan.disk.fits and inputs.options.keep_checkpoints > 1:
        changes = {"train.keep_checkpoints": 1}
        needed = _changed(inputs, changes).disk.needed
        found.append(Remedy("keep one checkpoint beside the best", human_bytes(needed), changes))
    if inputs.options.resume is not None:
        found = [remedy for remedy in found if _FREE.issuperset(remedy.changes)]
    return found


def _changed(inputs: Inputs, changes: dict[str, Any]) -> Estimate:
    train = {name.removeprefix("train."): value for name, value in changes.items()}
    return inputs._replace(options=inputs.options.model_copy(update=train)).estimated()


def _less_memory(inputs: Inputs, plan: Estimate) -> Iterator[Remedy]:
    halved = _smaller_batch(inputs)
    batch = halved.get("train.batch_size", inputs.options.batch_size)
    accumulation = halved.get("train.gradient_accumulation_steps", 1)
    checkpointing = (
        {} if inputs.options.gradient_checkpointing else {"train.gradient_checkpointing": True}
    )
    smaller = f"batch {batch} × {accumulation} micro-batches"
    alone = [
        Remedy(f"{smaller}: learns the same", "", halved),
        Remedy("gradient checkpointing: a third slower", "", checkpointing),
    ]
    both = [Remedy(f"{smaller}, and gradient checkpointing", "", halved | checkpointing)]
    helpful = _that_fit(inputs, alone) or (_that_fit(inputs, both) if checkpointing else [])
    yield from helpful
    for changes, other in _presets(inputs):
        if other.parameters < plan.parameters and _good(other):
            yield Remedy(_sized(changes, other), human_bytes(other.memory.total), changes)
            return


def _smaller_batch(inputs: Inputs) -> dict[str, Any]:
    """The batch halved until it fits, with as many more micro-batches; nothing if it is odd."""
    batch = inputs.options.batch_size
    accumulation = inputs.options.gradient_accumulation_steps
    changes: dict[str, Any] = {}
    while batch % 2 == 0:
        batch, accumulation = batch // 2, accumulation * 2
        changes = {"train.batch_size": batch, "train.gradient_accumulation_steps": accumulation}
        if _good(_changed(inputs, changes)):
            break
    return changes


def _that_fit(inputs: Inputs, offered: list[Remedy]) -> list[Remedy]:
    """Those that change something and make it fit, with the memory that they leave."""
    tried = [(r, _changed(inputs, r.changes)) for r in offered if r.changes]
    return [r._replace(effect=human_bytes(p.memory.total)) for r, p in tried if _good(p)]


def _good(plan: Estimate) -> bool:
    return plan.fits and not plan.tight


def _better_length(inputs: Inputs, plan: Estimate) -> Iterator[Remedy]:
    """As many steps as the model wants and the text gives, or a model that these steps suit."""
    optimal, most = CHINCHILLA_RATIO * plan.parameters, MOST_EPOCHS * plan.corpus.tokens
    steps = max(1, math.floor(min(optimal, most) / plan.tokens_per_step))
    changes = {"train.max_steps": steps}
    other = _changed(inputs, changes)
    if steps > plan.steps_done and _better(other, plan):
        more = "more" if steps > plan.steps else "fewer"
        yield Remedy(f"{more} steps: {steps:,}", _ratio(other), changes)
    sizes = [pair for pair in _presets(inputs) if _good(pair[1]) and _better(pair[1], plan)]
    balanced = [pair for pair in sizes if pair[1].verdict == "balanced"]
    for preset, size in (balanced or sizes[::-1])[:1]:
        yield Remedy(_sized(preset, size), _ratio(size), preset)


def _better(other: Estimate, plan: Estimate) -> bool:
    """Whether `other` is balanced where `plan` is not, or at least half again as near to it."""
    if other.verdict == plan.verdict == "undertrained":
        return other.tokens_per_parameter > 1.5 * plan.tokens_per_parameter
    return other.verdict != plan.verdict and other.verdict in ("balanced", "undertrained")


def _ratio(plan: Estimate) -> str:
    return f"{plan.tokens_per_parameter:.2g} per parameter"


def _sized(changes: dict[str, Any], plan: Estimate) -> str:
    return f"preset {changes['model.preset']}: {human_count(plan.parameters)} parameters"


def _presets(inputs: Inputs) -> Iterator[tuple[dict[str, Any], Estimate]]:
    """The changes to each of the sizes there are, largest first, and what it would need with these
    tokens: in windows of its own context where that is shorter."""
    for name in _SIZES:
        context = PRESETS[name]["max_position_embeddings"]
        changes: dict[str, Any] = {"model.preset": name}
        corpus = inputs.corpus
        if context < corpus.window:
            corpus = _in_windows_of(context, corpus)
            if (
                inputs.options.window is not None
            ):  # one that was chosen does not yield to the context
                changes["train.window"] = context
        model = ModelConfig(preset=name, vocab_size=inputs.model.vocab_size)  # type: ignore[arg-type]
        yield changes, inputs._replace(model=model, corpus=corpus).estimated()


def _in_windows_of(window: int, corpus: Corpus) -> Corpus:
    """The same tokens in shorter windows, as if they were of one piece."""
    return msgspec.structs.replace(
        corpus,
        window=window,
        windows=count_windows(corpus.tokens, window, max(1, window // 2)),
        val_windows=math.ceil(corpus.val_windows * corpus.window / window),
    )
