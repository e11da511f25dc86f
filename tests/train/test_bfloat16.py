"""A step of the real trainer in bfloat16 against the plain definition in float64: rounding is all that may differ.

The bound. bfloat16 keeps 8 bits: one rounding moves a number by at most 2^-9 of itself, 2^-9 / sqrt(3) in the mean
square. From an input of a layer to its gradient a signal is rounded about 12 times forward (both norms, projections,
rotation, attention, gate, up, activation, product, down) and as often backward, in two layers and the head about 50
times. Independent roundings add up in squares: 2^-9 / sqrt(3) * sqrt(50) = 0.8% of a parameter's gradient; `SPREAD`
allows for what enlarges errors on the way (softmax, norms) and for the luck of one parameter. A CPU shows 0.6-1.0%.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.oracles.plain_loss import relative_error
from tests.train.test_gradients import Case, data, expected_gradients, make_plan, make_trainer, step_gradients

ROUNDINGS, SPREAD = 50, 2.0
BOUND = SPREAD * 2**-9 / math.sqrt(3) * math.sqrt(ROUNDINGS)
CASES = [Case("balanced"), Case("packed"), Case("padded", rows=3), Case("sorted", rows=2, weighting="token")]


def check(case: Case, folder: Path, precision: contextlib.AbstractContextManager[object]) -> None:
    sequences = data()
    plan = make_plan(sequences, case, ranks=1)
    trainer = make_trainer(replace(case, dtype="bfloat16"), folder, sequences, plan, 1, 0)
    for index in range(len(plan)):
        _, expected = expected_gradients(sequences, plan, index, case.weighting)
        with precision:
            found = step_gradients(trainer, index)
        assert {g.dtype for g in found.values()} == {torch.float32}
        off = relative_error({name: gradient.double().cpu() for name, gradient in found.items()}, expected)
        assert 2**-12 < off < BOUND, "in bfloat16, and no further off than rounding"
        _, other = expected_gradients(sequences, plan, index, "token" if case.weighting == "sequence" else "sequence")
        assert relative_error(other, expected) > 10 * BOUND, "what the bound notices"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the trainer computes on the GPU here, see the next test")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.strategy)
def test_gradients_under_autocast_on_a_cpu_are_rounded_and_no_more(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path, torch.autocast("cpu", torch.bfloat16, cache_enabled=False))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.strategy)
def test_gradients_on_a_gpu_are_rounded_and_no_more(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path, contextlib.nullcontext())  # the trainer's own precision
