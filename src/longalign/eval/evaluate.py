"""The eval stage: the parts that are set, on one model.

What an evaluation asks, how long its prompts are, and what its judge costs: from settings, before any model runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import atomic_write_json, random_for
from longalign.config import ChatSettings, EvalSettings
from longalign.core.text import CHARACTERS_PER_TOKEN
from longalign.errors import ConfigError
from longalign.eval.judged import chat
from longalign.eval.leaderboard import leaderboard
from longalign.eval.needle import needle
from longalign.eval.short import short
from longalign.eval.task import JUDGED_PARTS, RESULTS
from longalign.llm.open import is_endpoint

PARTS: dict[str, Callable[[EvalSettings, Path], dict[str, Any]]] = {
    "needle": needle,
    "short": short,
    "chat": chat,
    "longbench": partial(chat, part="longbench"),
    "mt_bench": partial(chat, part="mt_bench"),
    "leaderboard": leaderboard,
}


def evaluate(settings: EvalSettings, out: Path) -> dict[str, Any]:
    """Run the parts that are set. One part writes into `out` itself; several into `out/needle`, `out/short`, ...,
    and then `out/results.json` holds `{part: results}`."""
    wanted = [name for name in PARTS if getattr(settings, name) is not None]
    if not wanted:
        raise ConfigError(f"nothing to evaluate: set at least one of {', '.join(f'eval.{name}' for name in PARTS)}")
    if len(wanted) == 1:
        results = PARTS[wanted[0]](settings, out)
        return results | {"text": readable(results)}
    parts = {name: PARTS[name](settings, out / name) for name in wanted}
    atomic_write_json(out / RESULTS, parts)
    return parts | {"text": "\n\n".join(readable(results) for results in parts.values())}


def readable(results: dict[str, Any]) -> str:
    """The results of one part as a few lines for a person."""
    writers = {"needle": _needle_lines, "short": _short_lines, "leaderboard": _leaderboard_lines}
    return "\n".join(writers.get(results["task"], _judged_lines)(results))


def _needle_lines(results: dict[str, Any]) -> list[str]:
    lines = [f"needle retrieval of {results['label']} (95% Wilson intervals; lengths in {results['length_unit']})"]
    lines.append(f"{'length':>8} {'value right':>24} {'name right':>11} {'questions':>10} {'failed':>7}")
    for length, row in results["by_length"].items():
        share = _interval(row["accuracy"], row["low"], row["high"])
        name = "-" if row["accuracy"] is None else f"{row['name_accuracy']:.2f}"
        lines.append(f"{length:>8} {share:>24} {name:>11} {row['questions']:>10} {row['failed']:>7}")
    return lines + [f"note: {note}" for note in results["notes"]]


def _short_lines(results: dict[str, Any]) -> list[str]:
    row = results["overall"]
    lines = [f"short skills of {results['label']}: {_interval(row['accuracy'], row['low'], row['high'])} exactly right"]
    lines += [f"{kind:>12} {_interval(r['accuracy'], r['low'], r['high'])}" for kind, r in results["by_kind"].items()]
    return lines + ([f"note: {row['failed']} of {row['questions']} have no answer"] if row["failed"] else [])


def _judged_lines(results: dict[str, Any]) -> list[str]:
    row, judge = results["overall"], results["judge"]
    scale = f" on {row['scale'][0]}-{row['scale'][1]}" if row["scale"] else " of 100"
    mean = ("mean", "low", "high") if row["scale"] else ("share", "share_low", "share_high")
    lines = [f"{results['task']} score of {results['label']}: {_interval(*(row[name] for name in mean))}{scale}"]
    for name, group in results.get("by_category", {}).items():
        lines.append(f"{name or 'other':>20} {_interval(*(group[field] for field in mean))}")
    lines.append(f"cases: {results['cases']}; judge: {judge['model']}, {judge['scorings']} scorings each")
    missing = f"{row['failed']} without an answer, {row['unscored']} without a readable verdict"
    return [*lines, f"{row['scored']} of {row['questions']} questions scored ({missing})"]


def _leaderboard_lines(results: dict[str, Any]) -> list[str]:
    lines = [f"lm-evaluation-harness {results['harness']} on {results['label']}"]
    for name, row in results["tasks"].items():
        figures = _interval(row["accuracy"], row["low"], row["high"])
        lines.append(f"{name:>16} {figures} {row['metric']}, {row['shots']} shots, {row['questions']} questions")
    return lines + ([f"note: only the first {results['limit']} questions of each task"] if results["limit"] else [])


def _interval(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "nothing scored"
    return f"{estimate:.3f}" if low is None or high is None else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"


ASSUMED = {"chat": (50, (10_000, 100_000)), "longbench": (200, (2_000, 32_000)), "mt_bench": (160, (50, 1_000))}
"""Questions of one file and tokens of their prompts, for files that are not here yet."""
JUDGE_PROMPT_TOKENS = 640
"""Question, reference, three examples and the answer: about 32,000 a pass over LongBench-Chat's 50 (the paper)."""
JUDGE_NEW_TOKENS = 100
SHORT_PROMPT_TOKENS = 100


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
