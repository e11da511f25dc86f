"""Compares two evaluations of the same questions, question by question, and says what the difference supports.

Means of separate runs are never compared: a pair shares the question, and most of the noise is the question's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, random_for, read_jsonl
from longalign.core.paired import PairedComparison, paired_comparison
from longalign.core.stats import holm
from longalign.errors import DataError
from longalign.eval.failed import Failed, as_wrong
from longalign.eval.judge_prompt import SCALES
from longalign.eval.registry import TASKS, current_name, find_task, first_name
from longalign.eval.results import SCORES, Compared, Row, results_of_task

ALPHA = 0.05


def compare(a: Path, b: Path, out: Path | None = None, failed: Failed = "left_out") -> dict[str, Any]:
    """Compare the stage folders of one task on two models; `b` is the one that may be better.

    Raises `DataError` when they are different tasks or share no question. Questions that one of them has not
    scored are left out and counted; with `failed="wrong"`, those without an answer count as wrong.
    """
    first, second = results_of_task(a), results_of_task(b)
    if current_name(first["task"]) != current_name(second["task"]):
        raise DataError(f"{a} holds `{first['task']}` and {b} holds `{second['task']}`; compare the same task")
    how = compared_by(second)
    sides = [read_jsonl(folder / SCORES) for folder in (a, b)]
    if failed == "wrong":
        sides = [[as_wrong(row, how) for row in rows] for rows in sides]
    pairs, left_out = pair_up(*sides)
    if not pairs:
        raise DataError(f"{a} and {b} have no scored question in common; evaluate both with the same settings")
    groups = {"all": pairs} | _groups(how, pairs)
    compared = {name: compare_pairs(how, rows, first["task"], name) for name, rows in groups.items()}
    many = [name for name in compared if name != "all"]
    for name, p in zip(many, holm([compared[name]["p"] for name in many]) if many else [], strict=True):
        compared[name]["p_holm"] = p
    same = first["label"] == second["label"]
    names = [f"{r['label']} ({path})" if same else r["label"] for r, path in ((first, a), (second, b))]
    result = {
        "task": first["task"],
        "a": names[0],
        "b": names[1],
        "left_out": left_out,
        "counted_wrong": sum(any("counted_wrong" in row for row in pair) for pair in pairs),
        "groups": compared,
        "warnings": _warnings(first, second),
    }
    result["text"] = "\n".join(sentences(result))
    if out:
        atomic_write_json(out, result)
    return result


def compared_by(results: Mapping[str, Any]) -> Compared:
    """How rows of these results are compared: as the file says, or, where it is older than that, as its task does."""
    if "compared" in results:
        return Compared.of(results["compared"])
    name = current_name(results["task"])
    return find_task(name).compared if name in TASKS else Compared()


def pair_up(a: Sequence[Row], b: Sequence[Row]) -> tuple[list[tuple[Row, Row]], int]:
    """Rows of the same question that both models have scored, and how many questions were left out.

    Question and document must agree too: keys alone would pair different questions of differently seeded runs.
    """
    other = {row["key"]: row for row in b}
    keys = {row["key"] for row in a} | set(other)
    pairs = [
        (row, other[row["key"]])
        for row in a
        if row["key"] in other
        and all(row.get(field) == other[row["key"]].get(field) for field in ("question", "document"))
        and row["score"] is not None
        and other[row["key"]]["score"] is not None
    ]
    return pairs, len(keys) - len(pairs)


def compare_pairs(how: Compared, pairs: Sequence[tuple[Row, Row]], task: str, name: str) -> dict[str, Any]:
    """The comparison of one group, as `paired_comparison` gives it, and its conclusion."""
    rubrics = {a.get("rubric") for a, _ in pairs}
    mixed = len(rubrics) > 1
    x, y = ([value_of(how, row, mixed) for row in side] for side in zip(*pairs, strict=True))
    clusters = [a[how.cluster] for a, _ in pairs] if how.cluster else None
    scale = (0, 100) if mixed else next((SCALES[name] for name in rubrics if name in SCALES), how.scale)
    got = paired_comparison(x, y, random_for(0, "compare", first_name(task), name), clusters, scale=scale)
    return asdict(got) | {"statement": statement(got)}


def value_of(how: Compared, row: Row, mixed_scales: bool = False) -> float:
    """One question's figure: 1 for right, or the rating (0-100 of its scale where scales are mixed)."""
    value = how.value(row)
    if mixed_scales:
        low, high = SCALES[row["rubric"]]
        return 100 * (value - low) / (high - low)
    return value


