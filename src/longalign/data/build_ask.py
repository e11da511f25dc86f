"""Asks a model for the rows of a build: a continuous flow of candidates, and what a person sees of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TextIO

from longalign.base.progress import Progress, say
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.attempt import Attempt, Rejection, without_texts
from longalign.data.build_flow import Flow, Started
from longalign.data.build_tally import AttemptFile, Kept, Tally
from longalign.data.corpus import Corpus
from longalign.data.distractors import surround
from longalign.data.document_draw import DocumentSummary, candidates
from longalign.data.document_table import DocumentTable
from longalign.data.instruct import make_row
from longalign.data.neighbours import Library
from longalign.data.plant import entries_for, plant
from longalign.data.several_documents import companion_tokens
from longalign.errors import DataError
from longalign.llm.base import LanguageModel
from longalign.llm.dialogue import Dialogue, converse
from longalign.llm.prompt import GAP

Candidate = tuple[DocumentSummary, int]
BATCHED_IN_FLIGHT = 64
FEW_AFTER = 200
FEW_SHARE = 0.05
COST_AFTER = 50
SECONDS_BETWEEN_COSTS = 2.0
SHOWN_CHARS = 300


def ask_for_rows(
    settings: DataSettings,
    corpus: Corpus,
    documents: DocumentTable,
    quotas: dict[str, int],
    counter: TokenCounter,
    model: LanguageModel,
    attempts: AttemptFile,
    rejected: TextIO,
    spent_usd: Callable[[], float | None],
) -> Tally:
    """Work on candidates until the rows are there, the documents end, or the money does.

    Raises `DataError` when the first `give_up_after` candidates gave nothing.
    """
    tally = Tally(rejected)
    in_flight = places_for(model, settings)
    queues: dict[str, Iterator[Candidate]] = {
        group: candidates(
            documents,
            passes=settings.max_rows_per_document,
            exponent=settings.length_exponent,
            seed=settings.seed,
            group=group,
        )
        for group in quotas
    }
    library = Library(documents, corpus.load, settings)
    first = max(settings.give_up_after, min(settings.concurrency, in_flight) if settings.in_batches else in_flight)
    flow = Flow(queues, quotas, first=first if settings.give_up_after else None)
    under_way: dict[int, Started[Candidate]] = {}
    numbers = count()
    found: dict[tuple[str, int], Kept] = {}
    busy = _Busy(in_flight)

    def dialogues() -> Iterator[Dialogue[Attempt] | None]:
        while True:
            candidate = flow.start()
            if candidate is None:
                yield None
                continue
            under_way[next(numbers)] = candidate
            busy.change(+1)
            summary, number = candidate.item
            document = plant(corpus.load(summary.id), settings)
            yield make_row(
                document, number, settings, library.for_questions(document, number), library.for_row(document, number)
            )

    with Progress("data", total=settings.rows, unit="row") as bar:
        watch = _Watch(settings, tally, spent_usd)
        for index, attempt in converse(model, dialogues(), in_flight=in_flight):
            busy.change(-1)
            candidate = under_way.pop(index)
            if attempt.over_budget:
                tally.over_budget = attempt.rejection.detail if attempt.rejection else ""
                flow.stop()
                flow.finish(candidate, None)
            else:
                document, number = candidate.item
                _measure(attempt, document, settings, counter)
                if settings.distractors and attempt.rejection is None:
                    surround(attempt, library.for_distractors(attempt.document, number), settings, number, counter)
                found[candidate.group, candidate.number] = attempts.put(without_texts(attempt))
                flow.finish(candidate, attempt.rejection is None)
            for due in flow.ready():
                kept = found.pop((due.group, due.number))
                flow.decide(due, tally.count(attempts.get(kept), due.item[0], kept, settings))
                watch.after_decision()
            bar.advance(flow.acceptable - bar.done, watch.note(flow.finished, flow.acceptable))
    tally.seconds = busy.seconds
    tally.slots_busy_share = busy.share
    return tally


def places_for(model: LanguageModel, settings: DataSettings) -> int:
    """Candidates that are worked on at once."""
    if settings.in_batches and model.batched:
        return settings.batch_requests
    return max(settings.concurrency, BATCHED_IN_FLIGHT) if model.batched else settings.concurrency


def _measure(attempt: Attempt, document: DocumentSummary, settings: DataSettings, counter: TokenCounter) -> None:
    """Set the length of the row that a candidate gives: document, entries, questions and answers, counted apart."""
    if attempt.rejection is not None:
        return
    planted = [fact.sentence for fact in entries_for(document.id, document.language, settings)]
    said = [text for turn in attempt.turns for text in (GAP + turn.question, turn.reasoning, turn.answer)]
    attempt.length_tokens = document.length_tokens + sum(counter.counts([*planted, *said]))
    attempt.length_tokens += companion_tokens(attempt, counter)
    if attempt.length_tokens > settings.max_length_tokens:
        attempt.rejection = Rejection("row too long", f"{attempt.length_tokens} tokens")


class _Busy:
    """How many of the slots had a candidate, over time."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.start = self.last = time.monotonic()
        self.open = 0
        self.slot_seconds = 0.0

    def change(self, by: int) -> None:
        now = time.monotonic()
        self.slot_seconds += self.open * (now - self.last)
        self.last, self.open = now, self.open + by

    @property
    def seconds(self) -> float:
        return self.last - self.start

    @property
    def share(self) -> float | None:
        return round(self.slot_seconds / (self.slots * self.seconds), 4) if self.seconds > 0 else None


