"""What every optimizer step trains on: a `StepPlan` is a few flat arrays, a `Step` a view of one slice of them.

On disk it is one uncompressed .npz of arrays and settings, without pickle, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from longalign.core.order import IntArray, RowArray
from longalign.core.rules import PlanRules
from longalign.core.strategies import strategy_of
from longalign.core.weighting import sequence_weights
from longalign.errors import PlanError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RankStep:
    """What one data rank runs in a step: microbatches in order, each a tuple of row numbers."""

    packs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Step:
    """One optimizer update over all ranks; a view, computed on demand.

    `ranks[d].packs[p]` are the rows of microbatch p of data rank d: segments laid end to end, or rows to pad to the
    longest of them (`StepPlan.layout`). A data rank is one process, or `sequence_parallel` processes that share its
    microbatches. Data ranks may have fewer microbatches than `microbatches`: run an empty one for what is missing.
    """

    plan: StepPlan
    index: int

    @property
    def epoch(self) -> int:
        return int(np.searchsorted(self.plan.epoch_steps_E1, self.index, side="right")) - 1

    @cached_property
    def rows(self) -> RowArray:
        """Row numbers of the step, ascending; the same on any rank count."""
        first, last = self.plan.step_rows_S1[self.index : self.index + 2]
        return np.sort(self.plan.rows_X[first:last])

    @property
    def sequences(self) -> tuple[int, ...]:
        """Row numbers of the step as plain integers, ascending."""
        return tuple(self.rows.tolist())

    @cached_property
    def ranks(self) -> tuple[RankStep, ...]:
        plan = self.plan
        first, last = plan.step_ranks_S1[self.index : self.index + 2]
        return tuple(RankStep(plan._packs_of(slot)) for slot in range(int(first), int(last)))

    @property
    def microbatches(self) -> int:
        """The most microbatches any rank has in this step."""
        first, last = self.plan.step_ranks_S1[self.index : self.index + 2]
        return int(np.diff(self.plan.rank_packs_R1[first : last + 1]).max())

    @property
    def target_counts(self) -> NDArray[np.int64]:
        """Targets of each sequence, in the order of `sequences`."""
        return self.plan.targets_N[self.rows].astype(np.int64)

    @property
    def pack_numbers(self) -> NDArray[np.int64]:
        """Number of the pack or microbatch that holds each sequence, in the order of `sequences`."""
        first, last = self.plan.step_rows_S1[self.index : self.index + 2]
        numbers = np.searchsorted(self.plan.pack_rows_P1, np.arange(first, last), side="right")
        return numbers[np.argsort(self.plan.rows_X[first:last], kind="stable")].astype(np.int64)

    @property
    def sequence_count(self) -> int:
        """M of Eq. 2: sequences with at least one target, over all ranks and microbatches."""
        return int(self.plan.sequence_counts_S[self.index])

    @property
    def target_count(self) -> int:
        """Targets of all sequences of the step."""
        return int(self.plan.target_counts_S[self.index])

    def weights(self, mode: str = "sequence") -> NDArray[np.float64]:
        """`sequence_weights` of the step, in the order of `sequences`."""
        return sequence_weights(self.target_counts, mode, self.pack_numbers)


@dataclass(frozen=True, eq=False, repr=False)
class StepPlan(Sequence[Step]):
    """All steps of a run.

    lengths_N, targets_N: tokens and targets of each row of the data.
    rows_X: row numbers in the order (step, data rank, microbatch, place); every row once an epoch.
    pack_rows_P1: microbatch p is rows_X[pack_rows_P1[p]:pack_rows_P1[p + 1]].
    rank_packs_R1: slot r (one data rank in one step) has microbatches rank_packs_R1[r]:rank_packs_R1[r + 1].
    step_ranks_S1: step s has slots step_ranks_S1[s]:step_ranks_S1[s + 1].
    epoch_steps_E1: epoch e is steps epoch_steps_E1[e]:epoch_steps_E1[e + 1].
    """

    rules: PlanRules
    lengths_N: RowArray
    targets_N: RowArray
    rows_X: RowArray
    pack_rows_P1: IntArray
    rank_packs_R1: IntArray
    step_ranks_S1: IntArray
    epoch_steps_E1: IntArray

    def __repr__(self) -> str:
        return (
            f"<StepPlan {self.rules.strategy}: {self.sequences:,} sequences x {self.rules.epochs} epochs in "
            f"{len(self):,} steps on {self.ranks} ranks>"
        )

    def __len__(self) -> int:
        return len(self.step_ranks_S1) - 1

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [Step(self, s) for s in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"step {index} of a plan of {len(self)} steps")
        return Step(self, index % len(self))

    def __iter__(self) -> Iterator[Step]:
        return (Step(self, s) for s in range(len(self)))

    @property
    def layout(self) -> Literal["padded", "packed"]:
        """How the rows of a microbatch are put together."""
        return "padded" if strategy_of(self.rules.strategy).microbatches == "padded" else "packed"

    @property
    def ranks(self) -> int:
        return self.rules.ranks

    @property
    def data_ranks(self) -> int:
        return self.rules.data_ranks

    @property
    def sequences(self) -> int:
        """Rows of the data, each trained on once an epoch."""
        return len(self.lengths_N)

    @property
    def pack_count(self) -> int:
        """Microbatches over all steps and ranks."""
        return len(self.pack_rows_P1) - 1

    @cached_property
    def step_rows_S1(self) -> IntArray:
        """Step s trains on rows_X[step_rows_S1[s]:step_rows_S1[s + 1]]."""
        return self.pack_rows_P1[self.rank_packs_R1[self.step_ranks_S1]]

    @cached_property
    def target_counts_S(self) -> IntArray:
        """Targets of each step."""
        return np.add.reduceat(self.targets_N[self.rows_X], self.step_rows_S1[:-1], dtype=np.int64)

    @cached_property
    def sequence_counts_S(self) -> IntArray:
        """Sequences with targets of each step (M)."""
        return np.add.reduceat((self.targets_N > 0)[self.rows_X], self.step_rows_S1[:-1], dtype=np.int64)

    @cached_property
    def data_hash(self) -> str:
        """Of lengths and targets."""
        return _digest({}, self.lengths_N, self.targets_N)

    @cached_property
    def sampling_hash(self) -> str:
        """Of which rows each step trains on; the same for every rank count and layout."""
        step_of = np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.step_rows_S1))
        rows = np.sort(step_of * self.sequences + self.rows_X)
        return _digest({"data": self.data_hash}, rows, self.step_rows_S1, self.epoch_steps_E1)

    @cached_property
    def hash(self) -> str:
        """Of everything: rules, data and the place of every row."""
        return _digest(
            {"rules": self.rules.as_json(), "data": self.data_hash, "format": FORMAT_VERSION},
            self.rows_X, self.pack_rows_P1, self.rank_packs_R1, self.step_ranks_S1, self.epoch_steps_E1,
        )  # fmt: skip

    def save(self, path: Path | str) -> None:
        """Write the plan to one .npz file (no pickle), whole or not at all."""

        save_plan(self, path)

    @classmethod
    def load(cls, path: Path | str) -> StepPlan:
        """Read a saved plan; PlanError if it is damaged or of another format."""

        return load_plan(path)

    def _packs_of(self, slot: int) -> tuple[tuple[int, ...], ...]:
        first, last = self.rank_packs_R1[slot : slot + 2]
        offsets = self.pack_rows_P1[first : last + 1].tolist()
        rows = self.rows_X[offsets[0] : offsets[-1]].tolist()
        return tuple(tuple(rows[a - offsets[0] : b - offsets[0]]) for a, b in pairwise(offsets))


def _digest(meta: dict[str, object], *arrays: RowArray) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype.kind}{len(array)}".encode())
        digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


_ARRAYS = (
    "lengths_N", "targets_N", "rows_X", "pack_rows_P1", "rank_packs_R1", "step_ranks_S1", "epoch_steps_E1",
)  # fmt: skip


def save_plan(plan: StepPlan, path: Path | str) -> None:
    """Write `plan` to `path` (conventionally plan.npz) through a temporary name."""
    path = Path(path)
    head = {"format": FORMAT_VERSION, "rules": plan.rules.as_json(), "hash": plan.hash}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, head=np.array(json.dumps(head)), **{name: getattr(plan, name) for name in _ARRAYS})
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_plan(path: Path | str) -> StepPlan:
    """Read a plan and check it against the hash it was saved with. Raises PlanError."""
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            if head["format"] != FORMAT_VERSION:
                raise PlanError(f"{path}: format {head['format']}, this version reads {FORMAT_VERSION}; plan again")
            plan = StepPlan(PlanRules.from_json(head["rules"]), **{name: file[name] for name in _ARRAYS})
    except FileNotFoundError:
        raise PlanError(f"{path}: no such plan file") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise PlanError(f"{path}: not a readable step plan ({error}); plan again") from error
    if plan.hash != head["hash"]:
        raise PlanError(f"{path}: contents do not match the stored hash, the file is damaged; plan again")
    return plan
