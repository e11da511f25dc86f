"""`data stats`: what a file of rows holds, in one pass, as tables."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from typing import Any

import numpy as np

from longalign.data.choose.facts import GROUPS, Count, RowFacts, facts_of
from longalign.data.choose.given import Given, read_given
from longalign.data.row_counts import FileRows
from longalign.data.verify import position_balance
from longalign.errors import DataError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MOST_NAMES = 12


@dataclass(frozen=True, kw_only=True)
class RowStats:
    """Figures of one file. Quantiles by name (`min`, `p05` ... `max`); empty where no row has the field.

    read: as `FileRows` counts. estimated_tokens: rows whose length is characters / 4, for want of a tokenizer.
    repeated_rows: rows whose conversation came before; repeated_questions: the same words asked of any document.
    """

    file: str
    read: Mapping[str, Any]
    rows: int
    tokens: int
    estimated_tokens: int
    documents: int
    turns: int
    repeated_rows: int
    repeated_questions: int
    groups: Mapping[str, Mapping[str, int]]
    evidence_positions: Mapping[str, int]
    first_words: Mapping[str, int]
    quantiles: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Gatherer:
    """Adds rows up."""

    rows: int = 0
    tokens: int = 0
    estimated: int = 0
    turns: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    documents: set[str] = field(default_factory=set)
    groups: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in GROUPS})
    firsts: Counter[str] = field(default_factory=Counter)
    positions: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=dict)

    def add(self, facts: RowFacts) -> None:
        """One row."""
        self.rows += 1
        self.tokens += facts.tokens
        self.estimated += facts.estimated
        self.turns += len(facts.answer_words)
        self.keys[facts.key] += 1
        self.documents |= {facts.document} - {""}
        for name, counts in self.groups.items():
            counts[str(getattr(facts, name))] += 1
        for question in facts.questions:
            self.asked[hash(question)] += 1
            self.firsts[" ".join(question[:2])] += 1
        self.positions.extend(facts.positions)
        self._note("tokens", [facts.tokens])
        self._note("answer words", facts.answer_words)
        self._note("support", [] if facts.support is None else [facts.support])
        self._note("evidence spread", [] if facts.spread is None else [facts.spread])
        for name, score in facts.scores.items():
            self._note(f"score {name}", [score])

    def _note(self, name: str, numbers: Sequence[float]) -> None:
        self.values.setdefault(name, array("d")).extend(numbers)


def stats_of(name: str, count: Count | None = None) -> RowStats:
    """Figures of what `name` holds. Raises `DataError` for a row that cannot be read."""
    counted: Counter[str] = Counter()
    found = Gatherer()
    for given in read_given(name, counted):
        found.add(facts_of(given, count))
    return RowStats(
        file=name,
        read=asdict(FileRows.of(counted)),
        rows=found.rows,
        tokens=found.tokens,
        estimated_tokens=found.estimated,
        documents=len(found.documents),
        turns=found.turns,
        repeated_rows=sum(found.keys.values()) - len(found.keys),
        repeated_questions=sum(found.asked.values()) - len(found.asked),
        groups={name: _sorted(name, counts) for name, counts in found.groups.items()},
        evidence_positions=position_balance(found.positions),
        first_words=dict(sorted(found.firsts.items(), key=lambda item: (-item[1], item[0]))[:MOST_NAMES]),
        quantiles={name: quantiles(numbers) for name, numbers in found.values.items() if numbers},
    )


def stats(names: Sequence[str], count: Count | None = None) -> dict[str, Any]:
    """Of every file: `{"files": [...], "text": tables}`."""
    found = [stats_of(name, count) for name in names]
    return {"files": [each.as_dict() for each in found], "text": "\n".join(map(stats_text, found))}


def token_counter(tokenizer: str) -> Count:
    """Exact tokens of a row, as training counts them."""
    from longalign.base.tokenizers import open_tokenizer
    from longalign.data.tokenize import sequence_of_row

    loaded = open_tokenizer(tokenizer)

    def count(given: Given) -> int:
        try:
            return sequence_of_row(loaded, given.row).length_tokens
        except DataError as error:
            raise DataError(f"{given.where}: {error}") from None

    return count


def quantiles(numbers: Sequence[float]) -> dict[str, float]:
    """`{"min": .., "p05": .., ..., "max": ..}`."""
    names = ["min", *(f"p{round(100 * share):02}" for share in QUANTILES[1:-1]), "max"]
    found = np.quantile(np.asarray(numbers, dtype=np.float64), QUANTILES)
    return {name: round(float(value), 4) for name, value in zip(names, found, strict=True)}


def _sorted(name: str, counts: Counter[str]) -> dict[str, int]:
    if name == "length":
        return dict(sorted(counts.items(), key=lambda item: int(item[0].split("-")[0])))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def stats_text(found: RowStats) -> str:
    """Tables for a terminal."""
    from rich.table import Table

    estimated = f" ({found.estimated_tokens:,} rows estimated, 4 characters a token)" if found.estimated_tokens else ""
    lines = [
        f"{found.file}: {FileRows(**found.read).words}",
        f"{found.rows:,} rows, {found.tokens:,} tokens{estimated}, {found.turns:,} answers, "
        f"{found.documents:,} documents",
        f"repeated: {found.repeated_rows:,} rows, {found.repeated_questions:,} questions",
    ]
    if found.quantiles:
        table = Table("", *next(iter(found.quantiles.values())), box=None, pad_edge=False)
        for name, values in found.quantiles.items():
            table.add_row(name, *(f"{value:,.2f}" if value % 1 else f"{value:,.0f}" for value in values.values()))
        lines.append(table_text(table))
    if sum(found.evidence_positions.values()):
        lines.append(f"evidence by tenth of the document: {list(found.evidence_positions.values())}")
    for name, counts in {**found.groups, "first words of questions": found.first_words}.items():
        if set(counts) - {"not given"}:
            lines.append(f"{name}: {listed(counts)}")
    return "\n".join(lines) + "\n"


def listed(counts: Mapping[str, int]) -> str:
    """`summary 12, general 9`, the first dozen."""
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:MOST_NAMES])
    more = len(counts) - MOST_NAMES
    return f"{shown}, and {more} more" if more > 0 else shown


def table_text(table: Any) -> str:
    """A rich table as plain text."""
    from rich.console import Console

    stream = StringIO()
    Console(file=stream, width=120, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
