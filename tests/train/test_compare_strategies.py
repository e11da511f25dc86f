"""Batching strategies are timed on the same rows, each over all of them once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.config import TrainSettings
from longalign.core.step_plan import load_plan
from longalign.data.source import read_rows
from longalign.data.store import TokenStore
from longalign.train.compare_strategies import measure
from tests.makers.rows import make_inputs

pytestmark = pytest.mark.slow
STRATEGIES = ("padded", "sorted", "packed", "balanced")


def settings(place: Path, **more: Any) -> TrainSettings:
    values = {
        "model": str(place / "model"),
        "data": {str(place / "rows.jsonl"): 20, "builtin:chat-0-8": None},
        "window": 96,
        "sequences_per_step": 8,
        "num_train_epochs": 3,
        "max_steps": 1,
        "learning_rate": 5e-3,
        "save_steps": 100,
    }
    return TrainSettings(**(values | more))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_inputs(tmp_path_factory.mktemp("throughput"))
    measure(settings(place), place / "out", rows=14)
    return place


def test_every_strategy_sees_the_same_rows_and_tokens(place: Path) -> None:
    results = json.loads((place / "out" / "results.json").read_text())
    store = TokenStore.open(place / "out" / "tokens")
    assert tuple(results) == STRATEGIES
    assert {(row["rows"], row["tokens"]) for row in results.values()} == {(14, int(store.lengths.sum()))}
    for strategy in STRATEGIES:
        metrics = [row for row in read_jsonl(place / "out" / strategy / "metrics.jsonl") if "loss" in row]
        assert sum(row["target_tokens"] for row in metrics) == int(store.target_counts.sum())


def test_each_takes_one_epoch_whatever_the_recipe_trains(place: Path) -> None:
    for strategy in STRATEGIES:
        plan = load_plan(place / "out" / strategy / "plan.npz")
        assert plan.rules.strategy == strategy
        assert sorted(row for step in plan for row in step.sequences) == list(range(14))


def test_padded_batches_hold_several_rows_so_that_padding_shows(place: Path) -> None:
    plan = load_plan(place / "out" / "padded" / "plan.npz")
    assert max(len(pack) for step in plan for rank in step.ranks for pack in rank.packs) > 1


def test_files_take_part_in_proportion_to_what_the_arm_draws_of_them(place: Path) -> None:
    rows = list(read_rows(place / "out" / "rows.jsonl"))
    chats = sum(row["source"] == "builtin:short" for row in rows)
    assert (len(rows) - chats, chats) == (10, 4)
    assert len({row["id"] for row in rows}) == 14


def test_a_finished_measurement_is_not_repeated(place: Path) -> None:
    before = (place / "out" / "results.json").stat().st_mtime_ns
    again = measure(settings(place), place / "out", rows=14)
    assert again == json.loads((place / "out" / "results.json").read_text())
    assert (place / "out" / "results.json").stat().st_mtime_ns == before


def test_more_rows_than_there_are_means_all_of_them(place: Path) -> None:
    results = measure(settings(place, data={"builtin:chat-0-5": None}), place / "all", rows=100)
    assert {row["rows"] for row in results.values()} == {5}
