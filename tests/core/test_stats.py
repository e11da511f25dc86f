"""The statistics agree with scipy's own, with enumeration and with plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from longalign.core import power, stats
from longalign.core.clustered import clustered_mean
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
    if len(set(values)) == 1:
        assert got.low is None
        return
    half = oracle.clustered_error(values, clusters) * scipy_stats.t.ppf(0.975, oracle.freedom(clusters))
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


def test_minimum_detectable_difference_has_the_stated_power_by_simulation() -> None:
    n, deviation = 30, 2.0
    effect = power.minimum_detectable(deviation / math.sqrt(n), n - 1)
    draws = np.random.default_rng(1).normal(effect, deviation, size=(20_000, n))
    p = scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.80, abs=0.01)


def test_questions_needed_inverts_the_minimum_detectable_difference() -> None:
    n = power.questions_needed(0.45, 2.85)
    assert n is not None
    assert 250 <= n <= 490  # 5.76 against 6.21 on LongBench-Chat
    assert power.minimum_detectable(2.85 / math.sqrt(n), n - 1) <= 0.45
    assert power.minimum_detectable(2.85 / math.sqrt(n - 1), n - 2) > 0.45
    assert power.questions_needed(0, 1) is None
    assert power.questions_needed(1e-4, 1) == pytest.approx(7.85e8, rel=0.01)
    assert power.questions_needed(1e-9, 1) is None  # more than anyone could ask


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


scales = st.sampled_from([(1.0, 10.0), (0.0, 1.0), (0.0, 100.0), (1.0, 3.0)])


@given(
    scales.flatmap(lambda s: st.tuples(st.just(s), st.lists(st.floats(*s), min_size=1, max_size=12))), st.integers(1, 4)
)
def test_the_interval_of_a_mean_stays_on_its_scale_and_holds_the_mean(
    case: tuple[tuple[float, float], list[float]], size: int
) -> None:
    (low, high), values = case
    got = stats.mean_interval(values, [n // size for n in range(len(values))], scale=(low, high))
    assert got.low is not None
    assert got.high is not None
    rounding = 1e-6
    assert low - rounding <= got.low <= got.estimate + rounding
    assert got.estimate - rounding <= got.high <= high + rounding


def test_equal_ratings_allow_for_others_that_were_not_drawn() -> None:
    got = stats.mean_interval([10.0] * 5, scale=(1, 10))
    assert got.low == pytest.approx(1 + 9 * 0.025 ** (1 / 5))  # all others would be 1
    assert got.high == 10
    assert stats.mean_interval([10.0] * 5).low is None


def test_a_mean_in_the_middle_of_a_wide_scale_has_nearly_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(50, 5, size=80)
    plain, bounded = stats.mean_interval(values), stats.mean_interval(values, scale=(0, 100))
    assert (bounded.low, bounded.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_values_off_the_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="not on the scale of 1 to 10"):
        stats.mean_interval([0.0, 5.0], scale=(1, 10))


def test_few_large_clusters_leave_few_degrees_of_freedom() -> None:
    x = np.random.default_rng(0).normal(size=60)
    even = clustered_mean(x, [n // 10 for n in range(60)])
    uneven = clustered_mean(x, [0] * 55 + [1, 2, 3, 4, 5])
    assert even.freedom == pytest.approx(5)
    assert uneven.freedom == 1
