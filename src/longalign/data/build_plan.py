"""`data build --plan-only`: how many calls a build will make and what they cost, before any money is spent."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from longalign.config import DataSettings
from longalign.data.corpus import CorpusReport
from longalign.data.document_draw import SHORTEST_TOKENS, DocumentSummary, histogram, language_quotas
from longalign.llm.open import expected_cost_usd, is_endpoint

EXPECTED_QUESTION_TOKENS = 30
EXPECTED_ANSWER_TOKENS = 300
PROMPT_TOKENS = 250
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
            found.append(f"cost: {self._cost()}")
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
class Work:
    """Calls and tokens for one candidate that gives a row."""

    calls: float
    prompt_tokens: float
    completion_tokens: float

    def __add__(self, other: Work) -> Work:
        return Work(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Work:
        return Work(*(mine * times for mine in astuple(self)))


def work_of_one(settings: DataSettings, document_tokens: float) -> Work:
    """What one candidate takes, call by call; a setting that adds a call adds a line here."""
    over_document = document_tokens + PROMPT_TOKENS
    work = Work(1, over_document, settings.questions_per_call * EXPECTED_QUESTION_TOKENS)
    work += Work(1, over_document, EXPECTED_ANSWER_TOKENS) * settings.turns
    if settings.closed_book:
        work += Work(1, PROMPT_TOKENS, EXPECTED_ANSWER_TOKENS) * settings.turns
    return work


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
    one = work_of_one(settings, mean_tokens)

    def cost_usd(accepted_share: float) -> float | None:
        tried = rows / accepted_share
        return expected_cost_usd(
            settings.llm, settings.price_usd_per_million, tried * one.prompt_tokens, tried * one.completion_tokens
        )

    tried = rows * (1 + REJECTED_SHARE)
    return BuildPlan(
        rows=settings.rows,
        possible_rows=possible,
        quotas=language_quotas(documents, settings.rows, settings.chinese_share),
        documents=len(documents),
        documents_in_band=len(in_band_tokens),
        calls=round(tried * one.calls),
        prompt_tokens=round(tried * one.prompt_tokens),
        completion_tokens=round(tried * one.completion_tokens),
        cost_usd=cost_usd(1 / (1 + REJECTED_SHARE)),
        cost_usd_if_all_accepted=cost_usd(1.0),
        cost_usd_if_half_accepted=cost_usd(0.5),
        histogram=histogram(lengths_tokens),
    )


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
