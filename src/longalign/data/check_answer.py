"""Ingredient `check_answers`: a checker reads document, question and answer and judges the answer.

Its verdict (supported, complete, correct) rejects; its scores (LongReward's four, 0 to 10) are columns of the row. A
verdict that cannot be read is asked for once more, then the answer is unscored: kept or not as `unchecked` says.
Without a `checker` the model judges itself, which finds less.
"""

from __future__ import annotations

from dataclasses import replace

from longalign.base.progress import say
from longalign.config import DataSettings
from longalign.data.attempt import Attempt, Rejection, Step, Turn, ask, user
from longalign.data.attempt_row import conversation
from longalign.llm.base import LanguageModel, Reply
from longalign.llm.check_prompts import write
from longalign.llm.executor import provider_for
from longalign.llm.ledger import Ledger
from longalign.llm.open import is_endpoint, open_model
from longalign.llm.team import CheckRequest, Team
from longalign.llm.verdict import VERDICTS, Verdict, read_verdict

SHOWN_CHARS = 400


def with_checker(model: LanguageModel, settings: DataSettings, ledger: Ledger) -> LanguageModel:
    """The model with the checker of the settings beside it, on the same ledger and under the same cap on money."""
    if settings.checker is None:
        if settings.check_answers and settings.llm != "offline":
            say(f"note: {settings.llm} checks its own answers; a --checker of another family finds more")
        return model
    checker = open_model(
        settings.checker,
        ledger=ledger,
        concurrency=settings.checker_concurrency or settings.concurrency,
        price_usd_per_million=settings.checker_price_usd_per_million,
        max_cost_usd=settings.max_cost_usd,
        timeout_s=settings.timeout_s,
        prompts=settings.prompts,
        batch=settings if settings.checker_in_batches(is_endpoint(settings.checker)) else None,
        vllm_engine=settings.vllm_engine,
        provider=provider_for(settings, checker=True),
    )
    return Team(model, checker)


def check_answer(attempt: Attempt, turn: Turn, settings: DataSettings) -> Step[Turn | Rejection]:
    """One call over the whole document, two if the first verdict cannot be read."""
    earlier = conversation(attempt, reasoning=False, alone=True)
    section = write(
        "check_scores" if settings.scores else "check", attempt.language, question=turn.question, answer=turn.answer
    )
    text = section if earlier else f"{attempt.document.text}\n\n{section}"
    request = CheckRequest(
        messages=(*earlier, user(text)),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        shared_prefix_characters=len(attempt.document.text),
    )
    outcome = yield from ask(attempt, "checker", request)
    verdict = read_verdict(outcome.text) if isinstance(outcome, Reply) else None
    if verdict is None and isinstance(outcome, Reply):
        again = write("check_again", attempt.language)
        said = {"role": "assistant", "content": outcome.text}
        outcome = yield from ask(
            attempt, "checker again", replace(request, messages=(*request.messages, said, user(again)))
        )
        verdict = read_verdict(outcome.text) if isinstance(outcome, Reply) else None
    attempt.checked_by = outcome.model or attempt.checked_by
    return judged(turn, verdict, outcome.text, settings)


def judged(turn: Turn, verdict: Verdict | None, reply: str, settings: DataSettings) -> Turn | Rejection:
    """The turn with its verdict, or why it is no data."""
    if verdict is None:
        if settings.unchecked == "keep":
            return turn
        return Rejection("checker: no verdict", reply[:SHOWN_CHARS], turn.question, turn.answer)
    if verdict.fault:
        return Rejection(f"checker: {verdict.fault}", reply[:SHOWN_CHARS], turn.question, turn.answer)
    checks = {name: bool(getattr(verdict, name)) for name in VERDICTS}
    return replace(turn, checks=checks, scores=dict(verdict.scores) or None)
