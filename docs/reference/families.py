"""Writes families.md beside this file: `make families`. Each family is tried, tiny and with random weights."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from longalign.errors import ModelError  # noqa: E402
from longalign.train.admit import admit_any  # noqa: E402
from longalign.train.model import check_supported  # noqa: E402
from tests.makers.families import FAMILIES, Family  # noqa: E402
from tests.oracles.plain_loss import plain_gradients, relative_error  # noqa: E402
from tests.train.tiny import DoubleThroughout, gradients_of, packed_inputs, padded_inputs, sequences_of, tiny_model  # noqa: E402

PAGE = Path(__file__).with_name("families.md")


@dataclass(frozen=True)
class Outcome:
    family: str
    model_type: str
    trained: str
    """packed, one sequence a row, or refused."""
    reason: str
    gradient_error: float | None


def outcome(family: Family) -> Outcome:
    """Load, check, and compare one gradient in float64 with the plain definition, one sequence at a time."""
    config = family.build()
    try:
        check_supported(config)
        model = tiny_model(config)
        report = admit_any(model)
    except ModelError as error:
        return Outcome(family.name, config.model_type, "refused", str(error), None)
    reason = ""
    if report.layout == "rows":
        try:
            from longalign.train.admit import _packed

            _packed(model, seed=0)
        except ModelError as error:
            reason = str(error)
    sequences = sequences_of([13, 1, 22, 9])
    inputs = packed_inputs(sequences) if report.layout == "packed" else padded_inputs(sequences)
    model.train()
    with DoubleThroughout():
        _, expected = plain_gradients(model, sequences)
        _, found = gradients_of(model, inputs)
    how = "packed" if report.layout == "packed" else "one sequence a row"
    return Outcome(family.name, config.model_type, how, reason, relative_error(found, expected))
