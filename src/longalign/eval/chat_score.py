"""Ratings to scores: means with intervals clustered by document, and what missing verdicts could change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from longalign.core.stats import mean_interval
from longalign.eval.cases import Case
from longalign.eval.judge import Rubric, RubricName
from longalign.eval.judging import Judge
from longalign.eval.task import Answer


def score_row(
    case: Case, answer: Answer, verdicts: Mapping[str, Answer], judge: Judge, cut_tokens: int
) -> dict[str, Any]:
    """One line of `scores.jsonl`: the ratings of one answer; null for each verdict that cannot be read."""
    scale = judge.rubrics[case.rubric]
    ratings = judge.ratings(case.rubric, case.key, verdicts)
    read = [rating for rating in ratings if rating is not None]
    return {
        "key": case.key,
        "dataset": case.dataset,
        "category": case.category,
        "language": case.language,
        "document": case.document,
        "rubric": case.rubric,
        "question": case.query,
        "expected": case.reference,
        "answer": answer.text,
        "failure": answer.failure,
        "prompt_tokens": answer.prompt_tokens,
        "cut_tokens": cut_tokens,
        "ratings": ratings,
        "score": sum(read) / len(read) if read else None,
        "worst": sum(r if r is not None else scale.low for r in ratings) / len(ratings),
        "best": sum(r if r is not None else scale.high for r in ratings) / len(ratings),
    }


def summarize(scores: Sequence[dict[str, Any]], rubrics: Mapping[RubricName, Rubric]) -> dict[str, Any]:
    """Means with t-intervals clustered by document, over all and by group."""

    def groups(field: str) -> dict[str, Any]:
        names = dict.fromkeys(row[field] for row in scores)
        return {name: mean_score([r for r in scores if r[field] == name], rubrics) for name in names}

    by_category = groups("category")
    return {
        "overall": mean_score(scores, rubrics),
        "by_dataset": groups("dataset"),
        "by_language": groups("language"),
        **({"by_category": by_category} if any(by_category) else {}),
    }


def mean_score(rows: Iterable[dict[str, Any]], rubrics: Mapping[RubricName, Rubric]) -> dict[str, Any]:
    """Counts, mean and interval of a group. `mean` is on the judge's scale (null where scales are mixed),
    `share` on 0-100. `worst` and `best`: the mean if every missing rating were the lowest or the highest."""
    rows = list(rows)
    scored = [row for row in rows if row["score"] is not None]
    scales = {row["rubric"] for row in rows}
    scale = rubrics[scales.pop()] if len(scales) == 1 else None
    out: dict[str, Any] = {
        "questions": len(rows),
        "failed": sum(row["answer"] is None for row in rows),
        "unscored": sum(row["answer"] is not None and row["score"] is None for row in rows),
        "scored": len(scored),
        "cut": sum(row["cut_tokens"] > 0 for row in rows),
        "scale": [scale.low, scale.high] if scale else None,
    }

    def mean_of(field: str) -> float:
        return sum(rubrics[row["rubric"]].share(row[field]) for row in rows) / len(rows)

    out |= {"worst_share": round(mean_of("worst"), 4), "best_share": round(mean_of("best"), 4)}
    if not scored:
        return out | {"mean": None, "low": None, "high": None, "share": None, "share_low": None, "share_high": None}
    documents = [row["document"] for row in scored]
    plain = mean_interval([row["score"] for row in scored], documents)
    share = mean_interval([rubrics[row["rubric"]].share(row["score"]) for row in scored], documents)
    return out | {
        "documents": len(set(documents)),
        "mean": _round(plain.estimate) if scale else None,
        "low": _round(plain.low) if scale else None,
        "high": _round(plain.high) if scale else None,
        "share": _round(share.estimate),
        "share_low": _round(share.low),
        "share_high": _round(share.high),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
