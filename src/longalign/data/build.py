"""Stage `data`: documents -> questions -> answers -> rows, to a quota of accepted rows (paper section 3.1).

    FILE.jsonl            the rows, written whole at the end, in an order drawn by seed
    FILE.rejected.jsonl   every question and candidate that gave no row, with its reason
    FILE.report.json      counts, histograms, evidence positions, tokens, money; marks the build as done
    FILE.ledger.sqlite    every paid reply; what makes a killed build carry on without paying twice
    FILE.work/            the documents, read and counted once

A build is a pure function of settings, documents and replies. Killed at any moment, the same command replays the
ledger and writes byte for byte the file of an uninterrupted build.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, fingerprint, make_folder, random_for
from longalign.base.progress import Progress, say
from longalign.base.stage import lock
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.build_files import Paths, finished, set_aside, sha256, stamp_of, write_jsonl
from longalign.data.build_report import BuildPlan, Tally, build_report, no_usable_document, plan_build, report_text
from longalign.data.corpus import Corpus, entries_for, open_corpus, plant
from longalign.data.instruct import Attempt, Rejection, make_row, row_id, row_of
from longalign.data.select import Entry, candidates
from longalign.data.source import documents_fingerprint
from longalign.errors import DataError
from longalign.llm.base import LanguageModel
from longalign.llm.dialogue import converse
from longalign.llm.ledger import Ledger
from longalign.llm.open import is_endpoint, open_model
from longalign.llm.prompt import GAP, LANGUAGES, prompt_hash


def build(settings: DataSettings, out: Path, *, plan_only: bool = False) -> dict[str, Any]:
    """Build `settings.rows` accepted rows into `out`, or say what it would take (`plan_only`).

    Returns the report. A cap on money, or a corpus that is too small, ends with the rows there are and says so.
    Raises `DataError` when there is none, `EndpointError` when the model cannot be asked at all.
    """
    paths = Paths.of(out)
    counter = TokenCounter(settings.tokenizer)
    sources = documents_fingerprint(settings.documents)
    if settings.decontaminate:
        sources = fingerprint(sources, documents_fingerprint(settings.decontaminate))
    make_folder(paths.work)
    with lock(paths.work):
        stamp = stamp_of(settings, sources, counter)
        if (done := finished(paths, stamp)) and not plan_only:
            return done
        corpus = open_corpus(paths.work / "documents.sqlite", settings, counter, sources)
        try:
            entries = corpus.entries(settings.min_length_tokens)
            if not entries:
                raise DataError(no_usable_document(corpus.report, settings))
            plan = plan_build(entries, settings)
            if plan_only:
                return {"plan": plan.as_dict(), "corpus": corpus.report, "text": "\n".join(plan.lines(settings))}
            for line in plan.lines(settings):
                say(line)
            set_aside(paths, stamp)
            return _build(settings, paths, corpus, entries, plan, counter, stamp)
        finally:
            corpus.close()


def _build(
    settings: DataSettings,
    paths: Paths,
    corpus: Corpus,
    entries: list[Entry],
    plan: BuildPlan,
    counter: TokenCounter,
    stamp: str,
) -> dict[str, Any]:
    start = time.monotonic()
    ledger = Ledger(paths.ledger, durable=is_endpoint(settings.llm))
    try:
        model = open_model(
            settings.llm,
            ledger=ledger,
            concurrency=settings.concurrency,
            price_usd_per_million=settings.price_usd_per_million,
            max_cost_usd=settings.max_cost_usd,
            timeout_s=settings.timeout_s,
        )
        window = getattr(getattr(model, "model", model), "window", None)  # known of local models only
        longest = max(entry.length_tokens for entry in entries) + settings.max_new_tokens
        if window is not None and longest > window:
            say(
                f"warning: {settings.llm} reads {window:,} tokens and up to {longest:,} are needed; its answers over "
                "longer documents will be poor: lower --max_length_tokens, or take another model"
            )
        tally = _fill_quotas(settings, corpus, entries, plan, model, counter)
        if not tally.accepted:
            write_jsonl(paths.rejected, tally.rejected)
            why = ", ".join(f"{reason} ({count})" for reason, count in tally.reasons.most_common(3))
            raise DataError(
                f"no row was accepted of {tally.tried} tried: {tally.over_budget or why}; see {paths.rejected}"
            )
        _write_rows(paths.rows, settings, corpus, tally)
        write_jsonl(paths.rejected, tally.rejected)
        spend = ledger.totals()
    finally:
        ledger.close()
    report = build_report(settings, corpus, plan, tally) | {
        "model": model.name,
        "prompts": {language: prompt_hash(language) for language in LANGUAGES},
        "spend": spend,
        "wall_s": round(time.monotonic() - start, 3),
        "settings": settings.model_dump(mode="json"),
        "out": str(paths.rows),
        "rows_sha256": sha256(paths.rows),
        "fingerprint": stamp,
    }
    report["text"] = report_text(report)
    atomic_write_json(paths.report, report)
    return report


def _fill_quotas(
    settings: DataSettings,
    corpus: Corpus,
    entries: list[Entry],
    plan: BuildPlan,
    model: LanguageModel,
    counter: TokenCounter,
) -> Tally:
    """Waves of exactly as many candidates as rows are missing, so what is tried does not depend on timing."""
    tally = Tally()
    queues = {
        group: candidates(
            [entry for entry in entries if (entry.language == "zh") == (group == "zh")],
            passes=settings.max_rows_per_document,
            exponent=settings.length_exponent,
            seed=settings.seed,
        )
        for group in plan.quotas
    }
    missing = dict(plan.quotas)
    in_flight = max(settings.concurrency, 64) if model.batched else settings.concurrency
    with Progress("data", total=settings.rows, unit="row") as bar:
        while any(missing.values()) and not tally.over_budget:
            wave = [(group, *item) for group, queue in queues.items() for item in _take(queue, missing[group])]
            for group in queues:  # a language that has run out leaves its rows to the other
                if (short := missing[group] - sum(item[0] == group for item in wave)) > 0:
                    other = next(name for name in queues if name != group)
                    missing[group] -= short
                    extra = _take(queues[other], short)
                    missing[other] += len(extra)
                    wave += [(other, *item) for item in extra]
            if not wave:
                break
            documents = ((plant(corpus.load(entry.id), settings), number) for _, entry, number in wave)
            dialogues = (make_row(document, number, settings) for document, number in documents)
            attempts: dict[int, Attempt] = {}
            for index, attempt in converse(model, dialogues, in_flight=in_flight):
                attempt.document = replace(attempt.document, text="")  # thousands of long texts are not kept
                _measure(attempt, wave[index][1], settings, counter)
                attempts[index] = attempt
                bar.advance(attempt.rejection is None)
            for index, (group, entry, _) in enumerate(wave):
                missing[group] -= _count(tally, attempts[index], entry)
    return tally


def _measure(attempt: Attempt, entry: Entry, settings: DataSettings, counter: TokenCounter) -> None:
    """Set the length of the row that a candidate gives: document, entries, questions and answers, counted apart."""
    planted = [fact.sentence for fact in entries_for(entry.id, entry.language, settings)]
    said = [text for turn in attempt.turns for text in (GAP + turn.question, turn.answer)]
    attempt.length_tokens = entry.length_tokens + sum(counter.counts([*planted, *said]))
    if attempt.rejection is None and attempt.length_tokens > settings.max_length_tokens:
        attempt.rejection = Rejection("row too long", f"{attempt.length_tokens} tokens")


def _count(tally: Tally, attempt: Attempt, entry: Entry) -> bool:
    """Enter one candidate into the tally; whether it gives a row."""
    if attempt.over_budget:
        tally.over_budget = attempt.rejection.detail if attempt.rejection else ""
        return False
    tally.tried += 1
    asked = (entry.id, *(turn.question for turn in attempt.turns))
    if attempt.rejection is None and asked in tally.asked:
        attempt.rejection = Rejection("same question again", question=attempt.turns[0].question)
    for kind, rejection in [*(("turn", r) for r in attempt.rejected_turns), ("row", attempt.rejection)]:
        if rejection is not None:
            (tally.reasons if kind == "row" else tally.turn_reasons)[rejection.reason] += 1
            tally.rejected.append({"kind": kind, **_about(attempt), **asdict(rejection)})
    if attempt.rejection is not None:
        return False
    tally.asked.add(asked)
    tally.accepted.append(attempt)
    return True


def _about(attempt: Attempt) -> dict[str, Any]:
    document = attempt.document
    return {
        "document": document.id,
        "title": document.title,
        "origin": document.origin,
        "language": document.language,
        "task": attempt.task,
    }


def _take(queue: Iterator[tuple[Entry, int]], count: int) -> list[tuple[Entry, int]]:
    return list(islice(queue, count))


def _write_rows(path: Path, settings: DataSettings, corpus: Corpus, tally: Tally) -> None:
    """All rows in an order drawn by seed and row, so that languages, passes and lengths are mixed."""

    def place(attempt: Attempt) -> tuple[float, str]:
        id = row_id(attempt)
        return float(random_for(settings.seed, "row order", id).random()), id

    def rows() -> Iterator[dict[str, Any]]:
        for attempt in sorted(tally.accepted, key=place):
            yield row_of(_with_text(attempt, corpus, settings))

    write_jsonl(path, rows())


def _with_text(attempt: Attempt, corpus: Corpus, settings: DataSettings) -> Attempt:
    """The attempt with its document's text again."""
    return replace(attempt, document=plant(corpus.load(attempt.document.id), settings))
