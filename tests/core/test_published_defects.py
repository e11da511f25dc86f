"""The planning defects of the paper's published code, one by one: none of them happens here."""

from __future__ import annotations

import numpy as np
import pytest

from longalign.core.batching import plan_steps
from longalign.core.packing import next_fit
from longalign.core.weighting import sequence_weights
from longalign.errors import PlanError
from tests.core.mixes import longalign_mix, targets_for


def published_packing(lengths, capacity, ranks):
    """What the published code keeps: a pack is stored when the next row does not fit, rows above the capacity vanish,
    the pack still open at the end vanishes, and packs are cut to a multiple of the ranks.
    """
    packs, open_pack, used = [], [], 0
    for row, length in enumerate(lengths):
        if length > capacity:
            continue
        if used + length > capacity:
            packs.append(open_pack)
            open_pack, used = [], 0
        open_pack.append(row)
        used += length
    return packs[: len(packs) // ranks * ranks]


def test_the_last_open_pack_is_kept():
    lengths = [40, 40, 40]
    assert [row for pack in published_packing(lengths, 100, 1) for row in pack] == [0, 1]
    packs = next_fit(np.array(lengths), 100)
    assert packs.items.tolist() == [0, 1, 2]
    assert packs.offsets.tolist() == [0, 2, 3]


def test_an_over_long_row_is_never_dropped_in_silence():
    lengths = [40, 101, 40]
    assert 1 not in [row for pack in published_packing([*lengths, 90], 100, 1) for row in pack]
    for strategy in ("padded", "sorted", "packed", "balanced"):
        with pytest.raises(PlanError, match="row 1: 101 tokens"):
            plan_steps(lengths, window=100, sequences_per_step=2, strategy=strategy)


@pytest.mark.parametrize("packing", ["best_fit", "next_fit"])
def test_packs_that_the_ranks_do_not_divide_all_run(packing):
    lengths = longalign_mix(500, seed=2)
    kept = {row for pack in published_packing(lengths.tolist(), 65536, 8) for row in pack}
    assert len(kept) < 500
    plan = plan_steps(lengths, window=65536, ranks=8, sequences_per_step=96, strategy="packed", packing=packing)
    assert plan.pack_count % 8 != 0
    rows = [row for step in plan for rank in step.ranks for pack in rank.packs for row in pack]
    assert sorted(rows) == list(range(500))


def test_any_window_works_not_only_65536():
    for window in (70, 4_000, 100_000, 1_000_003):
        lengths = np.random.default_rng(window).integers(1, window + 1, 200)
        plan = plan_steps(lengths, window=window, ranks=2, sequences_per_step=16, strategy="packed")
        tokens = np.add.reduceat(lengths[plan.rows_X], plan.pack_rows_P1[:-1])
        assert tokens.max() <= window
        assert len(plan.rows_X) == 200


def test_the_first_steps_are_steps_like_all_others():
    """The published code halves its first 32 packs and doubles their weights."""
    lengths = longalign_mix(3_000)
    targets = targets_for(lengths)
    plan = plan_steps(lengths, targets, window=65536, ranks=8, sequences_per_step=96, strategy="packed")
    full = [lengths[list(pack)].sum() / 65536 for step in plan[:4] for rank in step.ranks for pack in rank.packs]
    assert np.mean(full) > 0.95
    for step in plan:
        assert step.weights("sequence") @ step.target_counts == pytest.approx(1.0, rel=1e-12)


def test_weights_stay_exact_with_several_microbatches_per_rank_and_several_ranks():
    """Published weights are per pack of one device: exact only for one row a device, no accumulation, one node."""
    lengths = longalign_mix(960)
    targets = targets_for(lengths)
    for ranks in (1, 2, 8, 16):
        plan = plan_steps(lengths, targets, window=65536, ranks=ranks, sequences_per_step=96, strategy="balanced")
        for step in plan:
            whole = dict(zip(step.sequences, sequence_weights(targets[list(step.sequences)], "sequence"), strict=True))
            summed = sum(
                whole[row] * targets[row] for rank in step.ranks for pack in rank.packs for row in pack
            )  # every rank and microbatch with the weights of the step
            assert summed == pytest.approx(1.0, rel=1e-12)
            assert set(np.round([whole[r] * targets[r] for r in step.sequences], 12)) == {round(1 / 96, 12)}


def test_lengths_come_from_the_data_not_from_a_search_for_a_pad_id():
    """A plan knows rows by number and length only; ids are never looked at, so no id can mislead it."""
    plan = plan_steps([3, 5], window=8, sequences_per_step=2, strategy="packed")
    assert plan.lengths_N.tolist() == [3, 5]
    assert plan[0].ranks[0].packs in (((0, 1),), ((1, 0),))
