"""Judged answers: LongBench-Chat, LongBench's questions and summaries, MT-Bench's turns (paper section 4.2).

The model gets document and question; what its window cannot hold is cut out of the middle, with room left for the
answer. The judge scores each answer several times, its examples in another order each time; ratings are averaged.
An unreadable verdict is missing, not zero: it is counted, and bounds say what it could change.

Ratings to scores: means with intervals clustered by document, and what missing verdicts could change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, atomic_write_text
from longalign.base.stage import open_stage
from longalign.config import ChatSettings, EvalSettings
from longalign.core.stats import mean_interval
from longalign.data.source import documents_fingerprint
from longalign.errors import ConfigError, DataError
from longalign.eval.builtin_cases import builtin_cases
from longalign.eval.cases import Case, read_cases
from longalign.eval.conversation import ask_in_turns
from longalign.eval.judge import Judge, check_judge, describe_judge, judge_answers, open_judge
from longalign.eval.needle import DEFAULT_HAYSTACK, read_texts
from longalign.eval.rubric import Rubric, RubricName
from longalign.eval.subject import Subject, alone, files_fingerprint, model_fingerprint, open_subject
from longalign.eval.task import ANSWERS, RESULTS, SCORES, VERDICTS, Answer, JudgedPart, passing_failures, spend
from longalign.eval.token_view import cut_middle
from longalign.llm.base import Message

VERSION = 1


def chat(settings: EvalSettings, out: Path, part: JudgedPart = "chat") -> dict[str, Any]:
    """Stage `part`: answers, verdicts, scores and results in `out`; returns the results."""
    wanted: ChatSettings = getattr(settings, part) or ChatSettings()
    settings = alone(settings, part, wanted)
    inputs = {"model": model_fingerprint(settings), **_inputs(wanted)}
    with open_stage(out, part, settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.done:
            return stage.summary
        check_judge(wanted)
        cases = load_cases(wanted, part)
        with open_subject(settings, out) as subject:
            answers, cut_tokens = ask_in_turns(
                subject,
                cases,
                out / ANSWERS,
                fit=lambda prompt, before: fit(prompt, subject, wanted, before),
                max_new_tokens=wanted.max_new_tokens,
            )
        with open_judge(wanted, out) as judge:
            verdicts = judge_answers(judge, cases, answers, out / VERDICTS)
        scores = [score_row(case, answers[case.key], verdicts, judge, cut_tokens[case.key]) for case in cases]
        results = {
            "task": part,
            "label": settings.label or subject.model.name,
            "model_seed": settings.model_seed,
            **subject.describe(),
            "cases": ", ".join(wanted.cases) or scores[0]["dataset"],
            **summarize(scores, judge.rubrics),
            "judge": describe_judge(judge, list(verdicts.values()), scores),
            "spend": spend(list(answers.values())),
        }
        atomic_write_text(out / SCORES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in scores))
        atomic_write_json(out / RESULTS, results)
        waiting = passing_failures(answers) + passing_failures(verdicts)
        return results if waiting else stage.finish(results)


def load_cases(settings: ChatSettings, part: JudgedPart = "chat") -> list[Case]:
    """The user's cases, or built-in ones over held-out text. Raises `DataError` for those of another part."""
    if settings.cases:
        cases = cases_of(settings)
        if part == "mt_bench" and (odd := next((case for case in cases if case.rubric != "dialogue"), None)):
            raise DataError(f"{', '.join(settings.cases)}: case {odd.key} has no `turns`; it is none of MT-Bench's")
        if part != "mt_bench" and any(case.rubric == "dialogue" for case in cases):
            raise DataError(f"{', '.join(settings.cases)}: has `turns`, as MT-Bench's questions; use `eval mt-bench`")
        return cases
    texts = read_texts(_documents(settings))
    return builtin_cases(texts, count=settings.questions, tokens=settings.case_tokens, seed=settings.seed)


def cases_of(settings: ChatSettings) -> list[Case]:
    """The cases in the user's files."""
    few_shots, references = (Path(name) if name else None for name in (settings.few_shots, settings.references))
    return read_cases([Path(name) for name in settings.cases], few_shots, settings.rubric, references)


def fit(
    prompt: str, subject: Subject, settings: ChatSettings, before: Sequence[Message] = ()
) -> tuple[str, int] | None:
    """The prompt as the window allows it after the messages `before`, and how many tokens were cut from its middle.

    None where the conversation so far leaves no room. Raises `ConfigError` if even a first question has none.
    """
    window = settings.window or subject.window
    view = subject.view

    def count(text: str) -> int:
        return view.count(view.render([*before, {"role": "user", "content": text}]))

    if window is None:
        return prompt, 0
    room = window - settings.max_new_tokens
    if room <= count(""):
        if before:
            return None
        raise ConfigError(
            f"a window of {window} tokens leaves no room for a question beside {settings.max_new_tokens} new tokens; "
            "lower --max-new-tokens or raise --window"
        )
    whole = count(prompt)
    if whole <= room:
        return prompt, 0
    keep = room - count("")
    while True:  # tokens next to the cut may merge or split: shrink until the count is right
        cut = cut_middle(prompt, view, keep)
        excess = count(cut) - room
        if excess <= 0 or keep <= 0:
            return cut, whole - count(cut)
        keep -= excess


def _inputs(settings: ChatSettings) -> dict[str, str]:
    named = {
        "cases": settings.cases,
        "few_shots": [settings.few_shots],
        "references": [settings.references],
        "judge_prompt": [settings.judge_prompt],
    }
    read = {name: files_fingerprint([path for path in paths if path]) for name, paths in named.items() if any(paths)}
    return read if settings.cases else read | {"documents": documents_fingerprint(_documents(settings))}


def _documents(settings: ChatSettings) -> Sequence[str]:
    return settings.documents or (DEFAULT_HAYSTACK["en"],)


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
