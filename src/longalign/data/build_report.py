"""What came of a build, accounted for: tried = accepted + rejected, by reason; where evidence stands; what it cost.

What a build will ask and cost, said before anything is spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from longalign.config import DataSettings
from longalign.data.corpus import DEFAULT_MIN_TOKENS, Corpus
from longalign.data.instruct import Attempt
from longalign.data.select import SHORTEST_TOKENS, Entry, histogram, language_quotas
from longalign.data.verify import position_balance
from longalign.llm.open import is_endpoint


@dataclass
class Tally:
    """What has come of the candidates so far; texts of documents are not kept."""

    accepted: list[Attempt] = field(default_factory=list)
    asked: set[tuple[str, ...]] = field(default_factory=set)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    turn_reasons: Counter[str] = field(default_factory=Counter)
    tried: int = 0
    over_budget: str = ""


def build_report(settings: DataSettings, corpus: Corpus, plan: BuildPlan, tally: Tally) -> dict[str, Any]:
    """Counts, histograms and shares of a build; without model and money, which the ledger knows."""
    attempts = tally.accepted
    evidence = [e.position for attempt in attempts for turn in attempt.turns for e in turn.evidence]
    complete = len(attempts) == settings.rows
    notice = ""
    if tally.over_budget:
        notice = f"only {len(attempts):,} of {settings.rows:,} rows: {tally.over_budget}; raise --max-cost-usd to go on"
    elif not complete:
        notice = shortage(len(attempts), plan, settings)
    elif (short := sum(not e.in_band for e in _used(corpus, settings, attempts))) > 0:
        notice = (
            f"{short:,} of {len(attempts):,} rows are on documents below {DEFAULT_MIN_TOKENS:,} tokens, since longer "
            "ones did not suffice; give --min-length-tokens to insist on a length"
        )
    return {
        "rows": len(attempts),
        "rows_wanted": settings.rows,
        "complete": complete,
        "finished": not tally.over_budget,
        "notice": notice,
        "tried": tally.tried,
        "rejected": sum(tally.reasons.values()),
        "rejected_by_reason": dict(tally.reasons.most_common()),
        "rejected_questions_by_reason": dict(tally.turn_reasons.most_common()),
        "turns": sum(len(attempt.turns) for attempt in attempts),
        "tokens": sum(attempt.length_tokens for attempt in attempts),
        "by_task": _counts(attempt.task for attempt in attempts),
        "by_language": _counts(attempt.document.language for attempt in attempts),
        "by_source": _counts(attempt.document.source for attempt in attempts),
        "documents_used": len({attempt.document.id for attempt in attempts}),
        "length_histogram": histogram([attempt.length_tokens for attempt in attempts]),
        "length_law": f"drawn with chance proportional to length ** {settings.length_exponent:g}",
        "evidence_positions": position_balance(evidence),
        "corpus": corpus.report,
    }


def _used(corpus: Corpus, settings: DataSettings, attempts: list[Attempt]) -> list[Entry]:
    entries = {entry.id: entry for entry in corpus.entries(settings.min_length_tokens)}
    return [entries[attempt.document.id] for attempt in attempts]


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def report_text(report: dict[str, Any]) -> str:
    """The summary for people."""
    spend = report["spend"]
    cost = "" if spend["spent_usd"] is None else f", ${spend['spent_usd']:,.4f} spent in all"
    reasons = ", ".join(f"{reason} {count}" for reason, count in report["rejected_by_reason"].items())
    lines = [
        f"{report['rows']:,} rows, {report['tokens']:,} tokens in {report['out']}, by {report['model']}",
        f"tried {report['tried']:,}: {report['rows']:,} accepted, {report['rejected']:,} rejected"
        + (f" ({reasons})" if reasons else ""),
        f"tasks {report['by_task']}, languages {report['by_language']}, lengths {report['length_histogram']}",
        f"evidence by tenth of the document: {list(report['evidence_positions'].values())}",
        f"calls on record: {spend['calls']:,}{cost}",
    ]
    return "\n".join([*lines, f"note: {report['notice']}"] if report["notice"] else lines)


def no_usable_document(report: dict[str, Any], settings: DataSettings) -> str:
    """Why a corpus gives no row at all."""
    dropped = ", ".join(f"{reason}: {count}" for reason, count in report["dropped_by_reason"].items())
    least = settings.min_length_tokens or SHORTEST_TOKENS
    return (
        f"none of {report['read']} documents is usable ({dropped}; the longest has "
        f"{report['longest_tokens']:,} tokens, {least:,}-{settings.max_length_tokens:,} are wanted); "
        "lower --min-length-tokens or add longer documents"
    )


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

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))

    def lines(self, settings: DataSettings) -> list[str]:
        """For people."""
        found = [
            f"documents: {self.documents:,} usable, {self.documents_in_band:,} of the length asked for; "
            f"lengths {self.histogram}",
            f"calls: about {self.calls:,} to {settings.llm}, {self.prompt_tokens:,} prompt tokens and "
            f"{self.completion_tokens:,} new ones ({REJECTED_SHARE:.0%} rejected answers allowed for)",
        ]
        if is_endpoint(settings.llm):
            unknown = 'unknown without --price_usd_per_million "[INPUT, OUTPUT]"'
            found.append(f"cost: {unknown if self.cost_usd is None else f'about ${self.cost_usd:,.2f}'}")
        if self.possible_rows < self.rows:
            found.append(shortage(self.possible_rows, self, settings))
        return found


def plan_build(entries: Sequence[Entry], settings: DataSettings) -> BuildPlan:
    """The plan over usable documents; prompts are counted in the tokens of the settings' tokenizer."""
    possible = len(entries) * settings.max_rows_per_document
    rows = min(settings.rows, possible)
    in_band = [entry for entry in entries if entry.in_band]
    drawn = in_band or list(entries)
    mean_tokens = sum(entry.length_tokens for entry in drawn) / max(len(drawn), 1)
    tried = rows * (1 + REJECTED_SHARE)
    answers = tried * settings.turns
    blind = answers if settings.closed_book else 0
    prompt = (tried + answers) * (mean_tokens + PROMPT_TOKENS) + blind * PROMPT_TOKENS
    new = tried * settings.questions_per_call * EXPECTED_QUESTION_TOKENS + (answers + blind) * EXPECTED_ANSWER_TOKENS
    price = settings.price_usd_per_million if is_endpoint(settings.llm) else (0.0, 0.0)
    return BuildPlan(
        rows=settings.rows,
        possible_rows=possible,
        quotas=language_quotas(entries, settings.rows, settings.chinese_share),
        documents=len(entries),
        documents_in_band=len(in_band),
        calls=round(tried + answers + blind),
        prompt_tokens=round(prompt),
        completion_tokens=round(new),
        cost_usd=None if price is None else round((prompt * price[0] + new * price[1]) / 1e6, 4),
        histogram=histogram([entry.length_tokens for entry in entries]),
    )


def shortage(rows: int, plan: BuildPlan, settings: DataSettings) -> str:
    """Why there are fewer rows than asked for, and what helps."""
    return (
        f"only {rows:,} of {settings.rows:,} rows: {plan.documents:,} usable documents x at most "
        f"{settings.max_rows_per_document} rows each; add documents, raise --max-rows-per-document, "
        "or lower --min-length-tokens"
    )
