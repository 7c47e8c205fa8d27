"""Metrics: a ratio of sums over items, put through a monotone form.

Sums come first and the form last: a perplexity is never a mean of perplexities. As every metric is
such a ratio, intervals and paired tests resample items in one way.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Form: TypeAlias = Literal["mean", "perplexity", "bits"]


class Ratio(NamedTuple):
    """What one item adds to a metric: see `Metric`."""

    numerator: float
    denominator: float = 1.0


@dataclass(frozen=True)
class Metric:
    """A number that a task gives.

    With x = Σ numerators / Σ denominators, the `form` "mean" is x itself; "perplexity" is exp(-x)
    and "bits" -x / ln 2, where numerators are log-likelihoods in nats, and denominators are words,
    bytes, tokens, or 1 for an example. `title` says it in a few words.
    """

    name: str
    title: str
    form: Form = "mean"

    @property
    def higher_is_better(self) -> bool:
        """Only for means: perplexities and bits fall as a model improves."""
        return self.form == "mean"

    def of(self, ratios: list[Ratio]) -> float:
        """The metric over items.

        Raises:
            ZeroDivisionError: there is nothing to divide by.
        """
        total = math.fsum(ratio.numerator for ratio in ratios)
        return form_value(self.form, total / math.fsum(ratio.denominator for ratio in ratios))


def form_value(form: Form, x: float) -> float:
    """The metric of a ratio of sums `x`; infinity where a perplexity is past all floats."""
    if form == "mean":
        return x
    if form == "bits":
        return -x / math.log(2)
    return math.exp(-x) if x > -700 else math.inf


ACC = Metric("acc", "accuracy")
ACC_NORM = Metric("acc_norm", "accuracy, likelihoods by characters")
ACC_BYTES = Metric("acc_bytes", "accuracy, likelihoods by bytes")
GOLD_BITS = Metric("gold_bits_per_byte", "bits per byte of the right answer", "bits")
PERPLEXITY = Metric("perplexity", "perplexity per example", "perplexity")
WORD_PERPLEXITY = Metric("word_perplexity", "perplexity per word", "perplexity")
BYTE_PERPLEXITY = Metric("byte_perplexity", "perplexity per byte", "perplexity")
TOKEN_PERPLEXITY = Metric("token_perplexity", "perplexity per token", "perplexity")
BITS_PER_BYTE = Metric("bits_per_byte", "bits per byte", "bits")
TOP_1 = Metric("top_1", "next token right")
TOP_5 = Metric("top_5", "next token among the 5 likeliest")
TOP_10 = Metric("top_10", "next token among the 10 likeliest")
