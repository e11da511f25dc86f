"""Stage `data`: documents -> questions -> answers -> rows, until enough rows are accepted (paper section 3.1).

    FILE.jsonl            the rows, written whole at the end, in an order drawn by seed
    FILE.rejected.jsonl   questions and documents that gave no row, with their reasons (until then in FILE.work)
    FILE.documents.jsonl  files, rows and documents that no row is made from, with their reasons
    FILE.report.json      counts, histograms, evidence positions, tokens, money
    FILE.ledger.sqlite    every paid reply; with it a killed build resumes without paying twice
    FILE.work/            stage.json; the documents, read and counted once; rows of earlier settings, `superseded/`

With a folder for `--out`, FILE is FOLDER/rows, and stage.json and `superseded/` are in the folder itself. The ledger
stays when settings change: a reply is found by its request.

A build is a pure function of settings, documents and replies. Killed at any moment, the same command replays the
ledger and writes byte for byte the file of an uninterrupted build.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from longalign.base.files import atomic_write_json, make_folder, sha256_of, write_jsonl
from longalign.base.progress import say
from longalign.base.ray_cluster import ray_session
from longalign.base.stage import StageRun, lock, open_stage, set_aside
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.attempt import Attempt, with_texts
from longalign.data.build_ask import ask_for_rows
from longalign.data.build_files import STAGE, Inputs, Paths, claim, earlier_build, intact
from longalign.data.build_plan import BuildPlan, no_usable_document, plan_build
from longalign.data.build_report import BuildFacts, BuildReport, build_report
from longalign.data.build_tally import AttemptFile, Tally
from longalign.data.check_answer import with_checker
from longalign.data.corpus import Corpus, open_corpus
from longalign.data.document_table import DocumentTable
from longalign.data.instruct import row_of
from longalign.data.plant import plant
from longalign.errors import DataError
from longalign.llm.base import LanguageModel, innermost
from longalign.llm.executor import provider_for
from longalign.llm.ledger import Ledger, failed_calls
from longalign.llm.open import check_batch_api, is_endpoint, open_model
from longalign.llm.prompt import language_of, prompt_hash, wording_for

VERSION = 1


@ray_session()
def build(settings: DataSettings, out: Path, *, plan_only: bool = False) -> dict[str, Any]:
    """Build `settings.rows` accepted rows into `out` (see `Paths.of`), or say what it would take (`plan_only`).

    Returns the report, with `out` and `text`. A cap on money, or a corpus that is too small, ends with the rows there
    are and says so. Raises `DataError` when there is none, `EndpointError` when the model cannot be asked at all.
    """
    if settings.executor == "batch":
        check_batch_api(settings.llm)
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
    documents: DocumentTable
    plan: BuildPlan
    counter: TokenCounter


@contextmanager
def _opened(settings: DataSettings, paths: Paths, counter: TokenCounter, inputs: Inputs) -> Iterator[Drawn]:
    """Raises `DataError` where no document is usable."""
    make_folder(paths.work)
    corpus = open_corpus(paths.work / "documents.sqlite", paths.left_out, settings, counter, inputs.texts)
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
    ledger = Ledger(paths.ledger, durable=is_endpoint(settings.llm) or is_endpoint(settings.checker or ""))
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
            extras=settings,
            prompts=settings.prompts,
            batch=settings if settings.executor == "batch" else None,
            vllm_engine=settings.vllm_engine,
            provider=provider_for(settings),
        )
        model = with_checker(model, settings, ledger)
        _check_window(settings, model, drawn.documents)
        with closing(AttemptFile(paths.work)) as attempts:
            with _rejected_file(paths) as rejected:
                tally = ask_for_rows(
                    settings, drawn.corpus, drawn.documents, drawn.plan.quotas, drawn.counter, model, attempts,
                    rejected, ledger.spent_usd,
                )  # fmt: skip
            if not tally.rows:
                raise DataError(
                    f"no row was accepted of {tally.tried} tried: {tally.over_budget or tally.top_reasons()}; "
                    f"see {paths.rejected}"
                )
            _write_rows(paths.rows, settings, drawn.corpus, tally, attempts)
        used = [wording_for(language, settings.prompts) for language in sorted(tally.by_language)]
        facts = BuildFacts(
            model=model.name,
            prompts={language_of(wording): prompt_hash(wording) for wording in used},
            spend=ledger.totals(),
            wall_s=round(time.monotonic() - start, 3),
            rows_sha256=sha256_of(paths.rows),
            fingerprint=stamp,
        )
    finally:
        ledger.close()
    return build_report(settings, drawn.corpus, drawn.plan, tally, facts)


@contextmanager
def _rejected_file(paths: Paths) -> Iterator[TextIO]:
    """Rejected candidates can be read while the build runs; the file takes its name at the end, also after a mistake.

    A killed build leaves its lines in the work folder; the same command writes them again, from the ledger.
    """
    live = paths.work / "rejected.jsonl"
    with live.open("w", encoding="utf-8", buffering=1) as stream:
        try:
            yield stream
        except DataError:
            os.replace(live, paths.rejected)
            raise
        os.fsync(stream.fileno())
    os.replace(live, paths.rejected)


def _check_window(settings: DataSettings, model: LanguageModel, documents: DocumentTable) -> None:
    window = getattr(innermost(model), "window", None)  # known of local models only
    longest = max(document.length_tokens for document in documents) + settings.max_new_tokens
    if window is not None and longest > window:
        say(
            f"warning: {settings.llm} reads {window:,} tokens and up to {longest:,} are needed; its answers over "
            "longer documents will be poor: lower --max_length_tokens, or take another model"
        )


def _write_rows(path: Path, settings: DataSettings, corpus: Corpus, tally: Tally, attempts: AttemptFile) -> None:
    """All rows, one in memory at a time, each with its documents' texts again."""

    def row(attempt: Attempt) -> dict[str, Any]:
        own = plant(corpus.load(attempt.document.id), settings)
        full = with_texts(attempt, lambda document: own if document.id == own.id else corpus.load(document.id))
        return row_of(full, settings)

    write_jsonl(path, (row(attempts.get(kept)) for kept in tally.in_row_order()))
