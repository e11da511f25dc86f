"""Step plans: every sequence once an epoch under every strategy, the same steps on any rank count, exact resumption."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import longalign
from longalign.core.batching import plan_steps, replan
from longalign.core.gradient_shares import length_bias
from longalign.core.model_shape import SequenceCost
from longalign.core.step_plan import StepPlan
from longalign.core.strategies import STRATEGIES
from longalign.errors import PlanError
from tests.core.mixes import longalign_mix, targets_for

WINDOW = 100
COST = SequenceCost(linear=50.0, quadratic=2.0)
OTHER_COST = SequenceCost(linear=1.0, quadratic=0.0)


@st.composite
def cases(draw):
    """(lengths, targets, arguments) of small plans of every kind."""
    lengths = draw(st.lists(st.integers(1, WINDOW), min_size=1, max_size=80))
    targets = [draw(st.integers(0, length)) for length in lengths]
    sp = draw(st.sampled_from([1, 1, 2]))
    arguments = {
        "window": WINDOW,
        "strategy": draw(st.sampled_from(tuple(STRATEGIES))),
        "ranks": draw(st.integers(1, 5)) * sp,
        "sequence_parallel": sp,
        "sequences_per_step": draw(st.integers(1, 30)),
        "seed": draw(st.integers(0, 3)),
        "epochs": draw(st.integers(1, 3)),
        "rows_per_microbatch": draw(st.integers(1, 4)),
        "sync": draw(st.sampled_from(["microbatch", "step"])),
        "packing": draw(st.sampled_from(["best_fit", "next_fit"])),
        "cost": COST,
    }
    return np.array(lengths), np.array(targets), arguments


def rows_of(step):
    return [row for rank in step.ranks for pack in rank.packs for row in pack]


@given(cases())
def test_every_sequence_is_trained_on_once_an_epoch_and_the_counts_are_right(case):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    seen: dict[int, list[int]] = {epoch: [] for epoch in range(arguments["epochs"])}
    for index, step in enumerate(plan):
        assert step.index == index
        assert step.sequences
        assert sorted(rows_of(step)) == list(step.sequences)
        assert len(step.ranks) == arguments["ranks"] // arguments["sequence_parallel"]
        assert step.target_counts.tolist() == [targets[row] for row in step.sequences]
        assert step.target_count == sum(targets[row] for row in step.sequences)
        assert step.sequence_count == sum(targets[row] > 0 for row in step.sequences)
        assert step.weights("sequence") @ step.target_counts == pytest.approx(1.0 if step.target_count else 0.0)
        seen[step.epoch] += step.sequences
    assert all(sorted(rows) == list(range(len(lengths))) for rows in seen.values())


@given(cases())
def test_no_microbatch_exceeds_its_limit(case):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    capacity = {"packed": WINDOW, "balanced": WINDOW * arguments["sequence_parallel"]}.get(arguments["strategy"])
    for step in plan:
        for rank in step.ranks:
            for pack in rank.packs:
                assert pack
                if capacity is None:
                    assert len(pack) <= arguments["rows_per_microbatch"]
                else:
                    assert lengths[list(pack)].sum() <= capacity


@given(cases())
def test_steps_are_even_so_no_remainder_is_dropped_or_left_as_a_stub(case):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    epoch = [step for step in plan if step.epoch == 0]
    if arguments["strategy"] == "packed":
        sizes = [sum(len(rank.packs) for rank in step.ranks) for step in epoch]
        assert max(sizes) <= plan.rules.packs_per_step
        assert len(epoch) == -(-sum(sizes) // plan.rules.packs_per_step)
    else:
        sizes = [len(step.sequences) for step in epoch]
        assert max(sizes) <= arguments["sequences_per_step"]
        assert len(epoch) == -(-len(lengths) // arguments["sequences_per_step"])
    assert max(sizes) - min(sizes) <= 1


@given(cases())
def test_ranks_have_microbatch_counts_as_even_as_the_strategy_can(case):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    for step in plan:
        counts = [len(rank.packs) for rank in step.ranks]
        assert max(counts) == step.microbatches
        if arguments["strategy"] != "balanced":
            assert max(counts) - min(counts) <= 1


@given(cases(), st.integers(1, 6), st.sampled_from([1, 2]), st.data())
def test_replanning_for_other_ranks_keeps_every_step(case, ranks, sp, data):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    ranks *= sp
    other = replan(plan, ranks=ranks, sequence_parallel=sp)
    direct = arguments | {"ranks": ranks, "sequence_parallel": sp, "packs_per_step": plan.rules.packs_per_step}
    assert other.hash == plan_steps(lengths, targets, **direct).hash
    assert other.sampling_hash == plan.sampling_hash
    assert replan(other, ranks=plan.ranks, sequence_parallel=plan.rules.sequence_parallel).hash == plan.hash

    at = data.draw(st.integers(0, len(plan)))
    resumed = replan(plan, ranks=ranks, sequence_parallel=sp, from_step=at)
    assert resumed.sampling_hash == plan.sampling_hash
    for before, after, new in zip(plan, resumed, other, strict=True):
        assert after.ranks == (before if after.index < at else new).ranks
    again = replan(resumed, ranks=plan.ranks, sequence_parallel=plan.rules.sequence_parallel, from_step=at)
    assert all(a.ranks == b.ranks for a, b in zip(again, plan, strict=True))


@given(cases(), st.integers(1, 3), st.integers(1, 5), st.sampled_from(["microbatch", "step"]), st.data())
def test_replanning_for_other_limits_keeps_every_step_and_is_what_a_new_plan_would_be(case, limit, rows, sync, data):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    changes = {"token_limit": limit * WINDOW, "rows_per_microbatch": rows, "sync": sync, "cost": OTHER_COST}
    other = replan(plan, **changes)
    direct = arguments | changes | {"packs_per_step": plan.rules.packs_per_step}
    assert other.hash == plan_steps(lengths, targets, **direct).hash
    assert other.sampling_hash == plan.sampling_hash
    before = {name: getattr(plan.rules, name) for name in changes}
    assert replan(other, **before).hash == plan.hash

    at = data.draw(st.integers(0, len(plan)))
    resumed = replan(plan, **changes, from_step=at)
    assert resumed.sampling_hash == plan.sampling_hash
    for old, after, new in zip(plan, resumed, other, strict=True):
        assert after.ranks == (old if after.index < at else new).ranks


@given(cases())
def test_replanning_without_a_change_changes_nothing(case):
    lengths, targets, arguments = case
    plan = plan_steps(lengths, targets, **arguments)
    assert replan(plan).hash == plan.hash


@given(case=cases())
@settings(max_examples=25)
def test_a_saved_plan_loads_as_itself(tmp_path_factory, case):
    lengths, targets, arguments = case
    path = tmp_path_factory.mktemp("plan") / "plan.npz"
    plan = plan_steps(lengths, targets, **arguments)
    plan.save(path)
    loaded = StepPlan.load(path)
    assert loaded.hash == plan.hash
    assert loaded.rules == plan.rules
    assert [step.ranks for step in loaded] == [step.ranks for step in plan]
    assert not [other for other in path.parent.iterdir() if other != path]


def test_a_damaged_or_foreign_plan_file_is_refused(tmp_path):
    path = tmp_path / "plan.npz"
    plan_steps([3, 4, 5], window=8, sequences_per_step=2, strategy="padded").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlanError, match="not a readable step plan"):
        StepPlan.load(path)
    at = whole.index(np.array([3, 4, 5], dtype=np.int32).tobytes())
    path.write_bytes(whole[:at] + b"\x07" + whole[at + 1 :])
    with pytest.raises(PlanError, match=r"damaged|not a readable"):
        StepPlan.load(path)
    with pytest.raises(PlanError, match="no such plan file"):
        StepPlan.load(tmp_path / "none.npz")
    np.savez(path, head=np.array([object()], dtype=object))
    with pytest.raises(PlanError, match="not a readable"):
        StepPlan.load(path)


def test_equal_arguments_give_equal_plans_in_every_process_and_another_seed_another_plan():
    code = (
        "import numpy as np; from longalign import plan_steps\n"
        "x = (np.arange(1, 4001) * 7919) % 60000 + 1\n"
        "for s in ('padded', 'sorted', 'packed', 'balanced'):\n"
        "    for seed in (0, 1):\n"
        "        p = plan_steps(x, window=65536, ranks=8, sequences_per_step=96, strategy=s, seed=seed)\n"
        "        print(p.hash, p.sampling_hash)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
        for environment in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"})
    ]
    assert runs[0] == runs[1]
    lines = runs[0].split()
    assert len(lines) == 16
    assert len(set(lines)) >= 14  # padded and balanced draw the same rows: their sampling hashes agree


def test_padded_and_balanced_draw_the_same_random_steps():
    lengths = longalign_mix(2_000)
    plans = [
        plan_steps(lengths, window=65536, ranks=8, sequences_per_step=96, strategy=strategy, seed=5)
        for strategy in ("padded", "balanced")
    ]
    assert plans[0].sampling_hash == plans[1].sampling_hash
    assert plans[0].hash != plans[1].hash


def test_steps_of_balanced_are_uniformly_random_sets():
    rows, per_step, seeds = 24, 6, range(600)
    lengths = np.arange(1, rows + 1) * 4  # length and row number go together: the worst case for a biased order
    in_step = np.zeros((rows, rows // per_step))
    together = np.zeros((rows, rows))
    for seed in seeds:
        plan = plan_steps(
            lengths, window=100, ranks=2, sequences_per_step=per_step, strategy="balanced", seed=seed, cost=COST
        )
        for step in plan:
            chosen = list(step.sequences)
            in_step[chosen, step.index] += 1
            together[np.ix_(chosen, chosen)] += 1
    expected = len(seeds) / (rows // per_step)
    # Each row of the table sums to len(seeds), each column too: (rows - 1) * (steps - 1) degrees of freedom.
    chi2 = float(((in_step - expected) ** 2 / expected).sum()) * (rows - 1) / rows
    p = stats.chi2.sf(chi2, (rows - 1) * (rows // per_step - 1))
    assert 0.001 < p < 0.999
    pairs = together[np.triu_indices(rows, 1)]
    expected_pairs = len(seeds) * (per_step - 1) / (rows - 1)
    spread = float(((pairs - expected_pairs) ** 2).mean() / (expected_pairs * (1 - expected_pairs / len(seeds))))
    assert spread == pytest.approx(1.0, abs=0.35)


def test_consecutive_epochs_are_independent_draws():
    lengths = np.arange(1, 401) % 90 + 1
    plan = plan_steps(lengths, window=100, sequences_per_step=20, strategy="balanced", epochs=2, ranks=4, cost=COST)
    first, second = (
        {row: step.index % 20 for step in plan if step.epoch == e for row in step.sequences} for e in (0, 1)
    )
    same = sum(first[row] == second[row] for row in first)
    assert 5 <= same <= 40  # 20 expected of 400


def test_length_bias_is_measured_sorted_has_it_balanced_does_not():
    lengths = longalign_mix(8_000)
    plan = lambda strategy, seed: plan_steps(
        lengths, window=65536, ranks=8, sequences_per_step=80, strategy=strategy, seed=seed
    )
    ratios = [length_bias(plan("balanced", seed)).variance_ratio for seed in range(30)]
    error = length_bias(plan("balanced", 0)).standard_error
    assert np.mean(ratios) == pytest.approx(1.0, abs=4 * error / np.sqrt(30))
    assert np.std(ratios) == pytest.approx(error, rel=0.5)
    sorted_bias = length_bias(plan("sorted", 0))
    assert sorted_bias.variance_ratio > 70
    assert sorted_bias.within_step_correlation > 0.99
    assert abs(length_bias(plan("balanced", 0)).within_step_correlation) < 0.01


def test_sorted_steps_are_consecutive_lengths_in_random_order():
    lengths = longalign_mix(960)
    plan = plan_steps(lengths, window=65536, sequences_per_step=96, strategy="sorted", seed=1)
    ranges = sorted((lengths[list(step.sequences)].min(), lengths[list(step.sequences)].max()) for step in plan)
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))
    starts = [lengths[list(step.sequences)].min() for step in plan]
    assert starts != sorted(starts)


def test_any_step_is_found_without_walking_to_it():
    lengths = longalign_mix(5_000)
    plan = plan_steps(lengths, targets_for(lengths), window=65536, ranks=8, sequences_per_step=96, strategy="balanced")
    walked = list(plan)
    assert len(plan) == len(walked) == 53
    for index in (0, 17, 52, -1):
        assert plan[index].ranks == walked[index].ranks
        assert plan[index].sequences == walked[index].sequences
    assert [step.index for step in plan[50:]] == [50, 51, 52]
    with pytest.raises(IndexError, match="plan of 53 steps"):
        plan[53]


def test_the_public_names_are_these_functions():
    assert longalign.plan_steps is plan_steps
    assert longalign.StepPlan is StepPlan


GOOD = {"window": 100, "sequences_per_step": 4, "strategy": "padded"}


@pytest.mark.parametrize(
    ("lengths", "targets", "changes", "words"),
    [
        ([], None, {}, "non-empty"),
        ([[1, 2]], None, {}, "flat"),
        ([1.5], None, {}, "whole token counts"),
        ([5, 101], None, {}, "row 1: 101 tokens do not fit 100"),
        ([5, 0], None, {}, "row 1: length 0"),
        ([5, 6], [5], {}, "2 whole counts"),
        ([5, 6], [5, 7], {}, "row 1: 7 targets in 6 tokens"),
        ([5], None, {"strategy": "pack"}, "strategy: unknown 'pack'"),
        ([5], None, {"ranks": 0}, "ranks: 0"),
        ([5], None, {"sequences_per_step": 0}, "sequences_per_step: 0"),
        ([5], None, {"ranks": 3, "sequence_parallel": 2}, "does not divide 3 ranks"),
        ([50], None, {"strategy": "balanced", "token_limit": 20}, "50 tokens do not fit 20"),
        ([50], None, {"epochs": 0}, "epochs: 0"),
    ],
)
def test_impossible_plans_are_refused_by_name(lengths, targets, changes, words):
    with pytest.raises(PlanError, match=words):
        plan_steps(lengths, targets, **(GOOD | changes))


def test_replanning_onto_impossible_ranks_is_refused():
    plan = plan_steps([1, 2, 3], **GOOD)
    with pytest.raises(PlanError, match="groups of 2"):
        replan(plan, ranks=3, sequence_parallel=2)
    with pytest.raises(PlanError, match="outside"):
        replan(plan, ranks=2, from_step=9)
    with pytest.raises(PlanError, match="rows_per_microbatch 0"):
        replan(plan, rows_per_microbatch=0)
    balanced = plan_steps([10, 20, 30], **(GOOD | {"strategy": "balanced"}))
    with pytest.raises(PlanError, match="row 2: 30 tokens do not fit 20"):
        replan(balanced, token_limit=20)
    assert replan(balanced, ranks=2, sequence_parallel=2, token_limit=20).sampling_hash == balanced.sampling_hash
