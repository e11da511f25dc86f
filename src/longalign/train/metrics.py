"""The metrics of training: one row of `metrics.jsonl` for each logged step.

`loss` is the step's objective itself (Eq. 2 for `sequence` weighting), over all ranks. Beside it stand means by length
band and by source: for each sequence its own mean over targets, then the mean over sequences, so that a band's figure
does not depend on the weighting.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longalign.base.files import append_jsonl, read_jsonl, write_jsonl
from longalign.core.length_bands import bands_present
from longalign.core.step_plan import Step, StepPlan
from longalign.data.store import TokenStore
from longalign.errors import RunError
from longalign.train.collate import Microbatch
from longalign.train.parallel import ranks

NamesOf = Callable[[Sequence[int]], list[str]]
"""The names of rows for error messages; computed only when needed."""


@dataclass(frozen=True)
class Groups:
    """Which length band and source each row belongs to, as small integers."""

    bands: tuple[str, ...]
    sources: tuple[str, ...]
    band_N: NDArray[np.int8]
    source_N: NDArray[np.int32]
    target_counts_N: NDArray[np.int64]

    @classmethod
    def of(
        cls, lengths_N: NDArray[Any], targets_N: NDArray[Any], source_N: NDArray[Any], sources: Sequence[str]
    ) -> Groups:
        """`source_N`: which of `sources` each row comes from. Groups are listed by length and by name."""
        band_N, bands = bands_present(lengths_N)
        order = sorted(range(len(sources)), key=lambda number: sources[number])
        return cls(
            tuple(bands),
            tuple(sources[number] for number in order),
            band_N.astype(np.int8),
            np.argsort(order).astype(np.int32)[source_N],
            targets_N,
        )

    @classmethod
    def of_store(cls, store: TokenStore) -> Groups:
        return cls.of(store.lengths, store.target_counts, store.source_N, store.sources)

    @property
    def size(self) -> int:
        return len(self.bands) + len(self.sources)

    def count(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Sequences with targets in each group."""
        index = np.array(rows, dtype=np.int64)
        trained = index[self.target_counts_N[index] > 0]
        return self.add(trained, np.ones(len(trained)))

    def add(self, rows: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values summed by group: bands first, then sources."""
        by_band = np.bincount(self.band_N[rows], values, minlength=len(self.bands))
        by_source = np.bincount(self.source_N[rows], values, minlength=len(self.sources))
        return np.concatenate((by_band, by_source))

    def named(self, values: NDArray[np.float64]) -> tuple[dict[str, float], dict[str, float]]:
        """`(by band, by source)`, without the groups that have no value."""
        pairs = [(name, float(v)) for name, v in zip(self.bands + self.sources, values, strict=True)]
        bands, sources = pairs[: len(self.bands)], pairs[len(self.bands) :]
        return {k: v for k, v in bands if np.isfinite(v)}, {k: v for k, v in sources if np.isfinite(v)}


@dataclass
class NllSums:
    """Negative log-likelihoods of sequences, left where they are, so that no microbatch waits for the one before.

    `part`: which part of each microbatch's positions this rank holds, as (number, parts), under sequence parallelism.
    """

    groups: Groups
    part: tuple[int, int] = (0, 1)
    parts: list[tuple[Microbatch, Tensor, Tensor]] = field(default_factory=list)

    def add(self, microbatch: Microbatch, nll_T: Tensor, loss: Tensor) -> None:
        """Note one microbatch: `nll_T` for each position of this rank's part, `loss` its part of the step's loss."""
        self.parts.append((microbatch, nll_T.detach().flatten(), loss.detach()))

    def check(self, step: int, names_of: NamesOf) -> None:
        """Raise `RunError` naming step, microbatch and rows if anything is not finite."""
        losses = torch.stack([loss for _, _, loss in self.parts])
        if bool(torch.isfinite(losses).all()):
            return
        for number, (microbatch, nll_t, loss) in enumerate(self.parts):
            if bool(torch.isfinite(loss)):
                continue
            rows = microbatch.rows
            finite = np.isfinite(self.by_row(microbatch, nll_t))
            bad = [row for row, good in zip(rows, finite, strict=True) if not good] or list(rows)
            names = ", ".join(f"{row} ({name})" for row, name in zip(bad, names_of(bad[:8]), strict=False))
            raise RunError(
                f"step {step}: the loss is {float(loss)} in microbatch {number} of rank {ranks.rank()}, row {names}; "
                "the last checkpoint is untouched: lower the learning rate or look at that row"
            )

    def take(self) -> NDArray[np.float64]:
        """Summed over ranks: L_i / N_i by group, then sum of L_i, then the step's loss. Starts anew."""
        sums = np.zeros(self.groups.size + 2)
        for microbatch, nll_t, loss in self.parts:
            sums[-1] += float(loss)
            if microbatch.rows:
                index, nll = np.array(microbatch.rows, dtype=np.int64), self.by_row(microbatch, nll_t)
                counts = self.groups.target_counts_N[index]
                sums[: self.groups.size] += self.groups.add(index, nll / np.maximum(counts, 1))
                sums[-2] += float(nll.sum())
        self.parts.clear()
        return ranks.all_reduce_sum(torch.from_numpy(sums)).numpy()

    def by_row(self, microbatch: Microbatch, nll_t: Tensor) -> NDArray[np.float64]:
        """What this rank holds of each row's sum."""
        before = self.part[0] * len(nll_t)
        bounds_S1 = (microbatch.cu_seqlens_S1.numpy() - before).clip(0, len(nll_t))  # beyond them is only filling
        nll_t64 = nll_t.double().cpu().numpy()
        sums = [float(nll_t64[start:stop].sum()) for start, stop in pairwise(bounds_S1.tolist())]
        return np.array(sums[: len(microbatch.rows)])


@dataclass
class StepMeter:
    """Turns the sums of a step into a row of `metrics.jsonl`; the first rank writes.

    `peak_flops`: FLOP/s of one rank's accelerator; MFU is given where it is known.
    """

    path: Path
    plan: StepPlan
    groups: Groups
    averaged_ranks: int
    peak_flops: float | None = None
    started_s: float = field(default_factory=time.monotonic)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time spent inside is not counted in the next step."""
        start_s = time.monotonic()
        yield
        self.started_s += time.monotonic() - start_s

    def row(self, step: Step, sums: NDArray[np.float64], **measured: Any) -> dict[str, Any]:
        """Write and return the row of one finished step."""
        now = time.monotonic()
        step_s, self.started_s = now - self.started_s, now
        rows = list(step.sequences)
        with np.errstate(invalid="ignore", divide="ignore"):
            by_length, by_source = self.groups.named(sums[:-2] / self.groups.count(rows))
        lengths = self.plan.lengths_N[rows]
        tokens = int(lengths.sum())
        flops_per_s = float(self.plan.rules.cost.flops(lengths).sum()) / step_s
        row = {
            "step": step.index + 1,
            "epoch": round((step.index + 1) / len(self.plan) * self.plan.rules.epochs, 4),
            "loss": sums[-1] / self.averaged_ranks,
            "token_loss": sums[-2] / max(step.target_count, 1),
            "loss_by_length": by_length,
            "loss_by_source": by_source,
            **measured,
            "sequences": len(rows),
            "sequences_with_targets": step.sequence_count,
            "target_tokens": step.target_count,
            "tokens": tokens,
            "step_s": round(step_s, 4),
            "target_tokens_per_s": round(step.target_count / step_s, 1),
            "tokens_per_s": round(tokens / step_s, 1),
            "model_flops_per_s": round(flops_per_s, 1),
            "mfu": round(flops_per_s / (self.plan.ranks * self.peak_flops), 4) if self.peak_flops else None,
            "idle_fraction": round(idle_fraction(rank_flops(self.plan, step)), 5),
            "peak_memory_gib": round(peak_memory_gib(), 3),
        }
        if ranks.is_first():
            append_jsonl(self.path, row)
        return row


def forget_after(path: Path, step: int) -> None:
    """Drop rows later than `step`, which a resumed run will measure again."""
    rows = read_jsonl(path)
    kept = [row for row in rows if row["step"] <= step]
    if len(kept) < len(rows):
        write_jsonl(path, kept)


def rank_flops(plan: StepPlan, step: Step) -> NDArray[np.float64]:
    """FLOPs each data rank runs in a step, padding included."""
    cost, padded = plan.rules.cost, plan.layout == "padded"
    flops = np.zeros(len(step.ranks))
    for number, rank in enumerate(step.ranks):
        for pack in rank.packs:
            lengths = plan.lengths_N[list(pack)]
            flops[number] += cost.flops(np.full_like(lengths, lengths.max()) if padded else lengths).sum()
    return flops


def idle_fraction(flops_R: NDArray[np.float64]) -> float:
    """Predicted share of the step that data ranks wait for the slowest one."""
    return 1.0 - float(flops_R.mean() / flops_R.max()) if flops_R.max() > 0 else 0.0


def peak_memory_gib() -> float:
    """Most memory this process has held: of the GPU if there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
