"""How the page's results were made: machine, versions, commit, and each stage with its settings and duration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from longalign.report.collect import Findings
from longalign.report.stage import Stage
from longalign.report.words import MISSING, duration


@dataclass(frozen=True)
class StageRow:
    """One stage's line; `settings` is its whole settings as text."""

    name: str
    place: str
    status: str
    seed: str
    took: str
    fingerprint: str
    settings: str


@dataclass(frozen=True)
class ManifestSection:
    """The values that the template shows. `machines` has several entries where stages ran on different ones."""

    machines: tuple[tuple[tuple[str, str], ...], ...]
    stages: tuple[StageRow, ...]
    total: str
    unfinished: tuple[str, ...]


def manifest_section(findings: Findings) -> ManifestSection:
    """Facts of every stage that was found."""
    machines = tuple(dict.fromkeys(_machine(stage.manifest.get("machine") or {}) for stage in findings.stages))
    seconds = sum(float(stage.manifest.get("wall_s") or 0) for stage in findings.stages)
    return ManifestSection(
        machines,
        tuple(_row(stage) for stage in findings.stages),
        duration(seconds),
        tuple(stage.place for stage in findings.stages if not stage.done),
    )


def _machine(machine: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    versions = machine.get("versions") or {}
    memory = machine.get("memory_gib")
    return (
        ("commit", str(machine.get("commit") or MISSING)),
        ("processor", f"{machine.get('processor') or MISSING}, {machine.get('cores') or MISSING} cores"),
        ("memory", MISSING if memory is None else f"{memory} GiB"),
        ("accelerators", ", ".join(machine.get("accelerators") or []) or "none"),
        ("system", f"{machine.get('system') or MISSING}, Python {machine.get('python') or MISSING}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or MISSING),
    )


def _row(stage: Stage) -> StageRow:
    manifest = stage.manifest
    return StageRow(
        stage.name,
        stage.place,
        str(manifest["status"]),
        MISSING if stage.seed is None else str(stage.seed),
        duration(manifest.get("wall_s")),
        str(manifest.get("fingerprint") or "")[:12],
        json.dumps(manifest.get("settings"), indent=1, ensure_ascii=False),
    )
