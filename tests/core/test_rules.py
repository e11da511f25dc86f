"""A plan's hash is a name that outlives the code: what it is made of is pinned, key by key and digit by digit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from longalign.core.batching import plan_steps
from longalign.core.rules import PlanRules
from longalign.core.step_plan import StepPlan

LENGTHS = (np.arange(1, 801) * 7919) % 60000 + 1
PINNED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"strategy": "padded", "rows_per_microbatch": 3},
        "e2895dbd7b1fdf952c170a78f685c3271c25d3d2bee1293cfcdeb255260dc17c",
        "e7feaaf9801ef56130398028043e5b31b269373aa3bf2a60ce69905389d49161",
    ),
    (
        {"strategy": "sorted", "epochs": 2},
        "3c2d7661a251a5eb2caebb22174c1f94c98775ace271ad03ecb9da75115426c1",
        "ad4d086b515abb805c20b9a403e67a412072cc748639f786b3d04da409594869",
    ),
    (
        {"strategy": "packed"},
        "32dc08f240126eb389788c38936be4968b41b5a145952a86c3b0f5408c3a75f5",
        "556f5af74278c77860aa1711ba156c64f2e34f6259f0f59a459325017f988d90",
    ),
    (
        {"strategy": "packed", "packing": "next_fit", "packs_per_step": 16},
        "b42d33f9e6e2b5629059be0d856b2d8f311f2944b8ea656b61e2ffbc734cf23d",
        "65f7b8202446c8643ad199680dfbcda6e5f3b2b92a9ffc764a23434f6dc858bb",
    ),
    (
        {"strategy": "balanced"},
        "facc0b4d575f63957121fd45f2c8d69706330ab8283ca105bb5d76f21c490806",
        "e7feaaf9801ef56130398028043e5b31b269373aa3bf2a60ce69905389d49161",
    ),
    (
        {"strategy": "balanced", "sequence_parallel": 4, "sync": "step", "token_limit": 32768},
        "a96d25acc8d14f3b3a4ecb4aa7cf95268913de4a73db812d29ae548d6849da46",
        "e7feaaf9801ef56130398028043e5b31b269373aa3bf2a60ce69905389d49161",
    ),
]
RULES_JSON = (
    '{"cost": {"attention_window": 0, "linear": 38856000000.0, "quadratic": 1572864.0, "windowed": 0.0}, "epochs": 1, '
    '"packing": "best_fit", "packs_per_step": null, "ranks": 8, "rows_per_microbatch": 1, "seed": 3, '
    '"sequence_parallel": 4, "sequences_per_step": 96, "strategy": "balanced", "sync": "step", "token_limit": 32768, '
    '"window": 65536}'
)


def planned(**arguments: Any) -> StepPlan:
    return plan_steps(LENGTHS, LENGTHS // 3, window=65536, ranks=8, sequences_per_step=96, seed=3, **arguments)


@pytest.mark.parametrize(("arguments", "plan_hash", "sampling_hash"), PINNED)
def test_plans_keep_the_hashes_that_run_folders_hold(
    arguments: dict[str, Any], plan_hash: str, sampling_hash: str
) -> None:
    plan = planned(**arguments)
    assert (plan.hash, plan.sampling_hash) == (plan_hash, sampling_hash)


def test_the_rules_in_a_plan_file_are_these_keys_whatever_the_fields_are_called() -> None:
    rules = planned(**PINNED[-1][0]).rules
    assert json.dumps(rules.as_json(), sort_keys=True) == RULES_JSON
    assert PlanRules.from_json(json.loads(RULES_JSON)) == rules


def test_a_rule_that_this_version_does_not_know_is_not_passed_over() -> None:
    with pytest.raises(TypeError, match="weather"):
        PlanRules.from_json(json.loads(RULES_JSON) | {"weather": "fine"})
