"""Perplexity by position: how well a model predicts the next token, depending on how much text stands before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from longalign.core.length_bands import length_band
from longalign.data.store import TokenStore
from longalign.train.collate import collate
from longalign.train.parallel import ranks
from longalign.train.parallel.fsdp2 import is_sharded, reshard
from longalign.train.parallel.ulysses import SequenceParallel, model_inputs

FIRST_BAND_TOKENS = 32
LARGEST_NLL = 700.0


def perplexity_by_position(
    model: nn.Module, store: TokenStore, *, most_tokens: int, sequence_parallel: SequenceParallel | None = None
) -> dict[str, float | None]:
    """Perplexity in bands of positions (powers of two), over the longest sequences of `store`.

    Takes sequences, longest first, until `most_tokens` tokens are measured; one at a time, so memory is one window, or
    a rank's part of one with `sequence_parallel` (every rank of the group calls this and gets the result).
    A band whose perplexity is beyond a float (a model that has never met text) is None.
    """
    device = ranks.this_device() if is_sharded(model) else next(model.parameters()).device  # shards may be offloaded
    training = model.training
    model.eval()
    longest = np.argsort(-store.lengths, kind="stable")
    reach = int(store.lengths.max(initial=1))
    sums, counts = np.zeros(reach), np.zeros(reach)
    spent = 0
    on_gpu = device.type == "cuda"
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=on_gpu, cache_enabled=False):
        for row in longest.tolist():
            if spent >= most_tokens:
                break
            part = collate(store, [row], {row: 1.0}, layout="packed")
            nll_1T = model(**model_inputs(part, device, sequence_parallel)).nll
            if sequence_parallel:
                nll_1T = sequence_parallel.gather(nll_1T)[:, : part.tokens]  # beyond them is only filling
            trained = (part.target_ids_1T[0] >= 0).numpy()
            nll_T = nll_1T[0].double().cpu().numpy()
            sums[: len(nll_T)] += np.where(trained, nll_T, 0.0)
            counts[: len(nll_T)] += trained
            spent += part.tokens
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
