"""Perplexity by position: how well a model predicts the next token, depending on how much text stands before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from longalign.data.store import TokenStore
from longalign.train.attention import pack_kwargs
from longalign.train.collate import collate
from longalign.train.metrics import length_band
from longalign.train.shard import reshard

FIRST_BAND_TOKENS = 32
LARGEST_NLL = 700.0


def perplexity_by_position(
    model: nn.Module, store: TokenStore, *, most_tokens: int, on_sequence: Callable[[], None] = lambda: None
) -> dict[str, float | None]:
    """Perplexity in bands of positions (powers of two), over the longest sequences of `store`.

    Takes sequences, longest first, until `most_tokens` tokens are measured; one at a time, so memory is one window.
    A band whose perplexity is beyond a float (a model that has never met text) is None.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    longest = np.argsort(-store.lengths, kind="stable")
    reach = int(store.lengths.max(initial=1))
    sums, counts = np.zeros(reach), np.zeros(reach)
    spent = 0
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        for row in longest.tolist():
            if spent >= most_tokens:
                break
            part = collate(store, [row], {row: 1.0}, layout="packed")
            output = model(
                input_ids=part.input_ids_1T.to(device),
                position_ids=part.position_ids_1T.to(device),
                target_ids=part.target_ids_1T.to(device),
                loss_weights=part.weights_1T.to(device),
                **pack_kwargs(part.cu_seqlens_S1, device=device),
            )
            trained = (part.target_ids_1T[0] >= 0).numpy()
            nll_T = output.nll[0].double().cpu().numpy()
            sums[: len(nll_T)] += np.where(trained, nll_T, 0.0)
            counts[: len(nll_T)] += trained
            spent += part.tokens
            on_sequence()
    reshard(model)
    model.train(training)
    by_band: dict[str, list[int]] = {}
    for position in np.flatnonzero(counts).tolist():
        band = f"0-{FIRST_BAND_TOKENS - 1}" if position < FIRST_BAND_TOKENS else length_band(position)
        by_band.setdefault(band, []).append(position)
    nll = {band: float(sums[at].sum() / counts[at].sum()) for band, at in by_band.items()}
    return {band: math.exp(value) if value < LARGEST_NLL else None for band, value in nll.items()}


def position_table(curves: dict[str, dict[str, float | None]]) -> str:
    """Curves by name as lines of text, one a band."""
    names = list(curves)
    bands = list(dict.fromkeys(band for curve in curves.values() for band in curve))
    lines = ["position        " + "".join(f"{name:>22}" for name in names)]
    for band in bands:
        values: list[Any] = [curves[name].get(band) for name in names]
        lines.append(f"{band:<16}" + "".join(f"{v:>22.2f}" if v is not None else f"{'-':>22}" for v in values))
    return "\n".join(lines)
