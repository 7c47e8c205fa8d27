"""The distributions that intervals and tests rest on: the normal one, Student's and a coin's; with
what needs no more than these, the interval of a share and the sign test. Never imports numpy, so
that a screen shows votes without waiting for it.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

LEVEL = 0.95  # of intervals; 1 - LEVEL is the rate of false differences
LARGEST_FREEDOM = 1e6  # degrees; Student's t is the normal distribution from here on


class Interval(NamedTuple):
    """What holds the true value with the probability of its level; infinite where nothing is
    known of a side."""

    low: float
    high: float


def share_interval(successes: float, n: float, level: float = LEVEL, halves: float = 0) -> Interval:
    """The score interval of a share of `n` items; `successes` may count halves.

    With p = successes/n and z the normal quantile of (1 + level)/2, it is
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). E. B. Wilson, Probable inference, the law of
    succession, and statistical inference, JASA 22 (1927) 209-212. It stays within 0 and 1, and has
    a width where all or none are right; without items it is all there is from 0 to 1. Of the
    successes, `halves` came as halves, which vary less: n counts for more by as much as the
    variance p(1-p) falls, by h/4n, and for 2n at most, as if an item were two trials.

    Raises:
        ValueError: `successes` does not lie between 0 and `n`.
    """
    if not 0 <= successes <= n < math.inf:
        raise ValueError(f"{successes} successes of {n} are no share")
    if not n:
        return Interval(0.0, 1.0)
    z = normal_quantile((1 + level) / 2)
    share = successes / n
    variance = share * (1 - share)
    if halves:
        n *= variance / max(variance / 2, variance - halves / (4 * n))
    squared = z * z / n
    middle = share + squared / 2
    reach = z * math.sqrt(variance / n + squared / (4 * n))
    low, high = (middle - reach) / (1 + squared), (middle + reach) / (1 + squared)
    return Interval(min(share, max(0.0, low)), max(share, min(1.0, high)))


def sign_test(wins: int, losses: int) -> float:
    """The probability of a split at least this uneven where both are equally good: the exact
    two-sided sign test (W. J. Dixon and A. M. Mood, JASA 41 (1946) 557-566)."""
    return min(1.0, 2 * sum(coin(wins + losses)[: min(wins, losses) + 1]))


def coin(n: int) -> list[float]:
    """How likely each number of heads in `n` throws is, from 0 to n, rounded but once."""
    ways, outcomes = 1, 1 << n
    found = []
    for heads in range(n // 2 + 1):
        found.append(ways / outcomes)
        ways = ways * (n - heads) // (heads + 1)
    return found + found[: (n + 1) // 2][::-1]


def normal_quantile(probability: float) -> float:
    """What a standard normal number falls below with this probability."""
    return NormalDist().inv_cdf(probability)


def t_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's distribution for t ≥ 0: ½ I_x(ν/2, ½) at x = ν / (ν + t²), the
    regularised incomplete beta function (M. Abramowitz and I. Stegun, 1964, 26.7.1)."""
    if freedom >= LARGEST_FREEDOM:
        return math.erfc(t / math.sqrt(2)) / 2
    whole = freedom + t * t
    return _incomplete_beta(freedom / 2, 0.5, freedom / whole, t * t / whole) / 2


@lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """Student's t below which a share `probability`, from ½ to below 1, lies; by Newton's method
    from the normal quantile, which lies below it, so that no step goes too far."""
    t, nu = normal_quantile(probability), freedom
    if nu >= LARGEST_FREEDOM:
        return t
    scale = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    for _ in range(100):
        density = math.exp(scale - (nu + 1) / 2 * math.log1p(t * t / nu))
        step = (t_tail(t, nu) - (1 - probability)) / density
        t += step
        if abs(step) <= 1e-12 * (1 + t):
            break
    return t


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b), `rest` being 1 - x, by the continued fraction 26.5.8 of Abramowitz and Stegun,
    evaluated by Lentz's method."""
    if x <= 0 or rest <= 0:
        return float(rest <= 0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, rest, x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + step * d), 1 + step / c
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * fraction / a
