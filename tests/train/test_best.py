"""Which weights are the best, and when training ends, from the measurements alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from longalign.base.decides import result_settings
from longalign.config import LoopSettings, TrainSettings
from longalign.train.best import Standing, figures, standing

VALUES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)


@given(VALUES, st.booleans(), st.integers(0, 3).map(float))
def test_the_first_of_the_best_stands_and_patience_counts_what_gained_too_little(
    values: list[float], lower: bool, delta: float
) -> None:
    points = [(10 * number, value) for number, value in enumerate(values, 1)]
    found = standing(points, lower_is_better=lower, min_delta=delta)
    best = min(values) if lower else max(values)
    last, reached = 0, values[0]  # what counts as reached is only what was gained by more than delta
    for number, value in enumerate(values):
        gain = reached - value if lower else value - reached
        if gain > delta:
            last, reached = number, value
    assert found == Standing(10 * (1 + values.index(best)), best, len(values) - 1 - last)


def test_figures_have_the_names_that_best_by_takes() -> None:
    row = {"step": 4, "tasks": {"needle": {"accuracy": 0.5, "by_length": {"1024": None}}}, "eval_s": 2.0}
    assert figures(row) == {"needle.accuracy": 0.5, "needle.by_length.1024": None}
    held = {"step": 4, "heldout": {"all": {"loss": 2.0}, "by_source": {"v1.2": 3.0}}}
    assert figures(held) == {"heldout.all.loss": 2.0, "heldout.by_source.v1.2": 3.0}
    assert figures({"step": 4, "loss": 2.0}) == {}


NEEDLE = {"needle": {"lengths": [64]}}


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"best_by": "needle.accuracy"}, "eval_tasks has no needle"),
        ({"best_by": "needle.accuracy", "eval_tasks": {"needle": None}}, "eval_tasks has no needle"),
        ({"best_by": "needle.accuracy", "eval_tasks": NEEDLE}, "measured at the end only; set eval_task_steps"),
        ({"best_by": "heldout.all.loss", "eval_data": ["x"]}, "measured at the end only; set eval_steps"),
        ({"best_by": "heldout.all.loss", "eval_steps": 5}, "needs held-out rows; give eval_data"),
        ({"early_stop": {"patience": 2}}, "early_stop needs best_by"),
        ({"eval_task_steps": 2}, "there are no eval_tasks"),
        ({"eval_tasks": NEEDLE, "parallel": "deepspeed"}, "deepspeed cannot generate while it trains"),
        ({"eval_tasks": {"needle": {"form": "register", "forced_tokens": True}}}, "not while training"),
    ],
)
def test_settings_that_could_choose_nothing_are_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        TrainSettings(**values)


def test_what_is_measured_decides_the_result_only_where_it_chooses_weights() -> None:
    def deciding(**values: object) -> set[str]:
        wanted = result_settings(LoopSettings(eval_tasks=NEEDLE, eval_task_steps=5, **values))
        return {"eval_tasks", "eval_task_steps", "eval_steps"} & wanted.keys()

    assert deciding() == set()
    assert deciding(best_by="needle.accuracy") == {"eval_tasks", "eval_task_steps", "eval_steps"}
    batch = LoopSettings(eval_tasks={**NEEDLE, "batch_tokens": 7}, eval_task_steps=5, best_by="needle.accuracy")
    assert "batch_tokens" not in result_settings(batch)["eval_tasks"], "how a task is computed decides nothing"