def statement(got: PairedComparison) -> str:
    """The conclusion that the figures support, in one line. Interval and p come from one test, so they agree."""
    figures = f"{got.mean_a:.2f} vs {got.mean_b:.2f} on {got.n} question{'' if got.n == 1 else 's'}"
    if got.p < ALPHA:
        word = "higher" if got.difference > 0 else "lower"
        return f"{figures}: {word} (difference {signed(got.difference)}, {_limits(got)}, {p_text(got.p)})"
    if got.difference == 0:
        return f"{figures}: no difference seen ({_limits(got)}){_detectable(got)}"
    need = f" (needs about {got.n_needed:,} questions)" if got.n_needed and got.n_needed > got.n else ""
    found = f"difference {signed(got.difference)}, {_limits(got)}, {p_text(got.p)}"
    return f"{figures}: not distinguishable{need}; {found}{_detectable(got)}"


def signed(value: float, places: int = 2) -> str:
    """`+0.45`; what would be rounded to 0 is written with more places, so that 0 means 0."""
    text = f"{value:+.{places}f}"
    return f"{value:+.1g}" if value and float(text) == 0 else text


def p_text(p: float) -> str:
    """`p = 0.27`, never rounded across 0.05."""
    if p < 0.001:
        return "p < 0.001"
    digits = 2
    while (float(f"{p:.{digits}g}") < ALPHA) != (p < ALPHA):
        digits += 1
    return f"p = {p:.{digits}g}"


def sentences(result: dict[str, Any]) -> list[str]:
    """The comparison for a person."""
    lines = [f"{result['task']}: {result['a']} vs {result['b']}"]
    for name, group in result["groups"].items():
        adjusted = ""
        if "p_holm" in group:
            lost = ", not distinguishable" if group["p"] < ALPHA <= group["p_holm"] else ""
            adjusted = f"; after Holm over {len(result['groups']) - 1} groups {p_text(group['p_holm'])}{lost}"
        wins = f"{group['wins']} better, {group['ties']} equal, {group['losses']} worse"
        lines.append(f"  {name}: {group['statement']}; {wins}{adjusted}")
    if result["left_out"]:
        lines.append(f"  left out: {result['left_out']} questions that only one of them has, or has scored")
    if result["counted_wrong"]:
        lines.append(f"  counted as wrong: {result['counted_wrong']} questions that at least one did not answer")
    return lines + [f"  careful: {warning}" for warning in result["warnings"]]


def _groups(how: Compared, pairs: Sequence[tuple[Row, Row]]) -> dict[str, Any]:
    names = dict.fromkeys(a[how.group] for a, _ in pairs)
    if len(names) < 2:
        return {}
    return {f"{how.group} {name}": [(a, b) for a, b in pairs if a[how.group] == name] for name in names}


def _warnings(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Differences that make scores incomparable."""
    found = []
    if "judge" in a and "judge" in b:
        for field, what in (("model", "judged by different judges"), ("prompt_hash", "judged with different prompts")):
            if a["judge"][field] != b["judge"][field]:
                found.append(what)
    if a.get("length_unit") != b.get("length_unit"):
        found.append("prompt lengths are counted differently")
    return found


def _limits(got: PairedComparison) -> str:
    if got.low is None or got.high is None:
        return "too few for an interval"
    return f"95% {signed(got.low)} to {signed(got.high)}"


def _detectable(got: PairedComparison) -> str:
    if got.minimum_detectable is None:
        return ""
    return f"; differences under {got.minimum_detectable:.2f} would mostly go unseen"
