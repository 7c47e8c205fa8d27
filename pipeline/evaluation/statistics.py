"""How sure a score is: intervals of one, and tests of two over the same items.

A metric is form(Σ numerators / Σ denominators), the sums over items; items (questions, documents)
are independent, what is within one is not. The methods were chosen by simulation, so that 93 to
97 % of the 95 % intervals hold the truth, and equal models differ in 3 to 7 % of tests. Ten
documents of log-normal lengths (σ = 1) suffice for Student's t as it is taken here (95 %), not for
the bootstrap (percentiles 88 %, studentised 92 %), which agrees with it where documents are many.
Nothing is drawn at random: the same scores give the same interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.evaluation.distributions import (
    LARGEST_FREEDOM,
    coin,
    normal_quantile,
    t_quantile,
    t_tail,
)
from pipeline.evaluation.distributions import LEVEL as LEVEL
from pipeline.evaluation.distributions import Interval as Interval
from pipeline.evaluation.distributions import share_interval as share_interval
from pipeline.evaluation.metrics import Form, form_value

Array: TypeAlias = NDArray[np.float64]

POWER = 0.8  # of `smallest` differences: how often a test would show them
LARGEST_EXPONENT = 300.0  # of perplexities compared, whose squares are numbers so


@dataclass(frozen=True)
class Comparison:
    """The metric of a first model less that of a second, over the same `n` items.

    `low` and `high` bound the true difference with probability `LEVEL`; `p` is how often equal
    models differ as much (two-sided); `smallest` is the true difference, in units of the metric,
    that this many items with this much disagreement show in `POWER` of cases. `exact` is, for
    accuracies only, the p of McNemar's exact test, which never errs more often than it says, and
    hence less often: `p` is its mid-p there.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    smallest: float
    higher_is_better: bool
    exact: float | None = None

    @property
    def significant(self) -> bool:
        return self.p < 1 - LEVEL

    @property
    def better(self) -> Literal["first", "second"] | None:
        """The better model, if the difference is significant."""
        if not self.significant or not self.difference:
            return None
        return "first" if (self.difference > 0) == self.higher_is_better else "second"


class _Error(NamedTuple):
    """A standard error with the degrees of freedom of its Student t."""

    size: float
    freedom: float

    def reach(self, level: float) -> float:
        return t_quantile((1 + level) / 2, self.freedom) * self.size if self.size else 0.0

    def p(self, difference: float) -> float:
        """Two-sided, of no difference."""
        if not difference or math.isinf(self.size):
            return 1.0
        return 2 * t_tail(abs(difference) / self.size, self.freedom) if self.size else 0.0


UNKNOWN = _Error(math.inf, 1.0)


def interval(
    form: Form, numerators: ArrayLike, denominators: ArrayLike, level: float = LEVEL
) -> Interval:
    """The interval of a metric of any form, by the method that suits its items.

    Means of zeros, halves and ones are shares (`share_interval`); other means between 0 and 1
    are shares of clusters (`cluster_share_interval`); what else there is, ratios.

    Raises:
        ValueError: see `ratio_interval`.
    """
    n, d = _items(numerators, denominators)
    if form == "mean" and _are_answers(n, d):
        return share_interval(float(n.sum()), len(n), level, int((n == 0.5).sum()))
    if form == "mean" and bool(((n >= 0) & (n <= d)).all()):
        return cluster_share_interval(n, d, level)
    low, high = ratio_interval(n, d, level)
    if form != "mean" and bool((n <= 0).all()):
        high = min(high, 0.0)  # of log-likelihoods: a perplexity of 1, no bits
    ends = form_value(form, low), form_value(form, high)
    return Interval(min(ends), max(ends))


def ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, level: float = LEVEL
) -> Interval:
    """The interval of Σ numerators / Σ denominators, the items resampled.

    R ± t √V, where with w_i = d_i / Σd and s = Σw², V = Σ (n_i - R d_i)² / (Σd)² / (1 - 2 w_i + s)
    is the linearised variance, each square over its expectation (R. M. Bell and D. F. McCaffrey,
    Bias reduction in standard errors for linear regression with multi-stage samples, Survey
    Methodology 28 (2002) 169-181), and t is the quantile of Student's distribution with 1/s - 1
    degrees of freedom, 1/s being the effective number of items (L. Kish, Survey Sampling, 1965,
    section 11.7). Where all denominators are equal, it is Student's interval of a mean. Without
    two items it is unbounded.

    Raises:
        ValueError: a number is not finite, a denominator is negative, or lengths differ.
    """
    n, d = _items(numerators, denominators)
    if not d.any():
        return Interval(-math.inf, math.inf)
    ratio = float(n.sum() / d.sum())
    reach = _ratio_error(n - ratio * d, d).reach(level)
    return Interval(ratio - reach, ratio + reach)


