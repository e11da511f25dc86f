"""The end of a training stage: the model as a plain directory with its card, and what the stage says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from longalign.config import ExtendSettings, RopeSettings, TrainSettings
from longalign.data.store import TokenStore
from longalign.train.card import model_card
from longalign.train.export import export
from longalign.train.shared_stage import SharedStage


def finish_model(
    stage: SharedStage,
    model: nn.Module,
    tokenizer: Any,
    store: TokenStore,
    summary: Mapping[str, Any],
    *,
    settings: ExtendSettings | TrainSettings,
    what: str,
    rope: RopeSettings | None = None,
    end_ids: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Export `model` to `final` (see `export`) with a card that says `what` it is, and close the stage.

    Every rank calls it. Returns the summary with what was trained on and where the model lies.
    """
    summary = {
        **summary,
        "data": {"counts": store.counts, "tokens": int(store.lengths.sum())},
        "threads": torch.get_num_threads(),
    }
    card = model_card(what, settings, summary, sources=source_counts(store))
    export(
        model, tokenizer, stage.folder, settings=settings, base=settings.model, card=card, rope=rope, end_ids=end_ids
    )
    return with_model(stage.finish(summary), stage.folder)


def with_model(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The summary with the place of the model. It is not kept in the folder, which may be moved."""
    return {**summary, "final": str(folder / "final")}


def source_counts(store: TokenStore) -> dict[str, int]:
    """Sequences by source, most first."""
    counts = np.bincount(store.source_N, minlength=len(store.sources))
    return {store.sources[number]: int(counts[number]) for number in np.argsort(-counts, kind="stable")}
