"""`data build --plan-only`: how many calls a build will make and what they cost, before any money is spent."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longalign.config import DataSettings
from longalign.data.corpus_report import CorpusReport
from longalign.data.document_draw import SHORTEST_TOKENS, DocumentSummary, histogram, language_quotas
from longalign.data.ingredients import ExpectedCall, calls_per_row
from longalign.llm.open import expected_cost_usd, is_endpoint

EXPECTED_QUESTION_TOKENS = 30
EXPECTED_ANSWER_TOKENS = 300
PROMPT_TOKENS = 250
PART_TOKENS = 2000
REJECTED_SHARE = 0.1


@dataclass(frozen=True)
class BuildPlan:
    """Counts and estimates of a build. Money is None where no price is given."""

    rows: int
    possible_rows: int
    quotas: dict[str, int]
    documents: int
    documents_in_band: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    histogram: dict[str, int]
    cost_usd_if_all_accepted: float | None = None
    cost_usd_if_half_accepted: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self, settings: DataSettings) -> list[str]:
        """For people."""
        found = [
            f"documents: {self.documents:,} usable, {self.documents_in_band:,} of the length asked for; "
            f"lengths {self.histogram}",
            f"calls: about {self.calls:,} to {settings.llm}, {self.prompt_tokens:,} prompt tokens and "
            f"{self.completion_tokens:,} new ones ({REJECTED_SHARE:.0%} rejected answers allowed for)",
        ]
        if is_endpoint(settings.llm):
            share = f", batches at {settings.batch_price_share:.0%} of the price" if settings.in_batches else ""
            found.append(f"cost: {self._cost()}{share}")
        if self.possible_rows < self.rows:
            found.append(shortage(self.possible_rows, self, settings))
        return found

    def _cost(self) -> str:
        if self.cost_usd is None:
            return 'unknown without --price_usd_per_million "[INPUT, OUTPUT]"'
        text = f"about ${self.cost_usd:,.2f}"
        if self.cost_usd_if_all_accepted is not None and self.cost_usd_if_half_accepted is not None:
            low, high = self.cost_usd_if_all_accepted, self.cost_usd_if_half_accepted
            text += f" (${low:,.2f} if every answer is accepted, ${high:,.2f} if half are)"
        return text


@dataclass(frozen=True)
class Expected:
    """Tokens and money of the calls for some candidates."""

    prompt_tokens: float
    new_tokens: float
    cost_usd: float | None


def plan_build(documents: Sequence[DocumentSummary], settings: DataSettings) -> BuildPlan:
    """The plan over usable documents; prompts are counted in the tokens of the settings' tokenizer."""
    possible = len(documents) * settings.max_rows_per_document
    rows = min(settings.rows, possible)
    lengths_tokens, in_band_tokens = array("q"), array("q")
    for document in documents:  # there may be millions: only their lengths are kept
        lengths_tokens.append(document.length_tokens)
        if document.in_band:
            in_band_tokens.append(document.length_tokens)
    drawn = in_band_tokens or lengths_tokens
    mean_tokens = sum(drawn) / max(len(drawn), 1)
    tried = rows * (1 + REJECTED_SHARE)
    each = calls_per_row(settings, question_tokens=EXPECTED_QUESTION_TOKENS, answer_tokens=EXPECTED_ANSWER_TOKENS)
    expected = _expected(settings, each, mean_tokens, tried)
    return BuildPlan(
        rows=settings.rows,
        possible_rows=possible,
        quotas=language_quotas(documents, settings.rows, settings.chinese_share),
        documents=len(documents),
        documents_in_band=len(in_band_tokens),
        calls=round(sum(tried * call.per_row for call in each)),
        prompt_tokens=round(expected.prompt_tokens),
        completion_tokens=round(expected.new_tokens),
        cost_usd=expected.cost_usd,
        cost_usd_if_all_accepted=_expected(settings, each, mean_tokens, rows).cost_usd,
        cost_usd_if_half_accepted=_expected(settings, each, mean_tokens, 2 * rows).cost_usd,
        histogram=histogram(lengths_tokens),
    )


def _expected(settings: DataSettings, each: Sequence[ExpectedCall], mean_tokens: float, tried: float) -> Expected:
    """What `tried` candidates over documents of `mean_tokens` take; without a checker its calls are the writer's."""
    reads = {"document": mean_tokens, "part": min(PART_TOKENS, mean_tokens / 4), "question": 0.0}
    prompt = new = 0.0
    cost: float | None = 0.0
    for call in each:
        read, written = (
            tried * call.per_row * (reads[call.reads] + PROMPT_TOKENS),
            tried * call.per_row * call.new_tokens,
        )
        spec, price, batch = settings.llm, settings.price_usd_per_million, settings.executor == "batch"
        if call.by_checker and settings.checker is not None:
            spec, price = settings.checker, settings.checker_price_usd_per_million
            batch = settings.checker_in_batches(is_endpoint(spec))
        spent = expected_cost_usd(spec, price, read, written)
        if spent is not None and batch:
            spent *= settings.batch_price_share
        prompt, new = prompt + read, new + written
        cost = None if cost is None or spent is None else cost + spent
    return Expected(prompt, new, None if cost is None else round(cost, 4))


def shortage(rows: int, plan: BuildPlan, settings: DataSettings) -> str:
    """Why there will be fewer rows than requested, and what helps."""
    return (
        f"only {rows:,} of {settings.rows:,} rows: {plan.documents:,} usable documents x at most "
        f"{settings.max_rows_per_document} rows each; add documents, raise --max-rows-per-document, "
        "or lower --min-length-tokens"
    )


def no_usable_document(report: CorpusReport, settings: DataSettings) -> str:
    """Why a corpus gives no row at all."""
    dropped = ", ".join(f"{reason}: {count}" for reason, count in report.dropped_by_reason.items())
    shortest = settings.min_length_tokens or SHORTEST_TOKENS
    return (
        f"none of {report.read} documents is usable ({dropped}; the longest has "
        f"{report.longest_tokens:,} tokens, {shortest:,}-{settings.max_length_tokens:,} are wanted); "
        "lower --min-length-tokens or add longer documents"
    )
