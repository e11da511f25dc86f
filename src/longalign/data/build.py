"""Stage `data`: documents -> questions -> answers -> rows, until enough rows are accepted (paper section 3.1).

    FILE.jsonl            the rows, written whole at the end, in an order drawn by seed
    FILE.rejected.jsonl   every question and document that gave no row, with its reason
    FILE.report.json      counts, histograms, evidence positions, tokens, money
    FILE.ledger.sqlite    every paid reply; with it a killed build resumes without paying twice
    FILE.work/            stage.json; the documents, read and counted once; rows of earlier settings, `superseded/`

With a folder for `--out`, FILE is FOLDER/rows, and stage.json and `superseded/` are in the folder itself. The ledger
stays when settings change: a reply is found by its request.

A build is a pure function of settings, documents and replies. Killed at any moment, the same command replays the
ledger and writes byte for byte the file of an uninterrupted build.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, make_folder, random_for, sha256_of, write_jsonl
from longalign.base.progress import Progress, say
from longalign.base.stage import StageRun, lock, open_stage, set_aside
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.build_files import STAGE, Inputs, Paths, claim, earlier_build, intact
from longalign.data.build_plan import BuildPlan, no_usable_document, plan_build
from longalign.data.build_report import BuildFacts, BuildReport, Tally, build_report
from longalign.data.corpus import Corpus, open_corpus
from longalign.data.document_draw import DocumentSummary, candidates
from longalign.data.instruct import Attempt, Rejection, make_row, row_id, row_of
from longalign.data.plant import entries_for, plant
from longalign.errors import DataError
from longalign.llm.base import LanguageModel
from longalign.llm.dialogue import converse
from longalign.llm.ledger import Ledger, failed_calls
from longalign.llm.open import is_endpoint, open_model
from longalign.llm.prompt import GAP, LANGUAGES, prompt_hash

VERSION = 1


def build(settings: DataSettings, out: Path, *, plan_only: bool = False) -> dict[str, Any]:
    """Build `settings.rows` accepted rows into `out` (see `Paths.of`), or say what it would take (`plan_only`).

    Returns the report, with `out` and `text`. A cap on money, or a corpus that is too small, ends with the rows there
    are and says so. Raises `DataError` when there is none, `EndpointError` when the model cannot be asked at all.
    """
    paths = Paths.of(out)
    counter = TokenCounter(settings.tokenizer)
    inputs = Inputs.of(settings, counter)
    if plan_only:
        make_folder(paths.folder)
        with lock(paths.folder), _opened(settings, paths, counter, inputs) as source:
            text = "\n".join(source.plan.lines(settings))
            return {"plan": source.plan.as_dict(), "corpus": asdict(source.corpus.report), "text": text}
    claim(paths)
    for _ in range(2):  # the second time without the finished rows that somebody changed
        with open_stage(
            paths.folder, STAGE, settings=settings, inputs=inputs.by_name(), version=VERSION, outputs=paths.outputs
        ) as stage:
            if not stage.done:
                return _said(paths, _build(settings, paths, counter, inputs, stage))
            report = BuildReport.from_dict(stage.summary, paths.folder)
            again = failed_calls(paths.ledger, settings.retry)
            if intact(paths, report) and not again:
                return _said(paths, report)
            why = f"{again} failed calls are made again" if again else "it was changed since it was built"
            say(f"{paths.rows}: {why}; the earlier file is set aside")
            set_aside(paths.folder, stage.manifest, paths.outputs)
    raise AssertionError("a stage without a manifest is not done")


@dataclass(frozen=True)
class Drawn:
    """The documents of a build and what is planned with them."""

    corpus: Corpus
    documents: list[DocumentSummary]
    plan: BuildPlan
    counter: TokenCounter


@contextmanager
def _opened(settings: DataSettings, paths: Paths, counter: TokenCounter, inputs: Inputs) -> Iterator[Drawn]:
    """Raises `DataError` where no document is usable."""
    make_folder(paths.work)
    corpus = open_corpus(paths.work / "documents.sqlite", settings, counter, inputs.texts)
    try:
        documents = corpus.documents(settings.min_length_tokens)
        if not documents:
            raise DataError(no_usable_document(corpus.report, settings))
        yield Drawn(corpus, documents, plan_build(documents, settings), counter)
    finally:
        corpus.close()


def _said(paths: Paths, report: BuildReport) -> dict[str, Any]:
    """The report with where the rows lie now; the folder may have been moved."""
    return report.as_dict() | {"out": str(paths.rows), "text": report.text(paths.rows)}


def _build(settings: DataSettings, paths: Paths, counter: TokenCounter, inputs: Inputs, stage: StageRun) -> BuildReport:
    stamp = str(stage.manifest["fingerprint"])
    report = earlier_build(paths, settings, inputs, stamp)
    if report is not None:
        report = replace(report, fingerprint=stamp)
    else:
        with _opened(settings, paths, counter, inputs) as drawn:
            for line in drawn.plan.lines(settings):
                say(line)
            report = _write(settings, paths, drawn, stamp)
    atomic_write_json(paths.report, _said(paths, report))
    if report.finished:
        stage.finish(report.as_dict())
    return report


def _write(settings: DataSettings, paths: Paths, drawn: Drawn, stamp: str) -> BuildReport:
    """Ask for the rows and write them."""
    start = time.monotonic()
    ledger = Ledger(paths.ledger, durable=is_endpoint(settings.llm))
    try:
        if settings.retry:
            ledger.forget(settings.retry)
        model = open_model(
            settings.llm,
            ledger=ledger,
            concurrency=settings.concurrency,
            price_usd_per_million=settings.price_usd_per_million,
            max_cost_usd=settings.max_cost_usd,
            timeout_s=settings.timeout_s,
        )
        _check_window(settings, model, drawn.documents)
        tally = _fill_quotas(settings, drawn, model)
        write_jsonl(paths.rejected, tally.rejected)
        if not tally.accepted:
            why = ", ".join(f"{reason} ({count})" for reason, count in tally.reasons.most_common(3))
            raise DataError(
                f"no row was accepted of {tally.tried} tried: {tally.over_budget or why}; see {paths.rejected}"
            )
        _write_rows(paths.rows, settings, drawn.corpus, tally)
        facts = BuildFacts(
            model=model.name,
            prompts={language: prompt_hash(language) for language in LANGUAGES},
            spend=ledger.totals(),
            wall_s=round(time.monotonic() - start, 3),
            rows_sha256=sha256_of(paths.rows),
            fingerprint=stamp,
        )
    finally:
        ledger.close()
    return build_report(settings, drawn.corpus, drawn.plan, tally, facts)


def _check_window(settings: DataSettings, model: LanguageModel, documents: list[DocumentSummary]) -> None:
    window = getattr(getattr(model, "model", model), "window", None)  # known of local models only
    longest = max(document.length_tokens for document in documents) + settings.max_new_tokens
    if window is not None and longest > window:
        say(
            f"warning: {settings.llm} reads {window:,} tokens and up to {longest:,} are needed; its answers over "
            "longer documents will be poor: lower --max_length_tokens, or take another model"
        )


def _fill_quotas(settings: DataSettings, drawn: Drawn, model: LanguageModel) -> Tally:
    """Waves of exactly as many candidates as rows are missing, so what is tried does not depend on timing."""
    tally = Tally()
    queues = {
        group: candidates(
            [document for document in drawn.documents if (document.language == "zh") == (group == "zh")],
            passes=settings.max_rows_per_document,
            exponent=settings.length_exponent,
            seed=settings.seed,
        )
        for group in drawn.plan.quotas
    }
    missing = dict(drawn.plan.quotas)
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
            planted = ((plant(drawn.corpus.load(document.id), settings), number) for _, document, number in wave)
            dialogues = (make_row(document, number, settings) for document, number in planted)
            attempts: dict[int, Attempt] = {}
            for index, attempt in converse(model, dialogues, in_flight=in_flight):
                attempt.document = replace(attempt.document, text="")  # thousands of long texts are not kept
                _measure(attempt, wave[index][1], settings, drawn.counter)
                attempts[index] = attempt
                bar.advance(attempt.rejection is None)
            for index, (group, document, _) in enumerate(wave):
                missing[group] -= _count(tally, attempts[index], document)
    return tally


def _measure(attempt: Attempt, document: DocumentSummary, settings: DataSettings, counter: TokenCounter) -> None:
    """Set the length of the row that a candidate gives: document, entries, questions and answers, counted apart."""
    planted = [fact.sentence for fact in entries_for(document.id, document.language, settings)]
    said = [text for turn in attempt.turns for text in (GAP + turn.question, turn.answer)]
    attempt.length_tokens = document.length_tokens + sum(counter.counts([*planted, *said]))
    if attempt.rejection is None and attempt.length_tokens > settings.max_length_tokens:
        attempt.rejection = Rejection("row too long", f"{attempt.length_tokens} tokens")


def _count(tally: Tally, attempt: Attempt, document: DocumentSummary) -> bool:
    """Enter one candidate into the tally; whether it gives a row."""
    if attempt.over_budget:
        tally.over_budget = attempt.rejection.detail if attempt.rejection else ""
        return False
    tally.tried += 1
    asked = (document.id, *(turn.question for turn in attempt.turns))
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


def _take(queue: Iterator[tuple[DocumentSummary, int]], count: int) -> list[tuple[DocumentSummary, int]]:
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
