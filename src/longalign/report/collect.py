"""Finds what runs have left behind: stage manifests, results, scores, metrics, plans. Reads files only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longalign.base.stage import MANIFEST, read_manifest
from longalign.errors import RunError
from longalign.eval.failed import Failed
from longalign.eval.registry import TASKS
from longalign.eval.results import read_results
from longalign.report.isolate import inline
from longalign.report.stage import Stage
from longalign.report.systems import Systems, name_systems


@dataclass(frozen=True)
class Findings:
    """Everything that was found, in the order in which stages were started."""

    folders: tuple[Path, ...]
    stages: tuple[Stage, ...]
    throughput: tuple[tuple[str, dict[str, Any]], ...]
    failed: Failed = "left_out"

    def named(self, name: str) -> list[Stage]:
        return [stage for stage in self.stages if stage.name == name]

    def tasks(self) -> list[str]:
        """Tasks that have results: those of this package in their order, then others."""
        found = dict.fromkeys(s.task for s in self.stages if s.results and "label" in s.results)
        return [*(name for name in TASKS if name in found), *(name for name in found if name not in TASKS)]

    def evaluated(self, task: str) -> dict[str, list[Stage]]:
        """Stages of a task that have results, by model; several of one model are its seeds (`systems.py`)."""
        groups: dict[str, list[Stage]] = {}
        for stage in self.stages:
            if stage.task == task and (row := self.systems.rows.get(str(stage.folder))):
                groups.setdefault(row, []).append(stage)
        return groups

    @cached_property
    def systems(self) -> Systems:
        """The row of every evaluation."""
        return name_systems(stage for stage in self.stages if stage.results and "label" in stage.results)

    def is_judged(self, task: str) -> bool:
        """Whether a judge has rated the answers."""
        return any("judge" in (s.results or {}) for stages in self.evaluated(task).values() for s in stages)


def collect(folders: Sequence[Path], *, only: Collection[Path] | None = None, failed: Failed = "left_out") -> Findings:
    """Every stage at or below `folders`, apart from superseded ones; with `only`, those folders alone.

    `RunError` if there is none at all.
    """
    stages: dict[Path, Stage] = {}
    throughput = []
    for root in folders:
        if not root.is_dir():
            raise RunError(f"{root}: no such folder; give run or stage folders")
        for manifest in sorted(root.rglob(MANIFEST)):
            place = manifest.parent.relative_to(root)
            if only is not None and manifest.parent not in only:
                continue
            if "superseded" in place.parts or any(part.startswith(".") for part in place.parts):
                continue
            content = read_manifest(manifest.parent)
            if content:
                name = root.name if str(place) == "." else str(place)
                stages.setdefault(manifest.parent.resolve(), Stage(manifest.parent, inline(name), content, failed))
        for path in sorted(root.rglob("throughput/results.json")):
            if (only is None or path.parent in only) and (found := read_results(path)):
                throughput.append((inline(str(path.parent.relative_to(root))), found))
    if not stages:
        raise RunError(f"{', '.join(map(str, folders))}: no {MANIFEST} below; nothing has been run there")
    ordered = sorted(stages.values(), key=lambda stage: (stage.started, stage.place))
    return Findings(tuple(folders), tuple(ordered), tuple(throughput), failed)
