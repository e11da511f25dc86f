"""What an evaluation asks, how long its prompts are, and what its judge costs: from settings, before any model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.config import ChatSettings, EvalSettings
from longalign.eval.parts import JUDGED_PARTS
from longalign.llm.base import is_endpoint
from longalign.run import random_for

ASSUMED = {"chat": (50, (10_000, 100_000)), "longbench": (200, (2_000, 32_000)), "mt_bench": (160, (50, 1_000))}
"""Questions of one file and tokens of their prompts, for files that are not here yet."""
JUDGE_PROMPT_TOKENS = 640
"""Question, reference, three examples and the answer: about 32,000 a pass over LongBench-Chat's 50 (the paper)."""
JUDGE_NEW_TOKENS = 100
SHORT_PROMPT_TOKENS = 100
CHARACTERS_PER_TOKEN = 4


def plan_eval(settings: EvalSettings, *, models: int, window: int) -> dict[str, Any]:
    """Questions, prompt tokens and judge calls of all parts that are set, over `models` models.

    `prompt_lengths` (left out of reports) holds the tokens of one model's prompts; `judge`, by judged part, has
    `cost_usd` None without a price. Files of cases that are not here yet count as `ASSUMED`, and notes say so.
    """
    lengths = prompt_lengths(settings, window)
    parts = {
        name: {"questions": len(found) * models, "prompt_tokens": int(found.sum()) * models}
        for name, found in lengths.items()
    }
    judged = {name: part for name in JUDGED_PARTS if (part := getattr(settings, name)) is not None}
    judge = {name: judging(part, len(lengths[name]) * models) for name, part in judged.items()}
    notes = []
    for name, part in judged.items():
        questions, (shortest, longest) = ASSUMED[name]
        if absent := [path for path in part.cases if not Path(path).exists()]:
            others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            taken = f"taken for {questions} questions of {shortest:,}-{longest:,} tokens{' each' if others else ''}"
            notes.append(f"{absent[0]}{others}: not here yet, {taken}")
    if settings.leaderboard:
        notes.append("eval.leaderboard: lm-evaluation-harness fetches its own tasks; not counted here")
    return {"models": models, "parts": parts, "judge": judge, "notes": notes, "prompt_lengths": lengths}


def prompt_lengths(settings: EvalSettings, window: int) -> dict[str, NDArray[np.int64]]:
    """Tokens of the prompts that one model is given, by part."""
    found = {}
    if needle := settings.needle:
        found["needle"] = np.repeat(np.array(needle.lengths), needle.depths * needle.needles)
    if short := settings.short:
        found["short"] = np.full(short.questions, SHORT_PROMPT_TOKENS)
    for name in JUDGED_PARTS:
        if (part := getattr(settings, name)) is not None:
            found[name] = np.minimum(_case_tokens(name, part), (part.window or window) - part.max_new_tokens)
    return found


def judging(chat: ChatSettings, answers: int) -> dict[str, Any]:
    """Calls, tokens and money of judging that many answers."""
    calls = answers * chat.scorings
    prompt, new = calls * JUDGE_PROMPT_TOKENS, calls * JUDGE_NEW_TOKENS
    price = chat.judge_price_usd_per_million if is_endpoint(chat.judge) else (0.0, 0.0)
    cost = None if price is None else round((prompt * price[0] + new * price[1]) / 1e6, 4)
    return {"judge": chat.judge, "calls": calls, "prompt_tokens": prompt, "completion_tokens": new, "cost_usd": cost}


def _case_tokens(name: str, part: ChatSettings) -> NDArray[np.int64]:
    if not part.cases:
        return np.full(part.questions, part.case_tokens)
    questions, tokens = ASSUMED[name]
    found = []
    for path in part.cases:
        if Path(path).exists():
            from longalign.eval.cases import read_cases

            cases = read_cases([Path(path)], None, part.rubric)
            found.append(np.array([len(case.prompt) // CHARACTERS_PER_TOKEN for case in cases]))
        else:
            found.append(random_for(0, "cases that are not here", path).integers(*tokens, questions))
    return np.concatenate(found)
