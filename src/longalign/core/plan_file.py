"""A step plan as one file: arrays and settings in an uncompressed .npz, no pickle, written whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from longalign.core.cost import SequenceCost
from longalign.core.step_plan import FORMAT_VERSION, PlanRules, StepPlan
from longalign.errors import PlanError

_ARRAYS = (
    "lengths_N", "targets_N", "rows_X", "pack_rows_P1", "rank_packs_R1", "step_ranks_S1", "epoch_steps_E1",
)  # fmt: skip


def save_plan(plan: StepPlan, path: Path | str) -> None:
    """Write `plan` to `path` (conventionally plan.npz) through a temporary name."""
    path = Path(path)
    head = {"format": FORMAT_VERSION, "rules": asdict(plan.rules), "hash": plan.hash}
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
            rules = PlanRules(**(head["rules"] | {"cost": SequenceCost(**head["rules"]["cost"])}))
            plan = StepPlan(rules, **{name: file[name] for name in _ARRAYS})
    except FileNotFoundError:
        raise PlanError(f"{path}: no such plan file") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise PlanError(f"{path}: not a readable step plan ({error}); plan again") from error
    if plan.hash != head["hash"]:
        raise PlanError(f"{path}: contents do not match the stored hash, the file is damaged; plan again")
    return plan
