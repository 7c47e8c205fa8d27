"""Intervals and paired tests do what they say: they cover, do not cry wolf, and find what is there.

Models are drawn at random, with seeds; what is true of them is known, and how often an interval
holds it is counted. 2,000 of them leave a coverage of 95 % an error of half a percent.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest

from pipeline.evaluation.distributions import coin, sign_test, t_quantile, t_tail
from pipeline.evaluation.statistics import (
    Array,
    Comparison,
    Form,
    centred,
    cluster_share_interval,
    compare,
    holm,
    interval,
    mcnemar,
    paired_share_interval,
    ratio_interval,
    share_interval,
    smallest_difference,
    smallest_share_difference,
    stderr,
)

MODELS = 2000
MANY = [pytest.param(n, marks=pytest.mark.slow) for n in (500, 1000)]
NATS = 3.5  # a token, of the synthetic models
FORMS = {"bits": lambda nats: nats / math.log(2), "perplexity": math.exp}


def documents(rng: np.random.Generator, n: int, *means: float) -> tuple[Array, ...]:
    """Log-likelihoods of `n` documents of log-normal lengths by a model a mean, in nats a token,
    and the lengths: documents are easy or hard for all models, and somewhat for each of them."""
    lengths = np.exp(5 + rng.standard_normal(n))
    hard = 0.4 * rng.standard_normal(n)
    models = [
        -lengths * (mean + hard + 0.06 * rng.standard_normal(n))
        + 1.5 * np.sqrt(lengths) * rng.standard_normal(n)
        for mean in means
    ]
    return *models, lengths


def answers(
    rng: np.random.Generator, n: int, differ: float, better: float, ties: float = 0.0
) -> tuple[Array, Array]:
    """Answers of two models to `n` questions: on a share `differ` one alone is right, the first
    more often by `better`; a share `ties` of those is a tie for the other."""
    kind = rng.choice(3, n, p=[(differ + better) / 2, (differ - better) / 2, 1 - differ])
    other = np.where(rng.random(n) < ties, 0.5, 0.0)
    both = rng.integers(0, 2, n).astype(float)
    first, second = (np.where(kind == k, 1, np.where(kind == 1 - k, other, both)) for k in (0, 1))
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bits", "perplexity"])
@pytest.mark.parametrize("n", [12, 62, MANY[0]])
def test_the_interval_of_documents_holds_the_truth(form: Form, n: int) -> None:
    rng = np.random.default_rng(12)
    truth, held = FORMS[form](NATS), 0
    for _ in range(MODELS):
        low, high = interval(form, *documents(rng, n, NATS))
        held += low <= truth <= high
    assert 0.93 <= held / MODELS <= 0.97


@pytest.mark.parametrize("n", [20, 50, 100, 1000])
def test_the_interval_of_an_accuracy_holds_the_truth(n: int) -> None:
    rng = np.random.default_rng(12)
    shares = rng.uniform(0.2, 0.95, MODELS)
    found = [share_interval(k, n) for k in rng.binomial(n, shares)]
    held = [low <= share <= high for share, (low, high) in zip(shares, found, strict=True)]
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize("ties", [0.1, 0.4])
@pytest.mark.parametrize("n", [50, MANY[1]])
def test_the_interval_of_an_accuracy_with_ties_holds_the_truth(n: int, ties: float) -> None:
    rng = np.random.default_rng(12)
    held = 0
    for share in rng.uniform(0.2, 0.75, MODELS):
        right = share - ties / 2 if share > ties / 2 else 0
        tied = 2 * (share - right)
        scores = rng.choice([0, 0.5, 1], n, p=[1 - right - tied, tied, right])
        low, high = interval("mean", scores, np.ones(n))
        held += low <= share <= high
    assert 0.93 <= held / MODELS <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [12, 62, 200])
def test_the_interval_of_a_share_of_tokens_takes_documents_as_the_unit(n: int) -> None:
    rng = np.random.default_rng(12)
    held = 0
    for share in rng.uniform(0.2, 0.8, MODELS):
        tokens = 1 + np.exp(4 + rng.standard_normal(n)).astype(int)
        right = rng.binomial(tokens, rng.beta(share * 30, (1 - share) * 30, n))
        low, high = interval("mean", right, tokens)
        held += low <= share <= high
    assert 0.93 <= held / MODELS <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bits", "perplexity"])
@pytest.mark.parametrize("n", [12, 62, MANY[0]])
def test_equal_models_differ_in_one_comparison_of_twenty(form: Form, n: int) -> None:
    rng = np.random.default_rng(12)
    found = [compare(*documents(rng, n, NATS, NATS), form) for _ in range(MODELS)]
    assert 0.03 <= np.mean([one.significant for one in found]) <= 0.07
    assert all(one.significant != (one.low <= 0 <= one.high) for one in found)


@pytest.mark.parametrize("ties", [0.0, 0.2])
@pytest.mark.parametrize(
    ("n", "differ"), [(100, 0.3), (200, 0.2), pytest.param(1000, 0.1, marks=pytest.mark.slow)]
)
def test_equal_accuracies_differ_in_one_comparison_of_twenty(
    n: int, differ: float, ties: float
) -> None:
    rng = np.random.default_rng(12)
    ones = np.ones(n)
    found = [compare(*answers(rng, n, differ, 0, ties), ones) for _ in range(MODELS)]
    assert 0.03 <= np.mean([one.significant for one in found]) <= 0.07
    assert np.mean([(one.exact or 0) < 0.05 for one in found]) <= 0.055
    assert 0.93 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bits", "perplexity"])
@pytest.mark.parametrize("n", [12, 62, MANY[0]])
def test_the_interval_of_a_difference_holds_the_truth(form: Form, n: int) -> None:
    rng = np.random.default_rng(12)
    truth, held = FORMS[form](NATS) - FORMS[form](NATS + 0.3), 0
    for _ in range(MODELS):
        one = compare(*documents(rng, n, NATS, NATS + 0.3), form)
        held += one.low <= truth <= one.high
    assert 0.93 <= held / MODELS <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [62, MANY[0]])
def test_the_smallest_difference_in_bits_is_found_four_times_of_five(n: int) -> None:
    rng = np.random.default_rng(12)
    equal = [compare(*documents(rng, n, NATS, NATS), "bits").smallest for _ in range(200)]
    worse = NATS + float(np.median(equal)) * math.log(2)
    found = [compare(*documents(rng, n, NATS, worse), "bits").better for _ in range(1000)]
    assert 0.7 <= found.count("first") / 1000 <= 0.9


@pytest.mark.parametrize(
    ("n", "differ"),
    [(50, 0.4), (100, 0.2), (200, 0.1), pytest.param(1000, 0.1, marks=pytest.mark.slow)],
)
def test_the_smallest_difference_of_accuracies_is_found_four_times_of_five(
    n: int, differ: float
) -> None:
    rng = np.random.default_rng(12)
    ones = np.ones(n)
    smallest = smallest_share_difference(differ * n, n)
    found = [compare(*answers(rng, n, differ, smallest), ones).better for _ in range(MODELS)]
    assert 0.7 <= found.count("first") / MODELS <= 0.9


def test_few_disagreements_show_a_difference_only_where_all_could_go_one_way() -> None:
    """Five alone, all one way, are the fewest that a mid-p below 5 % takes."""
    assert mcnemar([1] * 4)[1] > 0.05 > mcnemar([1] * 5)[1]
    rng = np.random.default_rng(12)
    smallest = smallest_share_difference(0, 100)
    shown = rng.binomial(100, smallest, 20_000) >= 5
    assert np.mean(shown) == pytest.approx(0.8, abs=0.01)
    assert smallest_share_difference(0, 3) == smallest_share_difference(0, 0) == 1.0


def test_means_of_equal_denominators_have_students_interval() -> None:
    values = np.array([2.0, 3, 5, 9])
    low, high = ratio_interval(values, np.full(4, 2.0))
    half = 3.182446305 * values.std(ddof=1) / 2 / 2  # t of 0.975 with 3 degrees, from the tables
    assert (low, high) == pytest.approx((values.mean() / 2 - half, values.mean() / 2 + half))


def test_one_long_document_among_short_ones_tells_little() -> None:
    values = np.array([2.0, 3, 5, 9, 4, 4])
    even, uneven = np.ones(6), np.array([1.0, 1, 1, 1, 1, 50])
    widths = [high - low for low, high in (ratio_interval(values * d, d) for d in (even, uneven))]
    assert widths[0] < widths[1]


@pytest.mark.parametrize("form", ["bits", "perplexity"])
def test_too_few_documents_bound_a_score_by_what_is_possible_only(form: Form) -> None:
    best = FORMS[form](0)
    assert interval(form, [-30.0], [10]) == (best, math.inf)
    assert interval(form, [-30.0, 0], [10, 0]) == (best, math.inf)
    assert interval(form, [-30e20, -3], [10e20, 1]) == (best, math.inf)
    assert interval(form, [], [])[1] == math.inf
    for values, lengths in (([-30.0], [10.0]), ([], [])):
        one = compare(values, values, lengths, form)
        assert (one.difference, one.low, one.high) == (0, -math.inf, math.inf)
        assert (one.p, one.smallest, one.better) == (1, math.inf, None)


def test_documents_that_are_all_equal_leave_no_doubt_of_them() -> None:
    assert interval("bits", [-8.0] * 5, [4] * 5) == pytest.approx([2 / math.log(2)] * 2)
    same = compare([-8.0] * 5, [-8.0] * 5, [4] * 5, "perplexity")
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
    other = compare([-8.0] * 5, [-12.0] * 5, [4] * 5, "bits")
    assert other.significant
    assert other.better == "first"


def test_a_perplexity_past_all_floats_is_compared_without_a_nan() -> None:
    rng = np.random.default_rng(12)
    awful = -5000 - rng.standard_normal(20)
    assert interval("perplexity", awful, np.ones(20)) == (math.inf, math.inf)
    for first, second in ((awful, awful - 1), (awful / 2000, awful)):
        one = compare(first, second, np.ones(20), "perplexity")
        numbers = (one.difference, one.low, one.high, one.p, one.smallest)
        assert all(map(math.isfinite, numbers))


@pytest.mark.parametrize("n", [0, 1, 2, 50])
@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_an_accuracy_is_never_certain(n: int, score: float) -> None:
    low, high = interval("mean", np.full(n, score), np.ones(n))
    assert 0 <= low < high <= 1
    assert not n or low <= score <= high
    same = compare(np.full(n, score), np.full(n, score), np.ones(n))
    assert (same.difference, same.p, same.exact) == (0, 1, 1)
    assert -1 <= same.low < 0 < same.high <= 1
    assert same.smallest > 0
    tokens = np.full(n, 100.0)
    low, high = cluster_share_interval(score * tokens, tokens)
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("form", ["mean", "bits", "perplexity"])
def test_the_better_model_is_the_one_with_less_where_less_is_better(form: Form) -> None:
    rng = np.random.default_rng(12)
    good = rng.normal(-1, 0.1, 40)
    one = compare(good, good - 1 + 0.1 * rng.standard_normal(40), np.ones(40), form)
    assert one.better == "first"
    assert (one.difference > 0) == (form == "mean") == one.higher_is_better
    assert compare(good, good - rng.uniform(1, 2, 40), np.ones(40), "mean", False).better == (
        "second"
    )


def test_significance_is_at_five_percent() -> None:
    comparison = Comparison(1.0, 0.1, 1.9, 0.049, 10, 2.0, True)
    assert comparison.significant
    assert not Comparison(1.0, -0.1, 2.1, 0.051, 10, 2.0, True).significant


NOTHING: list[float] = []


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [
        ([math.nan, 1.0], [1.0, 1.0]),
        ([1.0, 1.0], [1.0, math.inf]),
        ([1.0, 1.0], [1.0, -1.0]),
        ([1.0], [1.0, 1.0]),
        ([[1.0]], [[1.0]]),
        (NOTHING, [1.0]),
    ],
)
def test_what_is_no_score_is_refused(numerators: list[float], denominators: list[float]) -> None:
    with pytest.raises(ValueError, match=r"finite|negative|numerators|shape"):
        interval("mean", numerators, denominators)
    with pytest.raises(ValueError, match=r"finite|negative|numerators|shape"):
        compare(np.zeros(len(denominators)), numerators, denominators)


def test_what_is_no_share_or_probability_is_refused() -> None:
    for successes, n in ((3, 2), (-1, 2), (math.nan, 2), (1, math.inf)):
        with pytest.raises(ValueError, match="no share"):
            share_interval(successes, n)
    with pytest.raises(ValueError, match="more than all"):
        cluster_share_interval([3.0], [2.0])
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm([0.5, p])
    for values in (holm, stderr, mcnemar, paired_share_interval):
        with pytest.raises(ValueError, match="finite"):
            values([0.5, math.nan])
    with pytest.raises(ValueError, match="-½"):
        mcnemar([0.3])


@pytest.mark.parametrize(
    ("wins", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.27754),  # published values of the score interval, 95 %
        (1, 10, 0.01788, 0.40415),
        (5, 10, 0.23659, 0.76341),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(wins: int, count: int, low: float, high: float) -> None:
    assert share_interval(wins, count) == pytest.approx((low, high), abs=6e-5)


def test_the_interval_solves_the_equation_it_is_defined_by() -> None:
    z = 1.959963984540054
    for count in (1, 3, 17):
        for wins in range(1, count):
            for bound in share_interval(wins, count):
                error = math.sqrt(bound * (1 - bound) / count)
                assert abs(wins / count - bound) == pytest.approx(z * error)
    assert share_interval(0, 0) == (0.0, 1.0)
    assert share_interval(4, 4)[1] == 1.0


def test_the_sign_test_counts_the_ways_a_coin_falls() -> None:
    assert sign_test(5, 0) == 2 / 32
    assert sign_test(6, 0) == sign_test(0, 6) == 2 / 64
    assert sign_test(1, 1) == sign_test(0, 0) == 1
    assert sign_test(9, 1) == 2 * 11 / 1024


def test_mcnemar_is_the_sign_test_of_what_differs() -> None:
    """With halves, all 2^n ways to swap the models are counted."""
    for wins, losses in ((0, 0), (4, 4), (9, 1), (30, 12), (700, 600)):
        exact, mid = mcnemar(np.repeat([1.0, 0, -1], [wins, 20, losses]))
        assert exact == pytest.approx(sign_test(wins, losses))
        same = coin(wins + losses)[wins]
        assert mid == (pytest.approx(exact - same) if wins != losses else 1)
    differences = np.array([0.5, 1, -0.5, 1, 1, 0.5, -1, 0])
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    sums = abs((signs * differences).sum(1))
    assert mcnemar(differences)[0] == np.mean(sums >= abs(differences.sum()))


@pytest.mark.parametrize(
    ("freedom", "probability", "quantile"),
    [  # from the tables of Student's distribution
        (1, 0.975, 12.7062),
        (2, 0.975, 4.30265),
        (5, 0.95, 2.01505),
        (10, 0.995, 3.16927),
        (30, 0.9, 1.31042),
        (120, 0.975, 1.97993),
        (1e9, 0.975, 1.95996),
    ],
)
def test_students_quantiles_are_the_tables(
    freedom: float, probability: float, quantile: float
) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(quantile, rel=5e-6)
    assert t_tail(t_quantile(probability, freedom), freedom) == pytest.approx(1 - probability)


def test_students_distribution_is_cauchys_and_nearly_the_normal_one_at_its_ends() -> None:
    for t in (0.0, 0.3, 1.0, 7.0, 1000.0):
        assert t_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-9)
        assert t_tail(t, 2.0) == pytest.approx(0.5 - t / math.sqrt(8 + 4 * t * t), rel=1e-8)
    for t in (0.1, 1.0, 3.0):
        assert t_tail(t, 1e8) == pytest.approx(1 - NormalDist().cdf(t), rel=1e-5)
    assert t_quantile(0.975, 1.5) > t_quantile(0.975, 1.6) > t_quantile(0.975, 2)


def test_the_smallest_difference_is_of_two_quantiles() -> None:
    assert smallest_difference(0.5) == pytest.approx(0.5 * (1.959964 + 0.841621), rel=1e-5)
    assert smallest_difference(0.5, 11) == pytest.approx(0.5 * (2.200985 + 0.875530), rel=1e-5)
    assert smallest_difference(0.0) == 0
    assert smallest_difference(math.inf) == math.inf


def test_holm_lets_through_what_step_by_step_rejection_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm(NOTHING).shape == (0,)
    p = np.random.default_rng(12).random((MODELS, 10))
    assert np.mean([holm(row).min() < 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)


def test_a_centred_accuracy_is_0_where_guessing_is() -> None:
    assert centred(0.25, 0.25) == 0
    assert centred(1, 0.5) == 1
    assert centred(0.4, 0.5) == pytest.approx(-0.2)
    for accuracy, chance in ((0.5, 1.0), (0.5, -0.1), (math.nan, 0.5)):
        with pytest.raises(ValueError, match="chance"):
            centred(accuracy, chance)


def test_the_standard_error_is_the_one_of_lm_evaluation_harness() -> None:
    scores = [1.0, 0, 1, 1, 0, 1, 1]
    mean = sum(scores) / 7
    variance = sum((x - mean) ** 2 for x in scores) / 6
    assert stderr(scores) == pytest.approx(math.sqrt(variance) / math.sqrt(7), rel=1e-12)
    assert stderr([1.0]) == stderr(NOTHING) == math.inf
