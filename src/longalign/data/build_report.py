"""What came of a build, accounted for: tried = accepted + rejected, by reason; where evidence stands; what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from longalign.config import DataSettings
from longalign.data.corpus import DEFAULT_MIN_TOKENS, Corpus
from longalign.data.instruct import Attempt
from longalign.data.plan_build import BuildPlan, shortage
from longalign.data.select import SHORTEST_TOKENS, Entry, histogram
from longalign.data.verify import position_balance


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


def nothing_usable(report: dict[str, Any], settings: DataSettings) -> str:
    """Why a corpus gives no row at all."""
    dropped = ", ".join(f"{reason}: {count}" for reason, count in report["dropped_by_reason"].items())
    least = settings.min_length_tokens or SHORTEST_TOKENS
    return (
        f"none of {report['read']} documents is usable ({dropped}; the longest has "
        f"{report['longest_tokens']:,} tokens, {least:,}-{settings.max_length_tokens:,} are wanted); "
        "lower --min-length-tokens or add longer documents"
    )
