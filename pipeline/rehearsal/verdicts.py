"""What a rehearsed stage is worth: pure judgements on figures, and their table.

Knows no stage's code, no files and no clock.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.events import StageVerdict
from utils.errors import HatcheryError
from utils.units import human_bytes, human_count

MARKS = {"works": "✓", "works but": "⚠", "fails": "✕", "not tried": "·"}
"""A sign for each verdict, for renderers that have room for one character."""

# Rejections that mean that a file is not what it seems.
_DAMAGE = (
    *("truncated_gzip", "unreadable", "not_json", "not_utf8", "not_object", "lone_surrogate"),
    *("too_deep", "too_long_line", "no_text_field", "outside_article"),
    *("binary", "unknown_encoding", "unpacks_too_large", "changed_while_read"),
)
_REMEDIES = {
    "stub": "cleanup --min-words with a smaller number keeps short texts",
    "no_text_field": "rows need a field text, content, sections or abstract",
    "unknown_encoding": "save those files as UTF-8",
    "truncated_gzip": "fetch cut files again: what comes after the cut is lost",
}
_MEMORY_SHARE = 0.9
_RISING = 1.02  # of the first loss: less is the noise between batches
_STEPS_TO_FALL = 10


class Concern(NamedTuple):
    """Something that works but should be known, and what can be done about it."""

    what: str
    remedy: str = ""


def judged(
    stage: str, figures: Sequence[str], concerns: Sequence[Concern | None] = ()
) -> StageVerdict:
    """The verdict on a stage that ended well."""
    doubts = [concern for concern in concerns if concern is not None]
    details = [*(concern.what for concern in doubts), ", ".join(filter(None, figures))]
    return StageVerdict(
        stage=stage,
        verdict="works but" if doubts else "works",
        detail="; ".join(filter(None, details)),
        remedy="; ".join(dict.fromkeys(c.remedy for c in doubts if c.remedy)),
    )


def failed(stage: str, error: HatcheryError) -> StageVerdict:
    """The verdict on a stage that ended with `error`."""
    return StageVerdict(
        stage=stage,
        verdict="fails",
        detail=error.problem,
        found=error.found,
        remedy=error.remedy,
        commands=error.commands,
    )


def row(verdict: StageVerdict) -> dict[str, str]:
    """A line of the final table."""
    sentences = [verdict.detail]
    sentences += [f"Found: {verdict.found}"] if verdict.found else []
    sentences += [f"Next: {verdict.remedy}"] if verdict.remedy else []
    return {
        "stage": verdict.stage,
        "verdict": f"{MARKS[verdict.verdict]} {verdict.verdict}",
        "detail": " ".join(sentences),
    }


def rejections(read: int, rejected: Mapping[str, int], damaged: Sequence[str]) -> Concern | None:
    """Most documents rejected, or damaged input in the files `damaged`."""
    lost = sum(rejected.values())
    bad = {rule: count for rule, count in rejected.items() if rule in _DAMAGE}
    most = 2 * lost > read
    if not most and not bad:
        return None
    shown = rejected if most else bad
    ranked = sorted(shown, key=lambda rule: -shown[rule])
    counts = ", ".join(f"{shown[rule]:,} {rule.replace('_', ' ')}" for rule in ranked[:4])
    what = f"most documents are rejected, {lost:,} of {read:,}: " if most else "damaged input: "
    where = f" in {_listed(damaged)}" if damaged else ""
    return Concern(
        what + counts + where, next((_REMEDIES[r] for r in ranked if r in _REMEDIES), "")
    )


def passed_over(problem: HatcheryError | None) -> Concern | None:
    """A file that cleanup will pass over because it cannot be opened."""
    return None if problem is None else Concern(problem.problem.rstrip("."), problem.remedy)


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - 3} more" if len(unique) > 3 else ""
    return ", ".join(unique[:3]) + more


def vocabulary(learned: int, asked: int, *, whole: bool) -> Concern | None:
    """A vocabulary that the text could not fill."""
    if learned >= asked:
        return None
    if whole:
        return Concern(
            f"your text is too small for the {asked:,} ids asked for",
            "add text, or tokenize with a smaller --vocab-size",
        )
    return Concern(
        f"the sliver is too small for the {asked:,} ids asked for",
        "rehearse with more --documents to see whether your text fills it",
    )


def exactness(came_back: int, documents: int) -> Concern | None:
    """Documents that are not the same after encoding and decoding."""
    if came_back >= documents:
        return None
    return Concern(
        f"{documents - came_back:,} of {documents:,} documents do not come back exactly",
        "train your own tokenizer where every character counts",
    )


def enough_tokens(tokens: float, window: int, step_tokens: int) -> Concern | None:
    """Whether all the text, `tokens` of it, fills a window and an optimizer step."""
    if tokens > max(window, step_tokens):
        return None
    what = "one window" if tokens <= window else "one step"
    size = window if tokens <= window else step_tokens
    return Concern(
        f"all your text makes about {human_count(tokens)} tokens, too few for {what} of {size:,}",
        "add text, or choose a smaller --window or --batch-size",
    )


def losses(values: Sequence[float | None]) -> Concern | None:
    """A loss that is not finite, rises, or over ten steps and more does not fall."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if len(finite) < len(values) or not finite:
        return Concern("the loss is not finite", "lower --learning-rate, or --precision fp32")
    first, last, steps = finite[0], finite[-1], len(finite)
    if last > first * _RISING or (steps >= _STEPS_TO_FALL and last >= first):
        word = "rises" if last > first else "does not fall"
        return Concern(
            f"the loss {word}: {first:.3f} to {last:.3f} in {steps} steps",
            "try a lower --learning-rate or --matrix-learning-rate, or rehearse more --steps",
        )
    return None


def memory(peak: float, total: int) -> Concern | None:
    """A peak close to all the memory there is, in bytes."""
    if peak <= _MEMORY_SHARE * total:
        return None
    return Concern(
        f"memory is nearly full: {human_bytes(peak)} of {human_bytes(total)}",
        "a smaller --batch-size with more --gradient-accumulation-steps learns the same",
    )


def disk(needed: float, free: int, place: Any) -> Concern | None:
    """Whether `needed` bytes fit on the disk that holds `place`."""
    if needed <= free:
        return None
    return Concern(
        f"the whole would need about {human_bytes(needed)} at {place}, where "
        f"{human_bytes(free)} are free",
        "free some room, or choose another disk in the paths section of config.json",
    )
