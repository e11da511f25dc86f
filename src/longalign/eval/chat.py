"""Judged answers: LongBench-Chat, LongBench's questions and summaries, MT-Bench's turns (paper section 4.2).

The model gets document and question; what its window cannot hold is cut out of the middle, with room left for the
answer. The judge scores each answer several times, its examples in another order each time; ratings are averaged.
An unreadable verdict is missing, not zero: it is counted, and bounds say what it could change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longalign.config import ChatSettings, EvalSettings
from longalign.data.documents import documents_fingerprint
from longalign.errors import ConfigError, DataError
from longalign.eval.builtin_cases import builtin_cases
from longalign.eval.cases import Case, read_cases
from longalign.eval.chat_score import score_row, summarize
from longalign.eval.judging import check_judge, describe_judge, judge_answers, open_judge
from longalign.eval.needle import DEFAULT_HAYSTACK, read_texts
from longalign.eval.parts import JudgedPart
from longalign.eval.subject import Subject, alone, files_fingerprint, model_fingerprint, open_subject
from longalign.eval.task import ANSWERS, RESULTS, SCORES, VERDICTS, passing_failures, spend
from longalign.eval.token_view import cut_middle
from longalign.eval.turns import ask_in_turns
from longalign.llm.base import Message
from longalign.run import atomic_write_json, atomic_write_text, open_stage

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
