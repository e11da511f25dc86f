"""The plan of a run: made by its settings, kept in its folder, laid out anew where only execution changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longalign.config import LoopSettings, TrainSettings
from longalign.config.plan import plan_settings
from longalign.core.model_shape import SequenceCost
from longalign.core.step_plan import StepPlan, load_plan
from longalign.data.store import TokenStore
from longalign.errors import RunError
from longalign.plan.report import plan
from longalign.train.parallel.placement import place
from longalign.train.run_plan import step_plan
from tests.train.runs import SETTINGS, tiny_store

COST = SequenceCost(linear=3.0, quadratic=0.5)


def plan_of(store: TokenStore, settings: LoopSettings, folder: Path, **more: Any) -> StepPlan:
    """`step_plan` where this process takes part alone."""
    return step_plan(store, settings, place(settings), folder, **more)


def changed(start: LoopSettings = SETTINGS, **changes: Any) -> LoopSettings:
    return LoopSettings(**{**start.model_dump(), **changes})


def test_packing_and_packs_per_step_reach_the_plan_of_a_run(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    packed = changed(strategy="packed", packing="next_fit", packs_per_step=3)
    made = plan_of(store, packed, tmp_path, cost=COST)
    assert (made.rules.packing, made.rules.packs_per_step) == ("next_fit", 3)
    sizes = [sum(len(rank.packs) for rank in step.ranks) for step in made]
    assert max(sizes) <= 3
    for step in made:
        for pack in (pack for rank in step.ranks for pack in rank.packs):
            assert made.lengths_N[list(pack)].sum() <= 64
    assert load_plan(tmp_path / "plan.npz").hash == made.hash


@given(
    strategy=st.sampled_from(["padded", "sorted", "packed", "balanced"]),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "token_limit": st.integers(64, 300),
            "rows_per_microbatch": st.integers(1, 4),
            "parallel": st.sampled_from(["fsdp2", "none"]),
        },
    ),
    at=st.integers(0, 9),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_goes_on_with_the_same_sequences_in_every_step(
    tmp_path_factory: pytest.TempPathFactory, strategy: str, changes: dict[str, Any], at: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    store = tiny_store(folder)
    before = plan_of(store, changed(strategy=strategy), folder, cost=COST)
    present = changed(strategy=strategy, **changes)
    after = plan_of(store, present, folder, cost=COST, from_step=min(at, len(before)))
    fresh = plan_of(store, present, folder / "fresh", cost=COST)
    assert after.sampling_hash == before.sampling_hash == fresh.sampling_hash
    assert after.rules == fresh.rules
    for old, now, new in zip(before, after, fresh, strict=True):
        assert now.ranks == (old if now.index < at else new).ranks
    assert load_plan(folder / "plan.npz").hash == before.hash, "the record of the run's first steps stays"


def test_the_same_settings_go_on_with_the_very_plan(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    before = plan_of(store, SETTINGS, tmp_path, cost=COST)
    after = plan_of(store, changed(save_steps=1, report_to=("wandb",)), tmp_path, cost=COST, from_step=4)
    assert after.hash == before.hash


def test_a_plan_for_other_tokens_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    plan_of(store, SETTINGS, tmp_path, cost=COST)
    moved = store.target_counts.copy()
    moved[[0, 1]] = moved[[1, 0]] + [1, -1]
    with pytest.raises(RunError, match=r"plan\.npz: made for other tokens .*--restart"):
        plan_of(replace(store, target_counts=moved), SETTINGS, tmp_path, cost=COST)


def test_what_plan_says_of_a_run_is_the_plan_that_the_run_follows(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    asked = TrainSettings(window=64, sequences_per_step=6, num_train_epochs=3, packing="next_fit", seed=5)
    planned = plan(plan_settings(asked, model="tiny", machine="cpu", ranks=1, data=(str(store.folder),)))
    followed = plan_of(store, asked, tmp_path, cost=COST)
    assert planned.sampling_hash == followed.sampling_hash
    assert planned.packs.packs == followed.pack_count