def cluster_share_interval(
    numerators: ArrayLike, denominators: ArrayLike, level: float = LEVEL
) -> Interval:
    """The score interval of a share Σ numerators / Σ denominators of what lies within items, as
    of the tokens of documents.

    Wilson's, for the effective number of trials p(1-p)/V (z/t)², with V and t of `ratio_interval`
    (E. L. Korn and B. I. Graubard, Confidence intervals for proportions with small expected number
    of positive counts estimated from survey data, Survey Methodology 24 (1998) 193-201). Where all
    or none are right, V says nothing, and an item counts as one trial.

    Raises:
        ValueError: a number is not finite, or a numerator lies outside 0 and its denominator.
    """
    n, d = _items(numerators, denominators)
    if bool(((n < 0) | (n > d)).any()):
        raise ValueError("a share of more than all or less than nothing")
    if not d.any():
        return Interval(0.0, 1.0)
    share = min(1.0, float(n.sum() / d.sum()))
    error = _ratio_error(n - share * d, d)
    reach, z = error.reach(level), normal_quantile((1 + level) / 2)
    effective = float(d.sum() ** 2 / (d * d).sum())
    if math.isfinite(reach) and reach > 0:
        trials = share * (1 - share) * (z / reach) ** 2
    else:
        trials = effective
    return share_interval(share * trials, trials, level)


def compare(
    a: ArrayLike,
    b: ArrayLike,
    denominators: ArrayLike,
    form: Form = "mean",
    higher_is_better: bool | None = None,
) -> Comparison:
    """A first model against a second by their numerators `a` and `b` over the same items.

    Zeros, halves and ones of denominator 1 are compared as answers, by McNemar's test
    (`mcnemar`) and the interval of `paired_share_interval`; all else by Student's t of the
    difference of the metrics, its error linearised as in `ratio_interval`. `higher_is_better` is,
    unless given, true of means only.

    Raises:
        ValueError: a number is not finite, a denominator is negative, or lengths differ.
    """
    first, d = _items(a, denominators)
    second, _ = _items(b, denominators)
    better = form == "mean" if higher_is_better is None else higher_is_better
    if form == "mean" and _are_answers(first, d) and _are_answers(second, d):
        return _compare_answers(first - second, better)
    if not d.any():
        return Comparison(0.0, -math.inf, math.inf, 1.0, len(d), math.inf, better)
    x, y = float(first.sum() / d.sum()), float(second.sum() / d.sum())
    if form == "perplexity":
        x, y = max(x, -LARGEST_EXPONENT), max(y, -LARGEST_EXPONENT)
    difference = form_value(form, x) - form_value(form, y)
    influence = _slope(form, x) * (first - x * d) - _slope(form, y) * (second - y * d)
    error = _ratio_error(influence, d)
    reach = error.reach(LEVEL)
    return Comparison(
        difference,
        difference - reach,
        difference + reach,
        error.p(difference),
        len(d),
        smallest_difference(error.size, error.freedom),
        better,
    )


def _compare_answers(differences: Array, higher_is_better: bool) -> Comparison:
    n = len(differences)
    exact, mid = mcnemar(differences)
    return Comparison(
        float(differences.mean()) if n else 0.0,
        *paired_share_interval(differences),
        mid,
        n,
        smallest_share_difference(float((differences**2).sum()), n),
        higher_is_better,
        exact,
    )


