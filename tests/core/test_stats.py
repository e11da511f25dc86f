"""The statistics agree with scipy's own, with enumeration and with plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from longalign.core import stats
from tests.oracles import stats as oracle

numbers = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3))
scores = st.lists(numbers, min_size=3, max_size=30)


def spread(values: list[float]) -> bool:
    return float(np.std(values)) > 1e-6


@given(scores.filter(spread))
def test_t_interval_is_scipys(values: list[float]) -> None:
    got = stats.mean_interval(values)
    want = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(numbers, st.integers(0, 4)), min_size=4, max_size=30))
def test_clustered_interval_is_the_sandwich_estimator(pairs: list[tuple[float, int]]) -> None:
    values, clusters = [v for v, _ in pairs], [c for _, c in pairs]
    got = stats.mean_interval(values, clusters)
    groups = len(set(clusters))
    if groups == 1:
        assert got.low is None
        return
    half = oracle.clustered_error(values, clusters) * scipy_stats.t.ppf(0.975, groups - 1)
    assert got.high is not None
    assert got.high - got.estimate == pytest.approx(half, rel=1e-9, abs=1e-9)


@given(scores.filter(spread))
def test_one_value_a_cluster_changes_nothing(values: list[float]) -> None:
    plain, clustered = stats.mean_interval(values), stats.mean_interval(values, range(len(values)))
    assert (plain.low, plain.high) == pytest.approx((clustered.low, clustered.high))


def test_repeating_every_question_does_not_narrow_a_clustered_interval() -> None:
    values = list(np.random.default_rng(0).normal(size=20))
    once = stats.mean_interval(values)
    twice = stats.mean_interval(values + values, [*range(20), *range(20)])
    assert (once.low, once.high) == pytest.approx((twice.low, twice.high))


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(case: tuple[int, int]) -> None:
    k, n = case
    got = stats.wilson_interval(k, n)
    want = scipy_stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=1e-9)


def test_wilson_of_none_right_still_has_a_width() -> None:
    got = stats.wilson_interval(0, 16)
    assert got.low == 0
    assert got.high == pytest.approx(0.1936, abs=1e-4)


def test_bca_agrees_with_the_textbook_steps() -> None:
    values = np.random.default_rng(3).exponential(size=30)
    got = stats.bca_interval(values, np.random.default_rng(1))
    low, high = oracle.bca_mean(values, np.random.default_rng(2), 10_000, 0.95)
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.03)


def test_bca_of_equal_values_is_the_point_and_seed_decides_the_draw() -> None:
    assert stats.bca_interval([2.0] * 9, np.random.default_rng(0)).high == 2.0
    values = np.random.default_rng(3).normal(size=25)
    first, second = (stats.bca_interval(values, np.random.default_rng(7)) for _ in range(2))
    assert first == second


def test_clustered_bca_is_as_wide_as_that_of_the_cluster_means() -> None:
    means = np.random.default_rng(5).normal(size=24)
    each = stats.bca_interval(means, np.random.default_rng(0))
    whole = stats.bca_interval(np.repeat(means, 3), np.random.default_rng(0), np.repeat(range(24), 3).tolist())
    assert (each.low, each.high) == pytest.approx((whole.low, whole.high))


@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=9))
def test_sign_flip_p_is_the_enumerated_one(differences: list[float]) -> None:
    got = stats.sign_flip_p(differences, np.random.default_rng(0))
    assert got == pytest.approx(oracle.sign_flip_p(differences))


def test_drawn_sign_flips_agree_with_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(8).normal(0.4, 1, size=14)
    exact = stats.sign_flip_p(d, np.random.default_rng(0))
    padded = np.concatenate([d, [1e-12]])  # one more, tiny, difference: drawn instead of enumerated
    assert stats.sign_flip_p(padded, np.random.default_rng(0)) == pytest.approx(exact, abs=0.01)


def test_paired_comparison_is_scipys_paired_t_test_and_counts_wins() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(1, 11, size=50).astype(float)
    b = np.clip(a + rng.integers(-2, 4, size=50), 1, 10)
    got = stats.paired_comparison(a, b, np.random.default_rng(0))
    want = scipy_stats.ttest_rel(b, a)
    interval = want.confidence_interval(0.95)
    assert got.t_p == pytest.approx(want.pvalue)
    assert (got.t_low, got.t_high) == pytest.approx((interval.low, interval.high))
    assert (got.wins, got.ties, got.losses) == ((b > a).sum(), (b == a).sum(), (b < a).sum())
    assert got.wins + got.ties + got.losses == got.n == 50


def test_equal_systems_are_never_distinguished() -> None:
    got = stats.paired_comparison([3.0, 4.0, 5.0], [3.0, 4.0, 5.0], np.random.default_rng(0))
    assert (got.difference, got.sign_flip_p, got.ties, got.t_p) == (0, 1.0, 3, None)


def test_unequal_numbers_of_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        stats.paired_comparison([1, 2, 3], [1, 2], np.random.default_rng(0))


def test_minimum_detectable_difference_has_the_stated_power_by_simulation() -> None:
    n, deviation = 30, 2.0
    effect = stats.minimum_detectable(deviation / math.sqrt(n), n - 1)
    draws = np.random.default_rng(1).normal(effect, deviation, size=(20_000, n))
    p = scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.80, abs=0.01)


def test_questions_needed_inverts_the_minimum_detectable_difference() -> None:
    n = stats.questions_needed(0.45, 2.85)
    assert n is not None
    assert 250 <= n <= 490  # 5.76 against 6.21 on LongBench-Chat
    assert stats.minimum_detectable(2.85 / math.sqrt(n), n - 1) <= 0.45
    assert stats.minimum_detectable(2.85 / math.sqrt(n - 1), n - 2) > 0.45
    assert stats.questions_needed(0, 1) is None
    assert stats.questions_needed(1e-4, 1) == pytest.approx(7.85e8, rel=0.01)
    assert stats.questions_needed(1e-9, 1) is None  # more than anyone could ask


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_sum(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert stats.mcnemar_p(b, c) == pytest.approx(min(1.0, 2 * tail))


@settings(max_examples=60)
@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=8), st.floats(0.01, 0.5))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p_values: list[float], alpha: float) -> None:
    adjusted = stats.holm(p_values)
    if all(abs(p - alpha) > 1e-9 for p in adjusted):
        assert [p <= alpha for p in adjusted] == oracle.holm_rejects(p_values, alpha)


def test_rank_correlation_is_scipys_and_none_for_a_constant_judge() -> None:
    rng = np.random.default_rng(0)
    human = rng.integers(1, 11, size=60)
    judge = np.clip(human + rng.integers(-2, 3, size=60), 1, 10)
    got = stats.rank_correlation(judge, human)
    assert got.spearman == pytest.approx(scipy_stats.spearmanr(judge, human).statistic)
    assert got.kendall == pytest.approx(scipy_stats.kendalltau(judge, human).statistic)
    assert got.spearman_low is not None
    assert got.spearman is not None
    assert got.spearman_high is not None
    assert got.spearman_low < got.spearman < got.spearman_high
    assert stats.rank_correlation([5, 5, 5], [1, 2, 3]).spearman is None


def test_spearman_interval_covers_at_the_stated_rate() -> None:
    true, hits = 6 / math.pi * math.asin(0.7 / 2), 0  # population rho of a bivariate normal with r = 0.7
    for trial in range(300):
        pairs = np.random.default_rng(trial).multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=50)
        got = stats.rank_correlation(pairs[:, 0], pairs[:, 1])
        assert got.spearman_low is not None
        assert got.spearman_high is not None
        hits += got.spearman_low <= true <= got.spearman_high
    assert 0.92 <= hits / 300 <= 0.98


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [[1.0]]])
def test_missing_values_are_refused_rather_than_averaged(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="unscored"):
        stats.mean_interval(bad)


@pytest.mark.parametrize(("wins", "losses", "n"), [(3, 5, 100), (0, 21, 44), (1, 0, 44), (16, 4, 80)])
def test_limits_of_paired_shares_are_where_the_score_test_turns(wins: int, losses: int, n: int) -> None:
    low, high = stats.paired_share_interval(wins, losses, n)
    assert low < (wins - losses) / n < high
    z = scipy_stats.norm.ppf(0.975)
    assert oracle.paired_share_score(wins, losses, n, low) == pytest.approx(z, abs=2e-3)
    assert oracle.paired_share_score(wins, losses, n, high) == pytest.approx(-z, abs=2e-3)


def test_ties_alone_prove_little_when_questions_are_few() -> None:
    z2 = scipy_stats.norm.ppf(0.975) ** 2
    for n in (1, 20, 140):
        assert stats.paired_share_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)))
    got = stats.paired_comparison([1.0] * 20, [1.0] * 20, np.random.default_rng(0))
    assert (got.low, got.high) == pytest.approx((-0.161, 0.161), abs=1e-3)
    assert stats.paired_share_interval(0, 7, 7)[0] == -1.0
    assert stats.paired_share_interval(7, 0, 7)[1] == 1.0


def test_limits_of_graded_answers_are_the_bootstraps() -> None:
    got = stats.paired_comparison([1.0, 5.0, 7.0, 3.0], [2.0, 5.0, 9.0, 3.0], np.random.default_rng(0))
    assert (got.low, got.high) == (got.bca_low, got.bca_high)
