"""The report of a build: tried = accepted + rejected by reason, where evidence lies in documents, and the cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from longalign.config import DataSettings
from longalign.data.balance import imbalance
from longalign.data.build_plan import BuildPlan, shortage
from longalign.data.build_tally import Tally
from longalign.data.corpus import Corpus
from longalign.data.corpus_report import CorpusReport
from longalign.data.document_draw import DEFAULT_MIN_TOKENS, histogram
from longalign.data.ingredients import ingredient_lines, ingredient_report
from longalign.data.verify import position_balance
from longalign.errors import RunError
from longalign.llm.ledger import LedgerTotals

SCHEMA = 2
"""Of the file. 1 (unwritten): the same fields; the fingerprint was the build's own instead of its stage's."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """One build. `tried` candidates = `rows` accepted + `rejected`; `finished` unless the cap on money ended it.

    tokens: of all rows, documents included. length_histogram: rows by bands of tokens. evidence_positions: evidence by
    tenth of its document. prompts: hash of the wording by its language, of the rows.
    `settings`, `fingerprint`: of the stage.
    by_stage: candidates tried, with usable questions, with a row. seconds_a_row, slots_busy_share (of the calls
    that `concurrency` allows): of the last run; cost_usd_a_row: of all runs. None in earlier reports.
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
    by_stage: dict[str, int] = field(default_factory=dict)
    accepted_share: float | None = None
    seconds_a_row: float | None = None
    cost_usd_a_row: float | None = None
    slots_busy_share: float | None = None

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], where: Path) -> BuildReport:
        """A report as it was written by this version or an earlier one. Raises `RunError` for any other content."""
        if found.get("schema", 1) > SCHEMA:
            raise RunError(f"{where}: written by a newer LongAlign (schema {found['schema']}); install that version")
        known = {item.name: found[item.name] for item in fields(cls) if item.name in found}
        required = (item for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING)
        lacking = [item.name for item in required if item.name not in known]
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
            f"calls on record: {self.spend.calls:,}{cost}{self._rates()}",
        ]
        return "\n".join([*lines, f"note: {self.notice}"] if self.notice else lines)

    def _rates(self) -> str:
        if self.seconds_a_row is None:
            return ""
        cost = f", ${self.cost_usd_a_row:,.4f}" if self.cost_usd_a_row else ""
        busy = "" if self.slots_busy_share is None else f"; calls under way {self.slots_busy_share:.0%} of the time"
        return f"; a row: {self.seconds_a_row:,.2f} s{cost}{busy}"


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
    rows, spent = tally.rows, facts.spend.spent_usd
    balance = position_balance(tally.evidence_positions)
    return BuildReport(
        rows=rows,
        rows_wanted=settings.rows,
        complete=rows == settings.rows,
        finished=not tally.over_budget,
        notice=_notice(settings, plan, tally),
        tried=tally.tried,
        rejected=tally.rejected,
        rejected_by_reason=dict(tally.reasons.most_common()),
        rejected_questions_by_reason=dict(tally.turn_reasons.most_common()),
        turns=tally.turns,
        tokens=sum(tally.lengths_tokens),
        by_task=dict(sorted(tally.by_task.items())),
        by_language=dict(sorted(tally.by_language.items())),
        by_source=dict(sorted(tally.by_source.items())),
        documents_used=tally.documents_used,
        length_histogram=histogram(tally.lengths_tokens),
        length_law=f"drawn with chance proportional to length ** {settings.length_exponent:g}",
        evidence_positions=balance,
        evidence_imbalance=imbalance(list(balance.values())),
        ingredients=ingredient_report(
            settings, tally.ingredients, [*tally.reasons.items(), *tally.turn_reasons.items()]
        ),
        by_stage={"tried": tally.tried, "with questions": tally.tried - tally.asked_only, "accepted": rows},
        accepted_share=round(rows / max(tally.tried, 1), 4),
        seconds_a_row=round(tally.seconds / max(rows, 1), 4),
        cost_usd_a_row=None if spent is None else round(spent / max(rows, 1), 6),
        slots_busy_share=tally.slots_busy_share,
        corpus=corpus.report,
        settings=settings.model_dump(mode="json"),
        **vars(facts),
    )


def _notice(settings: DataSettings, plan: BuildPlan, tally: Tally) -> str:
    """Why there are fewer or shorter rows than requested; empty if there are not."""
    rows = tally.rows
    if tally.over_budget:
        return f"only {rows:,} of {settings.rows:,} rows: {tally.over_budget}; raise --max-cost-usd to go on"
    if rows < settings.rows:
        most = f"; most were rejected: {tally.top_reasons()}" if 2 * tally.rejected > tally.tried else ""
        return shortage(rows, plan, settings) + most
    if (short := tally.short_documents) > 0:
        return (
            f"{short:,} of {rows:,} rows are on documents below {DEFAULT_MIN_TOKENS:,} tokens, since longer "
            "ones did not suffice; give --min-length-tokens to insist on a length"
        )
    return ""
