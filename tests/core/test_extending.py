"""docs/guide/extend-it.md is true: a strategy and a weighting are one function and one line each, everywhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longalign.config import PlanSettings, TrainSettings
from longalign.config.load import build
from longalign.core.batching import plan_steps, replan
from longalign.core.strategies import STRATEGIES
from longalign.core.weighting import WEIGHTINGS, sequence_weights
from longalign.errors import ConfigError, PlanError
from longalign.plan.report import plan
from longalign.plan.text import plan_text
from tests.core.mixes import longalign_mix

MODULE = '''
import numpy as np

from longalign.core.order import even_sizes, shuffled
from longalign.core.strategies import STRATEGIES, Batching, Drawn
from longalign.core.weighting import WEIGHTINGS, Weighting


def short_first(lengths_N, rules, epoch):
    """Short rows in the first epoch, then at random: a curriculum."""
    order = np.argsort(lengths_N, kind="stable") if epoch == 0 else shuffled(len(lengths_N), rules.seed, epoch)
    return Drawn(order, even_sizes(len(order), rules.sequences_per_step))


STRATEGIES["short_first"] = Batching(short_first, "balanced")
WEIGHTINGS["cube_root"] = Weighting(lambda targets, packs: np.cbrt(targets))
'''


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[None]:
    """A module of one's own that adds one of each, through the two public mappings."""
    (tmp_path / "my_batching.py").write_text(MODULE, encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    importlib.import_module("my_batching")
    yield
    sys.path.remove(str(tmp_path))
    del sys.modules["my_batching"], STRATEGIES["short_first"], WEIGHTINGS["cube_root"]


@pytest.mark.usefixtures("mine")
def test_an_added_strategy_is_planned_saved_replanned_and_reported(tmp_path: Path) -> None:
    lengths = longalign_mix(600)
    made = plan_steps(
        lengths, window=65536, ranks=4, sequences_per_step=60, strategy="short_first", epochs=2, token_limit=65536
    )
    assert [lengths[list(step.sequences)].max() for step in made][:10] == np.sort(lengths)[59::60].tolist()
    assert sorted(row for step in made if step.epoch == 1 for row in step.sequences) == list(range(600))
    made.save(tmp_path / "plan.npz")
    assert type(made).load(tmp_path / "plan.npz").hash == made.hash
    assert replan(made, ranks=2, from_step=3).sampling_hash == made.sampling_hash
    np.save(tmp_path / "lengths.npy", lengths)
    asked = {"lengths": str(tmp_path / "lengths.npy"), "ranks": 4, "strategy": "short_first", "weighting": "cube_root"}
    report = plan(build(PlanSettings, asked, "here"), tmp_path / "plan")
    assert report.length_bias is not None
    assert report.length_bias.variance_ratio > 5
    assert "cube root" in plan_text(report)
    assert sum(band.gradient_share["cube_root"] for band in report.by_length) == pytest.approx(1)


@pytest.mark.usefixtures("mine")
def test_an_added_weighting_is_normalised_and_lies_between_its_neighbours() -> None:
    targets = np.array([8, 0, 1000])
    weights = sequence_weights(targets, "cube_root")
    assert weights @ targets == pytest.approx(1)
    assert weights.tolist() == pytest.approx([2 / 8 / 12, 0, 10 / 1000 / 12])


@pytest.mark.usefixtures("mine")
def test_settings_of_training_take_both() -> None:
    settings = build(TrainSettings, {"strategy": "short_first", "weighting": "cube_root"}, "here")
    assert (settings.strategy, settings.weighting) == ("short_first", "cube_root")


def test_what_nobody_added_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="choose one of padded, sorted, packed, balanced"):
        build(TrainSettings, {"strategy": "short_first"}, "here")
    with pytest.raises(ConfigError, match="choose one of sequence, token, sqrt, plain_packing"):
        build(TrainSettings, {"weighting": "cube_root"}, "here")
    with pytest.raises(PlanError, match="unknown 'short_first'"):
        plan_steps([1], window=1, sequences_per_step=1, strategy="short_first")
