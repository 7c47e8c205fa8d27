"""Metrics: a ratio of sums over items, put through a monotone form.

Sums come first and the form last: a perplexity is never a mean of perplexities. As every metric is
such a ratio, intervals and paired tests resample items in one way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from pipeline.evaluation.distributions import LEVEL, Interval, t_quantile

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


@dataclass(frozen=True)
class CorpusMetric:
    """A number of a whole set that is no ratio of sums, but made of several of them.

    Every item gives a `Ratio` for each of `parts`, under that name; `value` takes their sums, and
    is at least 0 and at most `largest`. More is better. It has an interval, but no test of two.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    value: Callable[[Mapping[str, Ratio]], float]
    largest: float

    def of(self, items: Sequence[Mapping[str, Ratio]]) -> float:
        """The metric over items."""
        return self.value(self._sums(items))

    def interval(self, items: Sequence[Mapping[str, Ratio]], level: float = LEVEL) -> Interval:
        """exp(log m ± t e), e being the jackknife's standard error of log m, the items left out one
        by one (B. Efron and C. Stein, The jackknife estimate of variance, Ann. Statist. 9 (1981)
        586-596), and t the quantile of Student's distribution with n - 1 degrees of freedom.

        Of BLEU it held the truth in 94 % of sets of 10 and of 20 texts, where the bootstrap of P.
        Koehn (EMNLP 2004) did in 89 and 91 %. Where nothing is right, or only of one item, it is
        all there is.
        """
        n = len(items)
        if n < 2:
            return Interval(0.0, self.largest)
        sums = self._sums(items)
        others = [self.value(self._without(sums, item)) for item in items]
        if min(others) <= 0:
            return Interval(0.0, self.largest)
        middle = math.log(self.value(sums))
        logs = [math.log(value) for value in others]
        mean = math.fsum(logs) / n
        error = math.sqrt((n - 1) / n * math.fsum((log - mean) ** 2 for log in logs))
        reach = t_quantile((1 + level) / 2, n - 1) * error
        most = math.log(self.largest)
        return Interval(math.exp(middle - reach), math.exp(min(most, middle + reach)))

    def _sums(self, items: Sequence[Mapping[str, Ratio]]) -> dict[str, Ratio]:
        return {
            part: Ratio(
                math.fsum(item[part].numerator for item in items),
                math.fsum(item[part].denominator for item in items),
            )
            for part in self.parts
        }

    def _without(self, sums: Mapping[str, Ratio], item: Mapping[str, Ratio]) -> dict[str, Ratio]:
        return {
            part: Ratio(
                sums[part].numerator - item[part].numerator,
                sums[part].denominator - item[part].denominator,
            )
            for part in self.parts
        }


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
