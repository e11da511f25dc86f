"""Interval and p of a paired comparison come from one test, agree, and are right at the stated rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats

from longalign.core import paired
from tests.oracles import stats as oracle

TRIALS = 500


@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=9))
def test_sign_flip_p_is_the_enumerated_one(differences: list[float]) -> None:
    got = paired.sign_flip_p(differences, np.random.default_rng(0))
    assert got == pytest.approx(oracle.sign_flip_p(differences))


def test_drawn_sign_flips_agree_with_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    d = np.random.default_rng(8).normal(0.4, 1, size=14)
    exact = paired.sign_flip_p(d, np.random.default_rng(0))
    padded = np.concatenate([d, [1e-12]])  # one more, tiny, difference: drawn instead of enumerated
    assert paired.sign_flip_p(padded, np.random.default_rng(0)) == pytest.approx(exact, abs=0.01)


def test_paired_comparison_is_scipys_paired_t_test_and_counts_wins() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(1, 11, size=50).astype(float)
    b = np.clip(a + rng.integers(-2, 4, size=50), 1, 10)
    got = paired.paired_comparison(a, b, np.random.default_rng(0))
    want = scipy_stats.ttest_rel(b, a)
    interval = want.confidence_interval(0.95)
    assert want.pvalue <= got.p < want.pvalue + 0.002
    assert got.low is not None
    assert got.high is not None
    assert interval.low - 0.1 < got.low <= interval.low + 1e-9
    assert interval.high - 1e-9 <= got.high < interval.high + 0.1
    assert (got.wins, got.ties, got.losses) == ((b > a).sum(), (b == a).sum(), (b < a).sum())
    assert got.wins + got.ties + got.losses == got.n == 50


def test_equal_systems_are_never_distinguished() -> None:
    got = paired.paired_comparison([3.0, 4.0, 5.0], [3.0, 4.0, 5.0], np.random.default_rng(0))
    assert (got.difference, got.p, got.sign_flip_p, got.ties) == (0, 1.0, 1.0, 3)
    assert got.low == pytest.approx(-2 * (1 - 0.025 ** (1 / 3)))  # values of 3 to 5 differ by 2 at most


def test_unequal_numbers_of_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        paired.paired_comparison([1, 2, 3], [1, 2], np.random.default_rng(0))


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_sum(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert paired.mcnemar_p(b, c) == pytest.approx(min(1.0, 2 * tail))


@pytest.mark.parametrize(("wins", "losses", "n"), [(3, 5, 100), (0, 21, 44), (1, 0, 44), (16, 4, 80)])
def test_limits_of_paired_shares_are_where_the_score_test_turns(wins: int, losses: int, n: int) -> None:
    low, high = paired.paired_share_interval(wins, losses, n)
    assert low < (wins - losses) / n < high
    z = scipy_stats.norm.ppf(0.975)
    assert oracle.paired_share_score(wins, losses, n, low) == pytest.approx(z, abs=2e-3)
    assert oracle.paired_share_score(wins, losses, n, high) == pytest.approx(-z, abs=2e-3)


def test_ties_alone_prove_little_when_questions_are_few() -> None:
    z2 = scipy_stats.norm.ppf(0.975) ** 2
    for n in (1, 20, 140):
        assert paired.paired_share_interval(0, 0, n) == pytest.approx((-z2 / (n + z2), z2 / (n + z2)))
    got = paired.paired_comparison([1.0] * 20, [1.0] * 20, np.random.default_rng(0))
    assert (got.low, got.high) == pytest.approx((-0.161, 0.161), abs=1e-3)
    assert paired.paired_share_interval(0, 7, 7)[0] == -1.0
    assert paired.paired_share_interval(7, 0, 7)[1] == 1.0


ratings = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10), st.integers(0, 5)), min_size=1, max_size=25)
rights = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=25)


@given(ratings | rights, st.booleans(), st.sampled_from([None, (0.0, 10.0)]), st.sampled_from([0.9, 0.95, 0.99]))
def test_p_is_below_the_level_exactly_where_the_interval_excludes_0(
    rows: list[tuple[int, int, int]], clustered: bool, scale: tuple[float, float] | None, confidence: float
) -> None:
    a, b, clusters = ([float(row[k]) for row in rows] for k in range(3))
    rng = np.random.default_rng(0)
    got = paired.paired_comparison(a, b, rng, clusters if clustered else None, confidence, scale)
    if got.low is None or got.high is None:
        assert got.p == 1
    elif abs(got.p - (1 - confidence)) > 1e-9:
        assert (got.p < 1 - confidence) == (got.low > 0 or got.high < 0)
    if got.low is not None and got.high is not None:
        assert got.low - 1e-9 <= got.difference <= got.high + 1e-9
        if scale:
            assert -10 <= got.low <= got.high <= 10


@given(ratings)
def test_swapping_the_systems_turns_the_interval_around(rows: list[tuple[int, int, int]]) -> None:
    a, b, clusters = ([float(row[k]) for row in rows] for k in range(3))
    forth = paired.paired_comparison(a, b, np.random.default_rng(0), clusters)
    back = paired.paired_comparison(b, a, np.random.default_rng(0), clusters)
    assert forth.p == pytest.approx(back.p)
    if forth.low is None or forth.high is None:
        assert back.low is None
        return
    assert back.low is not None
    assert back.high is not None
    assert (-back.high, -back.low) == pytest.approx((forth.low, forth.high), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_limits_of_skewed_differences_are_where_the_wider_of_two_tests_turns(seed: int) -> None:
    d = np.random.default_rng(seed).exponential(1.5, size=30)
    got = paired.mean_difference(d, bounded=False)
    assert got.low is not None
    assert got.high is not None
    found = [
        optimize.brentq(lambda m: oracle.skewed_t_p(d - m) - 0.05, *ends) for ends in ((-9, d.mean()), (d.mean(), 9))
    ]
    assert (got.low, got.high) == pytest.approx(found, abs=1e-6)
    assert got.p == pytest.approx(oracle.skewed_t_p(d))


def test_equal_differences_are_as_sure_as_the_number_of_questions_allows() -> None:
    a = [3.0] * 4
    few = paired.paired_comparison(a, [4.0] * 4, np.random.default_rng(0), scale=(1, 10))
    many = paired.paired_comparison(a * 20, [4.0] * 80, np.random.default_rng(0), scale=(1, 10))
    assert few.p == 1.0
    assert few.low is not None
    assert few.low < 0
    assert many.p == pytest.approx(2 * 0.9**80)
    assert many.low is not None
    assert many.low > 0


def test_two_systems_of_one_constant_value_say_nothing_without_a_scale() -> None:
    got = paired.paired_comparison([7.0] * 9, [7.0] * 9, np.random.default_rng(0))
    assert (got.low, got.high, got.p) == (None, None, 1.0)


def coverage(draw: Callable[[np.random.Generator], tuple[np.ndarray, list[int] | None]], mean: float) -> float:
    hits = 0
    for trial in range(TRIALS):
        d, clusters = draw(np.random.default_rng([trial, 1]))
        got = paired.mean_difference(d, clusters, bounded=False)
        hits += got.low is not None and got.high is not None and got.low <= mean <= got.high
    return hits / TRIALS


def test_intervals_hold_the_truth_at_the_stated_rate_also_for_few_clusters_and_skewed_differences() -> None:
    """Three of the cases of benchmarks/coverage.py, with fewer trials."""
    clusters = [n // 5 for n in range(50)]
    noise = 4 * math.sqrt(0.95 * 0.05 / TRIALS)
    few = coverage(lambda rng: (np.repeat(rng.normal(size=10), 5) + rng.normal(size=50), clusters), 0.0)
    skewed = coverage(lambda rng: (rng.exponential(size=50), None), 1.0)
    sparse = coverage(lambda rng: (np.where(rng.random(50) < 0.1, rng.exponential(size=50), 0.0), None), 0.1)
    for found in (few, skewed, sparse):
        assert 0.93 - noise <= found <= 0.98 + noise
