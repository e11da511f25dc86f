"""Packing: everything packed once, never above capacity, as few packs as the textbook algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.packing import best_fit_decreasing, fewest_packs, next_fit
from longalign.errors import PlanError
from tests.core.mixes import longalign_mix
from tests.oracles import planning as oracle

CAPACITY = st.integers(1, 300)
LENGTHS = CAPACITY.flatmap(
    lambda capacity: st.tuples(st.lists(st.integers(1, capacity), min_size=1, max_size=60), st.just(capacity))
)


def contents(packs):
    return [packs.items[a:b].tolist() for a, b in zip(packs.offsets, packs.offsets[1:], strict=False)]


@given(LENGTHS, st.sampled_from([best_fit_decreasing, next_fit]))
def test_every_sequence_is_in_one_pack_and_no_pack_overflows(case, algorithm):
    lengths, capacity = np.array(case[0]), case[1]
    packs = contents(algorithm(lengths, capacity))
    assert sorted(i for pack in packs for i in pack) == list(range(len(lengths)))
    assert all(pack and lengths[pack].sum() <= capacity for pack in packs)


@given(LENGTHS)
def test_best_fit_decreasing_fills_packs_as_the_textbook_does(case):
    lengths, capacity = case
    ours = contents(best_fit_decreasing(np.array(lengths), capacity))
    textbook = oracle.best_fit_decreasing(lengths, capacity)
    fill = lambda packs: sorted(sum(lengths[i] for i in pack) for pack in packs)
    assert fill(ours) == fill(textbook)


@given(LENGTHS)
def test_next_fit_is_the_rule_of_the_paper_with_its_last_pack_kept(case):
    lengths, capacity = case
    assert contents(next_fit(np.array(lengths), capacity)) == oracle.next_fit(lengths, capacity)


@given(st.integers(4, 40).flatmap(lambda c: st.tuples(st.lists(st.integers(1, c), min_size=1, max_size=6), st.just(c))))
def test_the_lower_bound_never_exceeds_the_optimum(case):
    lengths, capacity = case
    best = oracle.fewest_packs(lengths, capacity)
    bound = fewest_packs(np.array(lengths), capacity)
    assert -(-sum(lengths) // capacity) <= bound <= best
    assert len(best_fit_decreasing(np.array(lengths), capacity)) <= 11 / 9 * best + 6 / 9


def test_packs_of_a_long_tailed_mix_are_more_than_998_thousandths_full():
    lengths = longalign_mix(10_000, seed=3)
    packs = best_fit_decreasing(lengths, 65536)
    assert lengths.sum() / (len(packs) * 65536) >= 0.998
    assert len(packs) <= fewest_packs(lengths, 65536) + 1
    assert lengths.sum() / (len(next_fit(lengths, 65536)) * 65536) < 0.9


@pytest.mark.parametrize(
    ("lengths", "words"), [([5, 11], "row 1: 11 tokens do not fit 10"), ([5, 0], "row 1: length 0")]
)
def test_a_length_outside_the_capacity_is_refused_by_row(lengths, words):
    for algorithm in (best_fit_decreasing, next_fit):
        with pytest.raises(PlanError, match=words):
            algorithm(np.array(lengths), 10)


def test_nothing_packs_into_nothing():
    assert len(best_fit_decreasing(np.array([], dtype=int), 10)) == 0
    assert len(next_fit(np.array([], dtype=int), 10)) == 0
    assert fewest_packs(np.array([], dtype=int), 10) == 0