def paired_share_interval(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """The interval of the mean of differences of answers, each between -1 and 1.

    The plain one after two made-up items, one won by each side, so that models that never differ
    have a width: D. G. Bonett and R. M. Price, Adjusted Wald confidence interval for a difference
    of binomial proportions based on paired data, J. Educ. Behav. Stat. 37 (2012) 479-488.
    """
    x = _finite(differences)
    n = len(x) + 2
    mean = float(x.sum()) / n
    error = math.sqrt(((float((x * x).sum()) + 2) / n - mean**2) / n)
    reach = normal_quantile((1 + level) / 2) * error
    return Interval(max(-1.0, mean - reach), min(1.0, mean + reach))


def mcnemar(differences: ArrayLike) -> tuple[float, float]:
    """The exact two-sided p and the mid-p of no difference, from differences of answers.

    Only items on which the models differ tell, and each would as well have turned out the other
    way round: Q. McNemar, Note on the sampling error of the difference between correlated
    proportions or percentages, Psychometrika 12 (1947) 153-157. A half that meets a zero or a one
    weighs half. The mid-p counts what is as uneven as the outcome itself by half, and so errs
    about as often as it says: M. W. Fagerland, S. Lydersen and P. Laake, The McNemar test for
    binary matched-pairs data, BMC Med. Res. Methodol. 13 (2013) 91.

    Raises:
        ValueError: a difference is none of -1, -½, 0, ½ and 1.
    """
    halves = 2 * _finite(differences)
    if not np.isin(halves, (-2, -1, 0, 1, 2)).all():
        raise ValueError("differences of answers are -1, -½, 0, ½ or 1")
    ones, twos = int((abs(halves) == 1).sum()), int((abs(halves) == 2).sum())
    spaced = np.zeros(2 * twos + 1)
    spaced[::2] = coin(twos)
    ways = np.convolve(coin(ones), spaced)  # of how many halves the first wins
    distance = np.abs(2 * np.arange(len(ways)) - (ones + 2 * twos))
    seen = abs(int(halves.sum()))
    if not seen:
        return 1.0, 1.0  # nothing is more even
    beyond, same = float(ways[distance > seen].sum()), float(ways[distance == seen].sum())
    return min(1.0, beyond + same), min(1.0, beyond + same / 2)


def smallest_difference(
    error: float, freedom: float = LARGEST_FREEDOM, level: float = LEVEL, power: float = POWER
) -> float:
    """The true difference that a t test with this standard error shows with probability `power`:
    (t of 1 - (1 - level)/2 + t of power) x error (W. G. Cochran and G. M. Cox, Experimental
    Designs, 1957, section 2.2)."""
    if not error or math.isinf(error):
        return error
    return (t_quantile((1 + level) / 2, freedom) + t_quantile(power, freedom)) * error


def smallest_share_difference(
    disagreement: float, n: int, level: float = LEVEL, power: float = POWER
) -> float:
    """The true difference of two accuracies that McNemar's test over `n` items shows with
    probability `power`; `disagreement` is on how many the models differ (squares of differences
    summed, where there are halves).

    The δ with nδ = z √m + z' √(m - nδ²), m the disagreement and z, z' the normal quantiles of
    1 - (1 - level)/2 and of power (R. J. Connor, Sample size for testing differences in proportions
    for the paired-sample design, Biometrics 43 (1987) 207-211). Few disagreements can only all go
    one way; then it is where enough of them for a significant test arise that often. 1 where no
    difference would do.
    """
    if not n:
        return 1.0
    z, other = normal_quantile((1 + level) / 2), normal_quantile(power)
    m = disagreement
    # The root of (nδ - z√m)² = z'²(m - nδ²), a square equation in δ.
    square, linear = n * n + other**2 * n, -2 * n * z * math.sqrt(m)
    constant = (z * z - other**2) * m
    found = (-linear + math.sqrt(max(0.0, linear**2 - 4 * square * constant))) / (2 * square)
    return min(1.0, max(found, _fewest(n, level, power)))


@lru_cache(maxsize=256)
def _fewest(n: int, level: float, power: float) -> float:
    """The rate at which as many of `n` items differ, all in one way, as a mid-p test needs."""
    need = math.ceil(-math.log2(1 - level) + 1e-9)  # 2 · ½ · 2^-need < 1 - level
    if n < need:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        fewer = sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(need))
        low, high = (low, rate) if 1 - fewer > power else (rate, high)
    return high


def holm(p_values: Sequence[float] | Array) -> Array:
    """p-values of several comparisons at once: with each below 5 %, any false one is among them in
    at most 5 % of cases.

    The k-th smallest of m times m - k + 1, none below the one before it, none above 1. S. Holm, A
    simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979) 65-70.

    Raises:
        ValueError: one does not lie between 0 and 1.
    """
    p = _finite(p_values)
    if bool(((p < 0) | (p > 1)).any()):
        raise ValueError("p-values lie between 0 and 1")
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1.0)


def centred(accuracy: float, chance: float) -> float:
    """(accuracy - chance) / (1 - chance): 0 where guessing is, 1 where all is right, as the CORE
    score of J. Li et al., DataComp-LM (2024), arXiv:2406.11794, takes it.

    Raises:
        ValueError: `chance` does not lie from 0 to below 1, or the accuracy is not finite.
    """
    if not (0 <= chance < 1 and math.isfinite(accuracy)):
        raise ValueError(f"an accuracy of {accuracy} with a chance of {chance}")
    return (accuracy - chance) / (1 - chance)


def stderr(values: ArrayLike) -> float:
    """The standard error of a mean as lm-evaluation-harness gives it: √(Σ(x - μ)² / (n - 1)) / √n;
    infinity without two values."""
    x = _finite(values)
    return float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.inf


def _ratio_error(residuals: Array, d: Array) -> _Error:
    """The error of a ratio from its residuals n_i - R d_i: see `ratio_interval`."""
    weights = d / d.sum()
    concentration = float((weights**2).sum())
    expected = 1 - 2 * weights + concentration
    if expected.min() < 1e-12:
        return UNKNOWN  # one item is all there is
    scaled = residuals / d.sum()
    variance = float((scaled**2 / expected).sum())
    return _Error(math.sqrt(variance), max(1.0, 1 / concentration - 1))


def _slope(form: Form, x: float) -> float:
    """The derivative of the form at a ratio `x`."""
    if form == "perplexity":
        return -form_value(form, x)
    return 1.0 if form == "mean" else -1 / math.log(2)


def _finite(values: ArrayLike) -> Array:
    found = np.asarray(values, np.float64)
    if found.ndim != 1:
        raise ValueError(f"one number an item, not the shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("a number is not finite")
    return found


def _items(numerators: ArrayLike, denominators: ArrayLike) -> tuple[Array, Array]:
    n, d = _finite(numerators), _finite(denominators)
    if len(n) != len(d):
        raise ValueError(f"{len(n)} numerators and {len(d)} denominators")
    if bool((d < 0).any()):
        raise ValueError("a denominator is negative")
    return n, d


def _are_answers(n: Array, d: Array) -> bool:
    """Whether items are right, wrong or tied, one each."""
    return bool((d == 1).all() and np.isin(n, (0, 0.5, 1)).all())
