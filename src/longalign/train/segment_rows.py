"""Segments of one row as rows of a batch, for models that cannot keep segments apart (`admit.py` finds out which)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longalign.errors import ModelError


def rows_of_segments(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A microbatch whose segments are equally long, as a batch of rows without boundaries: [1, S * W] to [S, W].

    That is what the strategies `padded` and `sorted` make. Padding is on the right, where a causal model lets no real
    token see it. Positions count from zero, as without `position_ids`. Raises `ModelError` for other segments.
    """
    bounds_S1 = inputs.get("cu_seq_lens_q")
    if bounds_S1 is None:
        return dict(inputs)
    ids_1T, width, rows = inputs["input_ids"], int(inputs["max_length_q"]), bounds_S1.numel() - 1
    if width * rows != ids_1T.numel() or inputs.get("sequence_parallel") is not None:
        raise ModelError("this model takes one sequence a row: use strategy sorted or padded, sequence_parallel 1")
    return {"input_ids": ids_1T.view(rows, width)}
