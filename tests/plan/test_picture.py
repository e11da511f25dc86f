"""The picture of packs: every sequence is drawn, waiting is white, nothing can break out of the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from longalign.core.batching import plan_steps
from longalign.core.model_shape import SequenceCost
from longalign.plan.picture import LABEL, WIDTH, packs_svg

COST = SequenceCost(linear=1.0, quadratic=0.0)


def drawn(plan, **how):
    root = ET.fromstring(packs_svg(plan, COST, **how))
    tips = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    return root, tips


@pytest.mark.parametrize("strategy", ["padded", "sorted", "packed", "balanced"])
def test_every_sequence_of_the_steps_is_a_block(strategy):
    plan = plan_steps(list(range(1, 41)), window=64, ranks=3, sequences_per_step=20, strategy=strategy, cost=COST,
                      rows_per_microbatch=3)  # fmt: skip
    _, tips = drawn(plan, steps=len(plan))
    rows = [int(re.match(r"row (\d+):", tip).group(1)) for tip in tips if tip.startswith("row")]
    assert sorted(rows) == list(range(40))
    assert ("padding" in tips) == (plan.layout == "padded")


def test_ranks_that_meet_in_every_microbatch_start_rounds_together():
    plan = plan_steps([30, 10, 20, 40], window=40, ranks=2, sequences_per_step=4, strategy="padded", cost=COST)
    starts = {}
    for rect in drawn(plan)[0].iter("{http://www.w3.org/2000/svg}rect"):
        if rect.get("fill") == "none":
            starts.setdefault(rect.get("y"), []).append(float(rect.get("x")))
    first, second = starts.values()
    assert first == second
    assert first[0] == LABEL
    assert first[1] < WIDTH


def test_many_ranks_are_cut_to_a_readable_number():
    plan = plan_steps([5] * 60, window=40, ranks=30, sequences_per_step=60, strategy="padded", cost=COST)
    text = packs_svg(plan, COST, most_ranks=4)
    assert "and 26 more ranks" in text
    assert "rank 4<" not in text
    assert "<script" not in text
