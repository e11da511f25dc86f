"""The settings that decide a plan, besides lengths and targets, and their JSON form in plan files and plan hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from longalign.core.model_shape import SequenceCost

Packing = Literal["best_fit", "next_fit"]
Sync = Literal["microbatch", "step"]


@dataclass(frozen=True, kw_only=True)
class PlanRules:
    """Everything besides lengths and targets that decides a plan; part of its hash.

    window, token_limit: tokens. `ranks` counts processes (GPUs); `sequence_parallel` of them share one microbatch.
    cost: work of a sequence, of which only ratios matter. sync: where ranks wait for each other.
    """

    strategy: str
    window: int
    token_limit: int
    ranks: int
    sequence_parallel: int
    sequences_per_step: int
    packs_per_step: int | None
    rows_per_microbatch: int
    epochs: int
    seed: int
    packing: Packing
    cost: SequenceCost
    sync: Sync

    @property
    def data_ranks(self) -> int:
        """Groups of ranks, each of which runs microbatches of its own."""
        return self.ranks // self.sequence_parallel

    def as_json(self) -> dict[str, Any]:
        """The rules as plan files and hashes hold them.

        These keys are a format of their own, whatever the fields are called. A rule that is added later must be left
        out where it has its default, so that plans which do not use it keep their hashes (tests/core/test_rules.py).
        """
        return {
            "strategy": self.strategy,
            "window": self.window,
            "token_limit": self.token_limit,
            "ranks": self.ranks,
            "sequence_parallel": self.sequence_parallel,
            "sequences_per_step": self.sequences_per_step,
            "packs_per_step": self.packs_per_step,
            "rows_per_microbatch": self.rows_per_microbatch,
            "epochs": self.epochs,
            "seed": self.seed,
            "packing": self.packing,
            "cost": {
                "linear": self.cost.linear,
                "quadratic": self.cost.quadratic,
                "windowed": self.cost.windowed,
                "attention_window": self.cost.attention_window,
            },
            "sync": self.sync,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PlanRules:
        """The rules that `as_json` wrote. Raises TypeError or KeyError for anything else."""
        return cls(**{**values, "cost": SequenceCost(**values["cost"])})
