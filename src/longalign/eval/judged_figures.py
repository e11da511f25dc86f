"""Ratings to scores: means with intervals clustered by document, and what missing verdicts could change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from longalign.core.stats import mean_interval
from longalign.eval.judge_prompt import Rubric, RubricName
from longalign.eval.results import Row, rounded


@dataclass(frozen=True, kw_only=True)
class JudgedMean:
    """Counts, mean and interval of a group. `mean` is on the judge's scale (None where scales are mixed), `share` on
    0-100; `worst_share` and `best_share`: the mean if every missing rating were the lowest or the highest. `cut`:
    questions whose input lost its middle; `documents`: independent texts among the scored (0: nothing scored).
    """

    questions: int
    failed: int
    unscored: int
    scored: int
    cut: int
    scale: list[int] | None
    worst_share: float
    best_share: float
    documents: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class JudgedFigures:
    """Means over all and by group; `by_category` is empty where no case has a category."""

    overall: JudgedMean
    by_dataset: dict[str, JudgedMean]
    by_language: dict[str, JudgedMean]
    by_category: dict[str, JudgedMean]


def summarize(scores: list[Row], rubrics: Mapping[RubricName, Rubric]) -> JudgedFigures:
    """Means with intervals clustered by document, over all and by group."""

    def groups(field: str) -> dict[str, JudgedMean]:
        names = dict.fromkeys(row[field] for row in scores)
        return {name: mean_score([r for r in scores if r[field] == name], rubrics) for name in names}

    by_category = groups("category")
    return JudgedFigures(
        overall=mean_score(scores, rubrics),
        by_dataset=groups("dataset"),
        by_language=groups("language"),
        by_category=by_category if any(by_category) else {},
    )


def mean_score(rows: Iterable[Row], rubrics: Mapping[RubricName, Rubric]) -> JudgedMean:
    """The mean of a group of rows, clustered by document."""
    rows = list(rows)
    scored = [row for row in rows if row["score"] is not None]
    scales = {row["rubric"] for row in rows}
    scale = rubrics[scales.pop()] if len(scales) == 1 else None

    def mean_of(field: str) -> float:
        return sum(rubrics[row["rubric"]].share(row[field]) for row in rows) / len(rows)

    none = JudgedMean(
        questions=len(rows),
        failed=sum(row["answer"] is None for row in rows),
        unscored=sum(row["answer"] is not None and row["score"] is None for row in rows),
        scored=len(scored),
        cut=sum(row["cut_tokens"] > 0 for row in rows),
        scale=[scale.low, scale.high] if scale else None,
        worst_share=round(mean_of("worst"), 4),
        best_share=round(mean_of("best"), 4),
    )
    if not scored:
        return none
    documents = [row["document"] for row in scored]
    share = mean_interval([rubrics[row["rubric"]].share(row["score"]) for row in scored], documents, scale=(0, 100))
    plain = (
        mean_interval([row["score"] for row in scored], documents, scale=(scale.low, scale.high)) if scale else share
    )
    return replace(
        none,
        documents=len(set(documents)),
        mean=rounded(plain.estimate) if scale else None,
        low=rounded(plain.low) if scale else None,
        high=rounded(plain.high) if scale else None,
        share=rounded(share.estimate),
        share_low=rounded(share.low),
        share_high=rounded(share.high),
    )
