"""How answers ended: cut by the cap, only thoughts, or nothing. Counted for every task, with the setting that helps.

Such answers are the model's own and are scored like others, mostly as wrong. A low score that comes from a cap or from
thoughts without an end must be told from one that comes from wrong answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from longalign.eval.answers import Ending
from longalign.llm.reply import LESS_THINKING

FINISH = "finish"
"""The key of a row of `scores.jsonl` that holds its `Ending`."""
ENDINGS = "endings"
"""The key of `results.json` that holds the counts."""
FAILURES = "failures"
"""The key of `results.json` that holds why answers are missing."""
REASONS_SHOWN = 3
HELP: Mapping[str, str] = {
    "cut": "cut by the cap and scored as they are; raise --max_new_tokens",
    "thinking_cut": f"only thoughts, cut by the cap before an answer; raise --thinking_tokens, or {LESS_THINKING}",
    "only_thinking": f"only thoughts, without an answer behind them; {LESS_THINKING}",
    "empty": "empty; look at the server's log, or try another --system_prompt or --chat_template",
}


def count_endings(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many answers ended in which way; empty for rows that do not say."""
    found = Counter(row[FINISH] for row in rows if FINISH in row)
    return {ending: found[ending] for ending in get_args(Ending)} if found else {}


def count_failures(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The commonest reasons why there is no answer, and how often; figures in them do not tell reasons apart."""
    reasons = [str(row["failure"]) for row in rows if row.get("failure")]
    alike = Counter(re.sub(r"\d+", "0", reason) for reason in reasons)
    first = {re.sub(r"\d+", "0", reason): reason for reason in reversed(reasons)}
    return {first[kind]: count for kind, count in alike.most_common(REASONS_SHOWN)}


def ending_lines(results: Mapping[str, Any]) -> list[str]:
    """What a person should know of the answers behind a score: a line for each way to end that is not whole."""
    counts: Mapping[str, int] = results.get(ENDINGS, {})
    failures: Mapping[str, int] = results.get(FAILURES, {})
    total = sum(counts.values())
    lines = [
        f"note: {counts[ending]} of {total} answers are {text}" for ending, text in HELP.items() if counts.get(ending)
    ]
    return lines + [f"note: no answer, {count} of {total}: {reason[:300]}" for reason, count in failures.items()]
