"""What an evaluation asks, how long its prompts are, and what its judge costs: from settings, before any model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.config import ChatSettings, EvalSettings
from longalign.run import random_for

LONGBENCH_CHAT_CASES, LONGBENCH_CHAT_TOKENS = 50, (10_000, 100_000)
JUDGE_PROMPT_TOKENS = 640
"""Question, reference, three examples and the answer: about 32,000 a pass over LongBench-Chat's 50 (the paper)."""
JUDGE_NEW_TOKENS = 100
SHORT_PROMPT_TOKENS = 100
CHARACTERS_PER_TOKEN = 4


def plan_eval(settings: EvalSettings, *, models: int, window: int) -> dict[str, Any]:
    """Questions, prompt tokens and judge calls of all parts that are set, over `models` models.

    `prompt_lengths` (left out of reports) holds the tokens of one model's prompts, `judge.cost_usd` is None without a
    price. Cases that are not here yet are taken for LongBench-Chat's 50.
    """
    lengths = prompt_lengths(settings, window)
    parts = {
        name: {"questions": len(found) * models, "prompt_tokens": int(found.sum()) * models}
        for name, found in lengths.items()
    }
    judge = None
    if settings.chat is not None:
        judge = judging(settings.chat, len(lengths["chat"]) * models)
    notes = []
    if settings.chat and settings.chat.cases and not Path(settings.chat.cases).exists():
        notes.append(f"{settings.chat.cases}: not here yet, taken for LongBench-Chat's 50 cases of 10k-100k tokens")
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
    if chat := settings.chat:
        found["chat"] = np.minimum(_case_tokens(chat), (chat.window or window) - chat.max_new_tokens)
    return found


def judging(chat: ChatSettings, answers: int) -> dict[str, Any]:
    """Calls, tokens and money of judging that many answers."""
    calls = answers * chat.scorings
    prompt, new = calls * JUDGE_PROMPT_TOKENS, calls * JUDGE_NEW_TOKENS
    price = chat.judge_price_usd_per_million if chat.judge.startswith("openai:") else (0.0, 0.0)
    cost = None if price is None else round((prompt * price[0] + new * price[1]) / 1e6, 4)
    return {"judge": chat.judge, "calls": calls, "prompt_tokens": prompt, "completion_tokens": new, "cost_usd": cost}


def _case_tokens(chat: ChatSettings) -> NDArray[np.int64]:
    if chat.cases is None:
        return np.full(chat.questions, chat.case_tokens)
    if Path(chat.cases).exists():
        from longalign.eval.cases import read_cases

        cases = read_cases(Path(chat.cases), None, chat.rubric)
        return np.array([len(case.prompt) // CHARACTERS_PER_TOKEN for case in cases])
    rng = random_for(0, "cases that are not here", chat.cases)
    return rng.integers(*LONGBENCH_CHAT_TOKENS, LONGBENCH_CHAT_CASES)
