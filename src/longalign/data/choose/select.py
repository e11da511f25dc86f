"""`data select`: the rows worth training on, and why.

    OUT.jsonl            the kept rows as they were written, in their order, with `selection`: rank, score, criteria
    OUT.left_out.jsonl   every other row: id, place, reason, and the same figures
    OUT.selection.json   read = kept + left out by reason; weights, groups, quantiles of kept and left-out rows
    OUT.scores.jsonl     losses from `--model`, a line a row; a killed run goes on from it

Rows and scores decide the result; ties go by content. Criteria: `gain`, `document`, `evidence` (from a model,
context_scores.py), `spread`, `support`, `length`, `scores` (mean of a `scores` column) and `scores.NAME`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, sha256_of, write_jsonl
from longalign.data.choose.context_scores import ContextScores, ScoreHow, score_key, score_rows
from longalign.data.choose.facts import RowFacts, check_groups, facts_of
from longalign.data.choose.given import Given, Row, read_given
from longalign.data.choose.keep import TOO_LONG, TOO_SHORT, LeftOut, best_first, kept_of, parse_keep, repeats
from longalign.data.choose.ranks import combined, parse_weights
from longalign.data.choose.row_out import check_out, same_inputs, write_rows
from longalign.data.choose.stats import listed, quantiles
from longalign.data.row_counts import FileRows
from longalign.errors import ConfigError, DataError, nearest

OF_MODEL = ("gain", "document", "evidence")
OF_ROWS = ("spread", "support", "length", "scores")
WITH_MODEL = {"gain": 1.0, "evidence": 0.5, "spread": 0.25}
WITHOUT_MODEL = {"scores": 1.0, "support": 0.5, "spread": 0.5}
"""Weights by default; criteria that no row has are passed over."""


@dataclass(frozen=True, kw_only=True)
class SelectHow:
    """What is kept. keep: rows or a share, as typed. per: groups that keep their shares. alike: see `repeats`."""

    keep: str
    weights: str | None = None
    per: tuple[str, ...] = ()
    alike: float = 0.8
    min_length_tokens: int | None = None
    max_length_tokens: int | None = None
    scoring: ScoreHow | None = None


@dataclass(frozen=True)
class _Files:
    rows: Path
    left_out: Path
    report: Path
    scores: Path

    @classmethod
    def of(cls, out: Path) -> _Files:
        return cls(
            out,
            *(out.with_name(out.stem + end) for end in (".left_out.jsonl", ".selection.json", ".scores.jsonl")),
        )


def select(name: str, out: Path, how: SelectHow) -> dict[str, Any]:
    """Write the kept rows of `name`. Returns the report, with `text`.

    Raises `ConfigError` for weights or groups that mean nothing here, `DataError` where no row is usable.
    """
    files = _Files.of(out)
    check_out(out, [name], ours=same_inputs(files.report, name))
    check_groups("--per", how.per)
    counted: Counter[str] = Counter()
    unusable: list[tuple[str, str]] = []
    facts = [facts_of(given) for given in read_given(name, counted, unusable)]
    if not facts:
        raise DataError(f"{name}: no usable row ({FileRows.of(counted).words})")
    keep = parse_keep(how.keep, len(facts))
    scores = _scores(name, how, files, len(facts))
    facts = [_measured(fact, score) for fact, score in zip(facts, scores, strict=True)]
    criteria = _criteria(facts, scores)
    weights = _weights(how, criteria)
    totals = combined(criteria, weights, len(facts)).tolist()
    order = best_first(totals, facts)
    left_out = _outside(facts, how)
    left_out |= repeats([at for at in order if at not in left_out], facts, how.alike)
    kept, groups = kept_of(order, facts, left_out, keep, how.per)
    figures = _figures(order, totals, criteria, scores, weights)
    places = [fact.id for fact in facts]
    write_rows(out, _kept_rows(name, kept, figures))
    write_jsonl(files.left_out, _left_out_rows(name, left_out, figures, places, unusable))
    report = {
        "in": name,
        "out": str(out),
        "rows_sha256": sha256_of(out),
        "read": asdict(FileRows.of(counted)),
        "kept": len(kept),
        "wanted": keep,
        "kept_tokens": sum(facts[at].tokens for at in kept),
        "tokens": sum(fact.tokens for fact in facts),
        "left_out": dict(Counter(left.reason for left in left_out.values()).most_common()),
        "weights": weights,
        "unknown": {name: sum(v is None for v in criteria[name]) for name in weights},
        "unscored": dict(Counter(score.unscored for score in scores if score and score.unscored)),
        "per": list(how.per),
        "groups": [{"group": list(group), "rows": rows, "kept": some} for group, (rows, some) in groups.items()],
        "criteria": _compared(criteria, kept),
        "how": {**asdict(how), "scoring": asdict(how.scoring) if how.scoring else None},
    }
    atomic_write_json(files.report, report)
    return report | {"text": _text(report, files)}


def _scores(name: str, how: SelectHow, files: _Files, total: int) -> list[ContextScores | None]:
    if how.scoring is None:
        return [None] * total
    found = score_rows(read_given(name), total, how.scoring, files.scores)
    return [found[score_key(given)] for given in read_given(name)]


def _measured(fact: RowFacts, score: ContextScores | None) -> RowFacts:
    return replace(fact, tokens=score.tokens, estimated=False) if score and score.tokens else fact


def _criteria(facts: Sequence[RowFacts], scores: Sequence[ContextScores | None]) -> dict[str, list[float | None]]:
    """Every criterion that any row has."""
    found: dict[str, list[float | None]] = {
        "spread": [fact.spread for fact in facts],
        "support": [fact.support for fact in facts],
        "length": [float(fact.tokens) for fact in facts],
        "scores": [sum(fact.scores.values()) / len(fact.scores) if fact.scores else None for fact in facts],
    }
    for name in OF_MODEL:
        found[name] = [getattr(score, name) if score else None for score in scores]
    for name in dict.fromkeys(name for fact in facts for name in fact.scores):
        found[f"scores.{name}"] = [fact.scores.get(name) for fact in facts]
    return {name: values for name, values in found.items() if any(value is not None for value in values)}


def _weights(how: SelectHow, criteria: Mapping[str, object]) -> dict[str, float]:
    if how.weights is None:
        default = WITH_MODEL if how.scoring else WITHOUT_MODEL
        if how.scoring and "scores" in criteria:
            default = {**default, "scores": 1.0}
        found = {name: weight for name, weight in default.items() if name in criteria}
        if not found:
            raise ConfigError(
                "the rows have no scores, support or evidence to choose by: give --model DIR, or --weights length=1"
            )
        return found
    weights = parse_weights(how.weights)
    for name in weights:
        if name in OF_MODEL and name not in criteria:
            needs = "no row has it" if how.scoring else "it needs --model DIR"
            raise ConfigError(f"--weights: `{name}` is not known ({needs})")
        if name not in criteria:
            known = name in OF_ROWS or name.startswith("scores.")
            hint = " (no row has it)" if known else nearest(name, list(criteria))
            raise ConfigError(f"--weights: no criterion `{name}`{hint}; there are {', '.join(criteria)}")
    return weights


def _outside(facts: Sequence[RowFacts], how: SelectHow) -> dict[int, LeftOut]:
    found = {}
    for at, fact in enumerate(facts):
        if how.min_length_tokens is not None and fact.tokens < how.min_length_tokens:
            found[at] = LeftOut(TOO_SHORT)
        elif how.max_length_tokens is not None and fact.tokens > how.max_length_tokens:
            found[at] = LeftOut(TOO_LONG)
    return found


def _figures(
    order: Sequence[int],
    totals: Sequence[float],
    criteria: Mapping[str, Sequence[float | None]],
    scores: Sequence[ContextScores | None],
    weights: Mapping[str, float],
) -> dict[int, Row]:
    """What is written beside each row. `rank`: 1 is the best of all usable rows."""
    shown = [name for name in criteria if name in weights or name in OF_MODEL]
    found = {}
    for rank, at in enumerate(order, 1):
        row: Row = {"rank": rank, "score": round(totals[at], 6)}
        row |= {name: criteria[name][at] for name in shown}
        if (score := scores[at]) is not None:
            row |= {"loss": score.whole, "evidence_in_window": score.evidence_in_window}
            if score.unscored:
                row["unscored"] = score.unscored
            elif score.scored_tokens < score.tokens:
                row["scored_tokens"] = score.scored_tokens
        found[at] = row
    return found


def _kept_rows(name: str, kept: set[int], figures: Mapping[int, Row]) -> Iterator[Row]:
    for at, given in enumerate(read_given(name)):
        if at in kept:
            yield {**given.raw, "selection": figures[at]}


def _left_out_rows(
    name: str,
    left_out: Mapping[int, LeftOut],
    figures: Mapping[int, Row],
    ids: Sequence[str],
    unusable: Sequence[tuple[str, str]],
) -> Iterator[Row]:
    given: Given
    for at, given in enumerate(read_given(name)):
        if left := left_out.get(at):
            twin = {} if left.twin is None else {"like": ids[left.twin]}
            yield {"id": given.id, "where": given.where, "reason": left.reason, **twin, "selection": figures[at]}
    for where, reason in unusable:
        yield {"id": None, "where": where, "reason": reason, "selection": None}


def _compared(criteria: Mapping[str, Sequence[float | None]], kept: set[int]) -> dict[str, Any]:
    """Quantiles of every criterion over kept and over left-out rows."""
    found = {}
    for name, values in criteria.items():
        sides: dict[str, list[float]] = {"kept": [], "left_out": []}
        for at, value in enumerate(values):
            if value is not None:
                sides["kept" if at in kept else "left_out"].append(value)
        found[name] = {side: quantiles(numbers) for side, numbers in sides.items() if numbers}
    return found


def _text(report: Mapping[str, Any], files: _Files) -> str:
    weights = ", ".join(f"{name} {weight:g}" for name, weight in report["weights"].items())
    lines = [
        f"{report['in']}: {FileRows(**report['read']).words}",
        f"{report['kept']:,} of {report['wanted']:,} wanted rows kept, {report['kept_tokens']:,} of "
        f"{report['tokens']:,} tokens, by {weights}",
    ]
    if report["left_out"]:
        lines.append(f"left out: {listed(report['left_out'])}")
    unknown = {name: count for name, count in report["unknown"].items() if count}
    if unknown:
        lines.append(f"rows without a figure, ranked in the middle: {listed(unknown)}")
    if report["unscored"]:
        lines.append(f"not scored: {listed(report['unscored'])}")
    for name, sides in report["criteria"].items():
        if name in report["weights"]:
            medians = ", ".join(f"{side.replace('_', ' ')} {values['p50']:g}" for side, values in sides.items())
            lines.append(f"median {name}: {medians}")
    for entry in report["groups"] if report["per"] else ():
        lines.append(f"  {' / '.join(entry['group'])}: {entry['kept']:,} of {entry['rows']:,}")
    return "\n".join([*lines, f"rows: {files.rows}; the others, each with its reason: {files.left_out}"])
