"""One worse answer to a row's last question, as a dialogue (`longalign.llm.dialogue`).

The model gets the row's own messages up to its last answer, changed in the message with the document only: a window of
it without the evidence, the question alone, or nothing changed and a temperature. Then the document says how well it
supports either answer (data/verify.py), and a pair needs a gap.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from longalign.base.files import random_for
from longalign.base.tokenizers import TokenCounter
from longalign.config.preferences import PreferenceSettings
from longalign.core.text import token_f1, words
from longalign.data.choose.contexts import evidence_spans, replaced, without
from longalign.data.choose.given import Given, content_key, document_and_question, document_place, questions_of, text_in
from longalign.data.verify import COPY_F1, Passages, answer_fault
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.prompt import GAP

ALIKE = "rejected answer says the same"
NO_GAP = "no gap in support"
NO_DOCUMENT = "no document in the row"
NO_TEXT = "the last answer is a call of a tool, no text"


@dataclass(frozen=True)
class Pair:
    """What came of a row. `reason` is empty for a pair; supports are shares of an answer's word weight."""

    rejected: str = ""
    chosen_support: float = 0.0
    rejected_support: float = 0.0
    model: str = ""
    reason: str = ""
    over_budget: bool = False


def pair_for(given: Given, settings: PreferenceSettings, counter: TokenCounter) -> Generator[Request, Outcome, Pair]:
    """The dialogue of one row."""
    row = given.row
    prompt, chosen = prompt_and_answer(row)
    document, _ = document_and_question(row)
    if not chosen.strip():
        return Pair(reason=NO_TEXT)
    if not document:
        return Pair(reason=NO_DOCUMENT)
    question = questions_of({**row, "messages": prompt})[-1]
    passages, known = Passages(document), frozenset(words(question))
    chosen_support, _ = passages.support(chosen, known)
    best, reason = None, ""
    for number in range(settings.samples):
        outcome = yield _request(row, prompt, number, settings, counter)
        if isinstance(outcome, Failure):
            if outcome.kind == "over_budget":
                return Pair(reason="rejected answer: over_budget", over_budget=True)
            reason = f"rejected answer: {outcome.kind}"
            continue
        answer = outcome.text.strip()
        if fault := answer_fault(answer, question, str(row.get("language") or "other")):
            reason = f"rejected answer: {fault}"
            continue
        if token_f1(words(answer), words(chosen)) >= COPY_F1:
            reason = ALIKE
            continue
        support, _ = passages.support(answer, known)
        if best is None or support < best.rejected_support:
            best = Pair(answer, round(chosen_support, 4), round(support, 4), outcome.model)
    if best is None:
        return Pair(reason=reason)
    if best.chosen_support - best.rejected_support < max(settings.min_gap, 1e-9):
        return Pair(reason=NO_GAP)
    return best


def prompt_and_answer(row: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The messages up to the last answer, and that answer."""
    messages = [dict(message) for message in row["messages"]]
    last = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
    return messages[:last], str(messages[last].get("content") or "")


def _request(
    row: Mapping[str, Any],
    prompt: list[dict[str, Any]],
    number: int,
    settings: PreferenceSettings,
    counter: TokenCounter,
) -> Request:
    place = document_place(row)
    text = text_in(row, place)
    document, question = document_and_question(row)
    if settings.rejected == "question":
        prompt = replaced({"messages": prompt}, place, question)["messages"]
    elif settings.rejected == "window":
        blanked = without(document, evidence_spans(row, document))
        ends = counter.ends(blanked)
        start = int(ends[-settings.short_window - 1]) if len(ends) > settings.short_window else 0
        prompt = replaced({"messages": prompt}, place, blanked[start:] + GAP + question)["messages"]
    return Request(
        messages=tuple({"role": m["role"], "content": str(m.get("content") or "")} for m in prompt),
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        seed=int(random_for(settings.seed, "rejected", content_key(row), number).integers(2**31)),
        shared_prefix_characters=len(text) if settings.rejected == "sample" else 0,
    )
