"""What the pipeline decides without running anything: arms, checks, what belongs to a recipe, means over seeds."""

from pathlib import Path
from typing import Any

import pytest

from longalign.config import RunSettings
from longalign.config.load import build
from longalign.errors import ConfigError
from longalign.recipe.arms import check, fit_arms, stage_folders
from longalign.recipe.results import over_seeds, results_table

OUT = Path("run")


def recipe(**sections: Any) -> RunSettings:
    data = {name: {"rows": rows, "max_length_tokens": 512} for name, rows in (("short", 600), ("long", 180))}
    arms = {"short": {"data": {"short": 600}}, "long": {"data": {"short": 420, "long": 180, "builtin:chat-0-9": None}}}
    train = {"window": 512, "arms": arms} | sections.pop("train", {})
    return build(RunSettings, {"name": "x", "data": data, "train": train, **sections}, "test")


def test_arms_stay_as_they_are_when_the_documents_gave_enough() -> None:
    settings = recipe()
    assert fit_arms(settings, {"short": 600, "long": 180}) == (settings, [])


def test_arms_shrink_by_one_share_so_that_they_stay_alike() -> None:
    settings, (note,) = fit_arms(recipe(), {"short": 600, "long": 60})
    assert settings.train.arms["short"]["data"] == {"short": 200}
    assert settings.train.arms["long"]["data"] == {"short": 140, "long": 60, "builtin:chat-0-9": None}
    assert note == "the documents gave 60 of 180 long rows; every arm takes 33.3% of the built rows it names"


def test_a_set_that_is_drawn_whole_shrinks_nothing() -> None:
    settings = recipe(train={"arms": {"all": {"data": {"short": None}}}})
    assert fit_arms(settings, {"short": 3, "long": 0}) == (settings, [])


def test_arms_that_share_their_data_shrink_too() -> None:
    settings, notes = fit_arms(recipe(train={"data": {"short": 600}, "arms": {"a": {}, "b": {}}}), {"short": 2})
    assert [arm["data"] for arm in settings.train.arms.values()] == [{"short": 2}, {"short": 2}]
    assert len(notes) == 1


def test_training_data_without_an_arm_or_a_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="no arm trains on it"):
        check(recipe(train={"data": {"short": 3}, "arms": {}}), OUT)
    with pytest.raises(ConfigError, match="seeds is empty"):
        check(recipe(seeds=[]), OUT)


def test_rows_above_the_window_are_refused_unless_the_recipe_says_how_to_cut_them() -> None:
    arms = {"cut": {"data": {"long": 3}}}
    with pytest.raises(ConfigError, match=r"data\.long\.max_length_tokens = 512 .* train\.arms\.cut \(256\)"):
        check(recipe(train={"window": 256, "arms": arms}), OUT)
    check(recipe(train={"window": 256, "overlong": "truncate_right", "arms": arms}), OUT)


def test_the_page_is_about_the_stages_of_this_recipe_only() -> None:
    settings = recipe(seeds=[0, 1], eval={"needle": {}, "short": {}}, train={"arms": {"a": {"data": {"short": 1}}}})
    assert {str(folder.relative_to(OUT)) for folder in stage_folders(settings, OUT)} == {
        *("data/long", "data/short"),
        *("train/a-seed0", "train/a-seed1"),
        *("eval/base/needle", "eval/base/short"),
        *(f"eval/sft-a-seed{seed}/{part}" for seed in (0, 1) for part in ("needle", "short")),
    }
    alone = stage_folders(recipe(extend={}, eval={"chat": {}}, throughput_rows=8), OUT)
    assert {OUT / "extend", OUT / "throughput", OUT / "eval" / "base", OUT / "eval" / "extended"} <= alone


def test_results_are_means_over_seeds_with_every_seed_and_what_has_no_score() -> None:
    runs = {
        "0": {"overall": {"accuracy": 0.5, "questions": 10, "failed": 0}},
        "1": {"overall": {"accuracy": 0.75, "questions": 10, "failed": 2}},
        "2": {"overall": {"accuracy": None, "questions": 10, "failed": 10}},
    }
    by_seed = {"0": 0.5, "1": 0.75, "2": None}
    assert over_seeds(None, runs) == {"accuracy": 0.625, "by_seed": by_seed, "questions": 30, "failed": 12}


def test_needle_results_are_by_length_and_harness_results_by_task() -> None:
    row = {"accuracy": 0.5, "questions": 4}
    untrained = {"None": {"by_length": {"128": row}, "tasks": {"mmlu": row}}}
    assert over_seeds("by_length", untrained) == {"128": row}
    assert over_seeds("tasks", untrained) == {"mmlu": row}


def test_the_table_shows_a_dash_for_what_was_not_measured() -> None:
    results = {
        "needle": {"base": {"128": {"accuracy": 0.25}}},
        "short": {"sft": {"accuracy": 1.0}},
        "longbench": {"sft": {"mean": None, "share": 61.5}},
    }
    heading, base, sft = results_table(results).splitlines()
    assert heading.split() == ["needle", "accuracy", "at", "128", "short", "longbench"]
    assert base.split() == ["base", "0.25", "-", "-"]
    assert sft.split() == ["sft", "-", "1.00", "61.50"]
