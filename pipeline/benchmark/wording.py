"""Metrics in words: their short names, values, intervals and differences, and what is said of items
that were seen in training."""

from collections.abc import Iterator, Mapping
from typing import Any

from utils.units import counted

_SHORT = {
    "acc": "accuracy",
    "acc_norm": "by characters",
    "acc_bytes": "by bytes",
    "gold_bits_per_byte": "bits/byte of answer",
    "perplexity": "perplexity",
    "word_perplexity": "word perplexity",
    "byte_perplexity": "byte perplexity",
    "token_perplexity": "token perplexity",
    "bits_per_byte": "bits/byte",
    "bleu": "BLEU",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "top_1": "top 1",
    "top_5": "top 5",
    "top_10": "top 10",
}


def metric_title(metric: str) -> str:
    """A metric in a word or two, for the head of a column."""
    return _SHORT.get(metric, metric.replace("_", " "))


def is_share(metric: str) -> bool:
    """Whether a metric is a share of items or tokens, which is shown as a percentage."""
    return metric.startswith(("acc", "top_"))


def shown(metric: str, value: float | None) -> str:
    """A value as people read it."""
    if value is None:
        return "none"
    return f"{100 * value:.1f} %" if is_share(metric) else f"{value:.4g}"


def span(metric: str, low: float | None, high: float | None) -> str:
    """An interval as people read it; empty where it has no ends."""
    if low is None or high is None:
        return ""
    if is_share(metric):
        return f"{100 * low:.1f} to {100 * high:.1f}"
    return " to ".join(f"{end:.4f}" if 0 < abs(end) < 0.01 else f"{end:.3g}" for end in (low, high))


def amount(metric: str, difference: float) -> str:
    """A difference in units of the metric."""
    size = abs(difference)
    return f"{100 * size:.1f} points" if is_share(metric) else f"{size:.3g}"


def seen_said(result: Mapping[str, Any], *, whole: bool) -> Iterator[str]:
    """What there is to know about the items of a result that stand in the training text; `whole`
    also says that none does, or why they were not looked for."""
    found = result.get("contamination") or {}
    if not found.get("checked"):
        if whole and found.get("why"):
            yield f"not looked for items seen in training: {found['why']}"
        return
    if not found["items"]:
        if whole:
            yield f"no item was found in the training text ({found['rule']})"
    else:
        main = result["main"]
        seen = f"{found['items']:,} of {counted(found['items'] + found['n_without'], 'item')}"
        sentence = f"{seen} stand in its training text"
        if found["n_without"]:
            low, high = found["interval_without"] or (None, None)
            between = span(main, low, high)
            value = shown(main, found["metrics_without"].get(main))
            sentence += f"; without these: {value}{f' ({between})' if between else ''}"
        yield f"{sentence} ({found['rule']})" if whole else sentence
    if whole and found["too_short"]:
        yield f"{counted(found['too_short'], 'item')} too short to be looked for"
    if whole and found["partly"]:
        yield f"not looked in: {found['partly']}"
