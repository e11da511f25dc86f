"""Weights: Eq. 4 is Eq. 2 in every packing, each step's weights are normalised, plain packing is something else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from longalign.core.batching import plan_steps, replan
from longalign.core.weighting import WEIGHTINGS, WeightSchedule, sequence_weights
from longalign.errors import ConfigError
from tests.oracles import planning as oracle

COUNTS = st.lists(st.integers(0, 5000), min_size=1, max_size=40)


@st.composite
def packed_losses(draw):
    """Target counts, summed losses as fractions, and a random packing."""
    targets = draw(st.lists(st.integers(0, 50), min_size=1, max_size=10))
    assume(any(targets))
    losses = [Fraction(draw(st.integers(1, 999)), draw(st.integers(1, 99))) if n else Fraction(0) for n in targets]
    pack_of = [draw(st.integers(0, 3)) for _ in targets]
    packs = [[i for i, p in enumerate(pack_of) if p == k] for k in sorted(set(pack_of))]
    return targets, losses, packs


@given(packed_losses())
def test_equation_4_equals_equation_2_exactly_whatever_the_packing(case):
    targets, losses, packs = case
    assert oracle.equation_4(losses, targets, packs) == oracle.equation_2(losses, targets)


@given(packed_losses())
def test_sequence_weights_compute_equation_2(case):
    targets, losses, _ = case
    weights = sequence_weights(targets, "sequence")
    ours = sum(w * float(loss) for w, loss in zip(weights, losses, strict=True))
    assert ours == pytest.approx(float(oracle.equation_2(losses, targets)), rel=1e-12)


def test_equation_4_equals_equation_2_as_formulas():
    L, N = sympy.symbols("L:4", real=True), sympy.symbols("N:4", positive=True)
    M, packs = sympy.Integer(4), [[0, 3], [1], [2]]
    K = sympy.Integer(len(packs))
    equation_2 = sum(L[i] / N[i] for i in range(4)) / M
    equation_3 = sum(sum(L[i] for i in pack) / sum(N[i] for i in pack) for pack in packs) / K
    equation_4 = sum(sum(K / (N[i] * M) * L[i] for i in pack) for pack in packs) / K
    assert sympy.simplify(equation_4 - equation_2) == 0
    assert sympy.simplify(equation_3 - equation_2) != 0
    broken = sum(sum(1 / (N[i] * M) * L[i] for i in pack) for pack in packs) / K  # the factor K forgotten
    assert sympy.simplify(broken - equation_2) != 0


def test_plain_packing_is_another_objective():
    targets, packs = [1, 9, 10], [[0, 1], [2]]
    losses = [Fraction(10), Fraction(9), Fraction(10)]
    assert oracle.equation_2(losses, targets) == 4
    assert oracle.equation_3(losses, targets, packs) == Fraction(29, 20)


@given(packed_losses())
def test_plain_packing_computes_equation_3(case):
    targets, losses, packs = case
    number_of = {i: k for k, pack in enumerate(packs) for i in pack}
    numbers = [number_of[i] for i in range(len(targets))]
    weights = sequence_weights(targets, "plain_packing", numbers)
    with_targets = [pack for pack in packs if any(targets[i] for i in pack)]
    expected = oracle.equation_3(losses, targets, with_targets)
    assert float(weights @ np.array(losses, dtype=float)) == pytest.approx(float(expected), rel=1e-12)


def test_plain_packing_without_packs_is_refused():
    with pytest.raises(ConfigError, match="depends on packs"):
        sequence_weights([1, 2], "plain_packing")


@given(COUNTS, st.sampled_from(tuple(WEIGHTINGS)), st.integers(1, 5))
def test_weights_times_targets_sum_to_one_and_rows_without_targets_weigh_nothing(counts, mode, packs):
    weights = sequence_weights(counts, mode, np.arange(len(counts)) % packs)
    assert weights.dtype == np.float64
    assert weights.shape == (len(counts),)
    assert (weights[np.array(counts) == 0] == 0).all()
    assert float(weights @ np.array(counts, dtype=float)) == pytest.approx(1.0 if any(counts) else 0.0, rel=1e-12)


def test_each_mode_is_its_formula():
    counts = np.array([4, 0, 16])
    assert sequence_weights(counts, "sequence").tolist() == [1 / 8, 0, 1 / 32]
    assert sequence_weights(counts, "token").tolist() == [1 / 20, 0, 1 / 20]
    assert sequence_weights(counts, "sqrt") == pytest.approx([1 / 12, 0, 1 / 24])


def test_a_schedule_switches_at_its_step():
    counts = [3, 12]
    schedule = WeightSchedule("token", "sequence", switch=7)
    assert schedule.weights(counts, 6) == pytest.approx(sequence_weights(counts, "token"))
    assert schedule.weights(counts, 7) == pytest.approx(sequence_weights(counts, "sequence"))
    assert WeightSchedule("token", "sqrt").weights(counts, 0) == pytest.approx(sequence_weights(counts, "sqrt"))


@pytest.mark.parametrize("mode", ["tokens", "mean", "token->sequence"])
def test_an_unknown_weighting_is_refused(mode):
    with pytest.raises(ConfigError, match="weighting"):
        sequence_weights([1, 2], mode)


def test_counts_below_zero_are_refused():
    with pytest.raises(ConfigError, match=">= 0"):
        sequence_weights([3, -1], "token")


def test_plain_packing_weighs_alike_on_any_number_of_ranks():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 40)
    plan = plan_steps(lengths, lengths // 2, window=64, ranks=1, sequences_per_step=10, strategy="packed", seed=3)
    for ranks in (2, 4):
        other = replan(plan, ranks=ranks)
        for step, same in zip(plan, other, strict=True):
            assert step.sequences == same.sequences
            assert step.weights("plain_packing") == pytest.approx(same.weights("plain_packing"), rel=1e-12)
