"""A gate for someone's model: is it better where it should be, and no worse elsewhere? One line and an exit code.

`better` holds where the paired test finds the difference and it is an improvement. `not-worse:M` holds where the 95%
interval of the difference lies above -M points (non-inferiority). Every task of a group has to meet the criterion,
so that more tasks never make a pass by chance more likely. What is missing never passes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import read_jsonl
from longalign.errors import ConfigError, LongAlignError, RunError
from longalign.eval.compare import ALPHA, compare, compared_by, p_text, signed
from longalign.eval.failed import Failed, has_failed
from longalign.eval.judge_prompt import SCALES
from longalign.eval.registry import current_name
from longalign.eval.results import RESULTS, SCORES, read_results

GROUPS = {
    "long": ("needle", "synthetic", "longbench_chat", "longbench", "longbench_v1", "longbench_v2"),
    "short": ("short", "mt_bench", "leaderboard"),
}
"""The tasks that a criterion for long or short ones covers, where both models have results of any of them."""
NOT_WORSE = re.compile(r"not-worse:(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Criterion:
    """`margin` is in points, hundredths of a task's scale; None asks for an improvement."""

    text: str
    margin: float | None

    @classmethod
    def of(cls, text: str) -> Criterion:
        """From `better` or `not-worse:2`. Raises `ConfigError`."""
        found = NOT_WORSE.fullmatch(text)
        if text != "better" and not found:
            raise ConfigError(f"`{text}` is no criterion; write better, or not-worse:2 for at most 2 points worse")
        return cls(text, float(found[1]) if found else None)


@dataclass(frozen=True)
class Check:
    """One task against its criterion; figures in points, None where there was nothing to compare."""

    task: str
    criterion: str
    passed: bool
    reason: str
    questions: int = 0
    difference_points: float | None = None
    low_points: float | None = None
    high_points: float | None = None
    p: float | None = None


def gate(
    base: Path,
    mine: Path,
    groups: Mapping[str, str],
    tasks: Mapping[str, str] | None = None,
    failed: Failed = "left_out",
) -> dict[str, Any]:
    """Check `mine` against `base`, folders with evaluations of the same questions anywhere below.

    `groups`: `long`, `short` -> `better` or `not-worse:M`; `tasks`: the same by name of a task, before its group's.
    Returns `passed`, `checks` and a line of text. Raises `ConfigError` for criteria that cannot be read, `RunError` for
    folders that are not there or hold several results of one task.
    """
    alone = {current_name(name): text for name, text in (tasks or {}).items()}
    if not groups and not alone:
        raise ConfigError("a gate needs a criterion, for example --long better --short not-worse:2")
    wanted = {name: Criterion.of(text) for name, text in groups.items()}
    single = {name: Criterion.of(text) for name, text in alone.items()}
    ours, theirs = _tasks(base), _tasks(mine)
    checks: list[Check] = []
    for name, criterion in wanted.items():
        members = [task for task in GROUPS[name] if task in ours | theirs and task not in single]
        if not members and not single.keys() & set(GROUPS[name]):
            checks.append(Check(name, criterion.text, False, f"no results of its tasks ({', '.join(GROUPS[name])})"))
        checks += [_check(task, criterion, ours.get(task), theirs.get(task), failed) for task in members]
    checks += [_check(task, criterion, ours.get(task), theirs.get(task), failed) for task, criterion in single.items()]
    passed = all(check.passed for check in checks)
    shown = checks if passed else [check for check in checks if not check.passed]
    text = "; ".join(f"{check.task}: {check.reason}" for check in shown)
    return {
        "passed": passed,
        "failed_answers": failed,
        "checks": [asdict(check) for check in checks],
        "text": f"gate {'passed' if passed else 'failed'}: {text}",
    }


def _tasks(root: Path) -> dict[str, Path]:
    """The folder of each task below a folder, superseded ones left out."""
    if not root.is_dir():
        raise RunError(f"{root}: no such folder; give a folder with finished evaluations")
    found: dict[str, Path] = {}
    for path in sorted(root.rglob(RESULTS)):
        if "superseded" in path.relative_to(root).parts or not (path.parent / SCORES).exists():
            continue
        results = read_results(path)
        if "task" not in results:
            continue
        task = current_name(results["task"])
        if task in found:
            raise RunError(f"{root}: several results of {task} ({found[task]}, {path.parent}); name one model's folder")
        found[task] = path.parent
    return found


def _check(task: str, criterion: Criterion, base: Path | None, mine: Path | None, failed: Failed) -> Check:
    def missing(reason: str) -> Check:
        return Check(task, criterion.text, False, reason)

    if base is None or mine is None:
        both = "neither model" if base is None and mine is None else "the base" if base is None else "your model"
        return missing(f"no results of {both}" if both != "neither model" else "neither model has results")
    rows = {side: read_jsonl(folder / SCORES) for side, folder in (("the base", base), ("your model", mine))}
    if failed == "left_out":
        for side, own in rows.items():
            if silent := sum(map(has_failed, own)):
                return missing(
                    f"{silent} of {len(own)} questions have no answer of {side}; ask them again, or count them with "
                    "--failed wrong"
                )
    alone = {row["key"] for row in rows["the base"]} ^ {row["key"] for row in rows["your model"]}
    if alone:
        return missing(f"{len(alone)} questions were asked of one model only; evaluate both with the same settings")
    try:
        compared = compare(base, mine, failed=failed)
    except LongAlignError as error:
        return missing(str(error))
    if compared["warnings"]:
        return missing("; ".join(compared["warnings"]))
    got, points = compared["groups"]["all"], _points(mine, rows["your model"])
    difference, low, high = (
        None if got[name] is None else got[name] * points for name in ("difference", "low", "high")
    )
    if criterion.margin is None:
        passed = got["p"] < ALPHA and got["difference"] > 0
        what = "better" if passed else "not shown to be better"
    else:
        passed = low is not None and low > -criterion.margin
        what = f"{'not' if passed else 'may be'} worse by more than {criterion.margin:g} points"
    limits = "too few for an interval" if low is None or high is None else f"95% {signed(low, 1)} to {signed(high, 1)}"
    left = f", {compared['left_out']} left out" if compared["left_out"] else ""
    left += f", {compared['counted_wrong']} failed and counted as wrong" if compared["counted_wrong"] else ""
    figures = f"{signed(difference or 0.0, 1)} points, {limits}, {p_text(got['p'])}, {got['n']} questions{left}"
    return Check(task, criterion.text, passed, f"{what} ({figures})", got["n"], difference, low, high, got["p"])


def _points(folder: Path, rows: list[dict[str, Any]]) -> float:
    """Points, hundredths of the scale, in one unit of a task's figures. Figures without a known scale are shares."""
    rubrics = {row["rubric"] for row in rows if "rubric" in row}
    if len(rubrics) > 1:
        return 1.0  # compared on 0-100
    low, high = SCALES[rubrics.pop()] if rubrics else compared_by(read_results(folder / RESULTS)).scale or (0, 1)
    return 100 / (high - low)
