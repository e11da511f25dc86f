"""Losses on rows that are never trained on: learning curves by length and source (the paper's Figure 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from longalign.core.batching import plan_steps
from longalign.core.weighting import WeightSchedule
from longalign.data.store import TokenStore
from longalign.train.collate import Microbatch, StepLoader
from longalign.train.metrics import Groups, NllSums
from longalign.train.parallel.fsdp2 import reshard


@dataclass(frozen=True)
class HeldOut:
    """Held-out sequences, spread over data ranks as one big step."""

    groups: Groups
    loader: StepLoader

    @classmethod
    def of(
        cls,
        store: TokenStore,
        *,
        window: int,
        ranks_: int,
        data_rank: int,
        sequence_parallel: int = 1,
        one_sequence_a_row: bool = False,
    ) -> HeldOut:
        """`window` bounds what is run at once; `ranks_` counts all processes. A model of rows gets one each."""
        plan = plan_steps(
            store.lengths,
            store.target_counts,
            window=window,
            ranks=ranks_,
            sequence_parallel=sequence_parallel,
            sequences_per_step=max(len(store), 1),
            strategy="padded" if one_sequence_a_row else "balanced",
        )
        return cls(Groups.of_store(store), StepLoader(store, plan, WeightSchedule("sequence", "sequence"), data_rank))

    def measure(
        self, model: nn.Module, model_inputs: Callable[[Microbatch], dict[str, Any]], part: tuple[int, int] = (0, 1)
    ) -> dict[str, dict[str, float]]:
        """`{"by_length": {band: loss}, "by_source": {source: loss}, "all": {"loss": ..}}`; every rank calls it."""
        training = model.training
        model.eval()
        sums = NllSums(self.groups, part)
        batch = self.loader.batch(0)
        with torch.no_grad():
            for microbatch in batch.microbatches:
                output = model(**model_inputs(microbatch))
                sums.add(microbatch, output.nll, output.loss)
        reshard(model)
        model.train(training)
        found = sums.take()
        counts = self.groups.count(list(batch.step.sequences))
        with np.errstate(invalid="ignore", divide="ignore"):
            by_length, by_source = self.groups.named(found[:-2] / counts)
        return {
            "by_length": by_length,
            "by_source": by_source,
            "all": {"loss": float(found[-1]), "token_loss": float(found[-2]) / max(batch.step.target_count, 1)},
        }
