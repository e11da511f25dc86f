"""The report of a build: tried = accepted + rejected by reason, where evidence lies in documents, and the cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from longalign.config import DataSettings
from longalign.data.balance import imbalance
from longalign.data.build_plan import BuildPlan, shortage
from longalign.data.corpus import Corpus, CorpusReport
from longalign.data.document_draw import DEFAULT_MIN_TOKENS, DocumentSummary, histogram
from longalign.data.ingredients import ingredient_lines, ingredient_report
from longalign.data.instruct import Attempt
from longalign.data.question_variety import QuestionVariety
from longalign.data.verify import position_balance
from longalign.errors import RunError
from longalign.llm.ledger import LedgerTotals

SCHEMA = 2
"""Of the file. 1 (unwritten): the same fields; the fingerprint was the build's own instead of its stage's."""


@dataclass
class Tally:
    """The outcomes of candidates so far, without the texts of documents."""

    accepted: list[Attempt] = field(default_factory=list)
    asked: set[tuple[str, ...]] = field(default_factory=set)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    turn_reasons: Counter[str] = field(default_factory=Counter)
    variety: QuestionVariety = field(default_factory=QuestionVariety)
    calls: Counter[str] = field(default_factory=Counter)
    call_tokens: Counter[str] = field(default_factory=Counter)
    tried: int = 0
    over_budget: str = ""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """One build. `tried` candidates = `rows` accepted + `rejected`; `finished` unless the cap on money ended it.

    tokens: of all rows, documents included. length_histogram: rows by bands of tokens. evidence_positions: evidence by
    tenth of its document. prompts: hash of their wording by language. `settings`, `fingerprint`: of the stage.
    """

    rows: int
    rows_wanted: int
    complete: bool
    finished: bool
    notice: str
    tried: int
    rejected: int
    rejected_by_reason: dict[str, int]
    rejected_questions_by_reason: dict[str, int]
    turns: int
    tokens: int
    by_task: dict[str, int]
    by_language: dict[str, int]
    by_source: dict[str, int]
    documents_used: int
    length_histogram: dict[str, int]
    length_law: str
    evidence_positions: dict[str, int]
    corpus: CorpusReport
    model: str
    prompts: dict[str, str]
    spend: LedgerTotals
    wall_s: float
    settings: dict[str, Any]
    rows_sha256: str
    fingerprint: str
    evidence_imbalance: float | None = None
    """Share of the evidence that would have to move for an even spread over tenths."""
    ingredients: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], where: Path) -> BuildReport:
        """A report as it was written by this version or an earlier one. Raises `RunError` for any other content."""
        if found.get("schema", 1) > SCHEMA:
            raise RunError(f"{where}: written by a newer LongAlign (schema {found['schema']}); install that version")
        known = {item.name: found[item.name] for item in fields(cls) if item.name in found}
        lacking = [item.name for item in fields(cls) if item.name not in known and item.default is MISSING]
        if lacking:
            raise RunError(f"{where}: no report of a build, `{lacking[0]}` is missing; move it away and run again")
        known |= {"corpus": CorpusReport(**known["corpus"]), "spend": LedgerTotals(**known["spend"])}
        return cls(**known)

    @classmethod
    def read(cls, path: Path) -> BuildReport | None:
        """The report in a file; None where there is none. Raises `RunError` for a damaged one."""
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")), path)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise RunError(f"{path}: damaged report; move it away and run again") from None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": SCHEMA, **asdict(self)}

    def text(self, out: Path) -> str:
        """The summary for people; `out`: where the rows lie."""
        cost = "" if self.spend.spent_usd is None else f", ${self.spend.spent_usd:,.4f} spent in all"
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.rejected_by_reason.items())
        lines = [
            f"{self.rows:,} rows, {self.tokens:,} tokens in {out}, by {self.model}",
            f"tried {self.tried:,}: {self.rows:,} accepted, {self.rejected:,} rejected"
            + (f" ({reasons})" if reasons else ""),
            f"tasks {self.by_task}, languages {self.by_language}, lengths {self.length_histogram}",
            f"evidence by tenth of the document: {list(self.evidence_positions.values())}"
            + ("" if self.evidence_imbalance is None else f" ({self.evidence_imbalance:.0%} off an even spread)"),
            *ingredient_lines(self.ingredients),
            f"calls on record: {self.spend.calls:,}{cost}",
        ]
        return "\n".join([*lines, f"note: {self.notice}"] if self.notice else lines)


@dataclass(frozen=True, kw_only=True)
class BuildFacts:
    """The part of a report that describes the build and not its rows."""

    model: str
    prompts: dict[str, str]
    spend: LedgerTotals
    wall_s: float
    rows_sha256: str
    fingerprint: str


def build_report(
    settings: DataSettings, corpus: Corpus, plan: BuildPlan, tally: Tally, facts: BuildFacts
) -> BuildReport:
    """Counts, histograms and shares of a build."""
    attempts = tally.accepted
    balance = position_balance([e.position for attempt in attempts for turn in attempt.turns for e in turn.evidence])
    return BuildReport(
        rows=len(attempts),
        rows_wanted=settings.rows,
        complete=len(attempts) == settings.rows,
        finished=not tally.over_budget,
        notice=_notice(settings, corpus, plan, tally),
        tried=tally.tried,
        rejected=sum(tally.reasons.values()),
        rejected_by_reason=dict(tally.reasons.most_common()),
        rejected_questions_by_reason=dict(tally.turn_reasons.most_common()),
        turns=sum(len(attempt.turns) for attempt in attempts),
        tokens=sum(attempt.length_tokens for attempt in attempts),
        by_task=_counts(attempt.task for attempt in attempts),
        by_language=_counts(attempt.document.language for attempt in attempts),
        by_source=_counts(attempt.document.source for attempt in attempts),
        documents_used=len({attempt.document.id for attempt in attempts}),
        length_histogram=histogram([attempt.length_tokens for attempt in attempts]),
        length_law=f"drawn with chance proportional to length ** {settings.length_exponent:g}",
        evidence_positions=balance,
        evidence_imbalance=imbalance(list(balance.values())),
        ingredients=ingredient_report(
            settings, attempts, tally.calls, tally.call_tokens, [*tally.reasons.items(), *tally.turn_reasons.items()]
        ),
        corpus=corpus.report,
        settings=settings.model_dump(mode="json"),
        **vars(facts),
    )


def _notice(settings: DataSettings, corpus: Corpus, plan: BuildPlan, tally: Tally) -> str:
    """Why there are fewer or shorter rows than requested; empty if there are not."""
    rows = len(tally.accepted)
    if tally.over_budget:
        return f"only {rows:,} of {settings.rows:,} rows: {tally.over_budget}; raise --max-cost-usd to go on"
    if rows < settings.rows:
        return shortage(rows, plan, settings)
    if (short := sum(not document.in_band for document in _used(corpus, settings, tally.accepted))) > 0:
        return (
            f"{short:,} of {rows:,} rows are on documents below {DEFAULT_MIN_TOKENS:,} tokens, since longer "
            "ones did not suffice; give --min-length-tokens to insist on a length"
        )
    return ""


def _used(corpus: Corpus, settings: DataSettings, attempts: list[Attempt]) -> list[DocumentSummary]:
    by_id = {document.id: document for document in corpus.documents(settings.min_length_tokens)}
    return [by_id[attempt.document.id] for attempt in attempts]


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