class _Watch:
    """The live tally, and what is said when a model gives few rows or none."""

    def __init__(self, settings: DataSettings, tally: Tally, spent_usd: Callable[[], float | None]) -> None:
        self.settings, self.tally, self.spent_usd = settings, tally, spent_usd
        self.warned = False
        self.cost, self.cost_at = "", -SECONDS_BETWEEN_COSTS

    def after_decision(self) -> None:
        """Raises `DataError` when nothing of the first candidates was acceptable."""
        tally, limit = self.tally, self.settings.give_up_after
        if limit and tally.tried == limit and not tally.rows:
            for sample in tally.samples:
                say(f"rejected ({sample.reason}): {_shown(sample)}")
            raise DataError(
                f"none of the first {limit} documents gave a row: {tally.top_reasons()}; try another model, or see "
                "what the reasons ask for (docs/guide/data.md#what-is-rejected); replies are "
                "remembered: --retry failed asks failed calls again, --give_up_after 0 goes on"
            )
        if not self.warned and tally.tried >= FEW_AFTER and tally.rows < FEW_SHARE * tally.tried:
            self.warned = True
            say(
                f"warning: only {tally.rows} of {tally.tried} documents gave a row: {tally.top_reasons()}; "
                "every row costs the calls of all others: stop with Ctrl-C and try another model or settings"
            )

    def note(self, finished: int, acceptable: int) -> str:
        """Tried and accepted, the commonest reasons, money so far and, after some candidates, in all."""
        now = time.monotonic()
        if now - self.cost_at >= SECONDS_BETWEEN_COSTS:
            self.cost_at = now
            spent = self.spent_usd()
            self.cost = f"; ${spent:,.2f} so far" if spent else ""
            if spent and acceptable and finished >= COST_AFTER:
                self.cost += f", about ${spent / acceptable * self.settings.rows:,.2f} in all"
        reasons = f": {self.tally.top_reasons()}" if self.tally.reasons else ""
        return f"({finished:,} tried, {acceptable / max(finished, 1):.0%} accepted{reasons}{self.cost})"


def _shown(rejection: Rejection) -> str:
    parts = {"question": rejection.question, "reply": rejection.answer}
    shown = [f"{name} {_short(text)!r}" for name, text in parts.items() if text]
    return "; ".join([*shown, *filter(None, [_short(rejection.detail)])])


def _short(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARS]
