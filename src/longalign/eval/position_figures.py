"""The figures of task `position`, from its rows alone. Losses are in nats a token; intervals are t-intervals.

Every document counts alike, and so does every row; rows about one document are not independent, so they form a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from longalign.core.stats import mean_interval
from longalign.eval.results import Mean, Row, rounded

LONGER = "longer context"
DOCUMENT = "document"
WITH, WITHOUT, ANOTHER = "with_document", "without_document", "another_document"
"""Losses of an answer in its row: with its document, without any, and with another row's."""
LARGEST_NLL = 700.0
"""Beyond this loss a perplexity is no float."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Mean loss over documents or rows, and its perplexity (None beyond a float)."""

    measured: int
    loss: float | None
    low: float | None
    high: float | None
    perplexity: float | None


@dataclass(frozen=True, kw_only=True)
class Fall:
    """Mean loss in two conditions on the same tokens, and by how much the second is lower: `mean`, paired."""

    measured: int
    loss_before: float | None
    loss: float | None
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class PositionFigures:
    """`overall`, `by_kind`: how much the loss falls through the text before, over documents and rows.

    by_position: loss by position in documents; a document counts where it fills the bin.
    by_context: loss of the last tokens of documents behind a context, and its fall from the shortest context.
    by_document: loss of answers behind their document, and its fall from the question alone (`without_document`) and
    from another row's document in its place (`another_document`).
    """

    overall: Mean
    by_kind: dict[str, Mean]
    by_position: dict[str, Loss]
    by_context: dict[str, Fall]
    by_document: dict[str, Fall]
    scored_tokens: int
    notes: list[str]


def summarize(rows: Sequence[Row], lengths: Sequence[int], scored_tokens: int, window: int | None) -> PositionFigures:
    """Figures of the rows of `scores.jsonl`. `lengths`: ascending."""
    documents = [row for row in rows if row["kind"] == LONGER]
    answers = [row for row in rows if row["kind"] == DOCUMENT]
    bins = {bin_name(low, high): str(high) for low, high in pairwise((0, *lengths))}
    by_position = {name: loss_of([row["losses"][key] for row in documents if key in row["losses"]])
                   for name, key in bins.items()}  # fmt: skip
    shortest = str(lengths[0])
    by_context = {
        short(int(key)): fall_of(
            [
                (row["behind"][shortest], row["behind"][key], row["document"])
                for row in documents
                if key in row["behind"]
            ]
        )
        for key in map(str, lengths[1:])
    }
    by_document = {
        name: fall_of([(row[name], row[WITH], row["document"]) for row in answers if name in row])
        for name in (WITHOUT, ANOTHER)
    }
    return PositionFigures(
        overall=gain(rows),
        by_kind={kind: gain(found) for kind, found in ((LONGER, documents), (DOCUMENT, answers)) if found},
        by_position={name: found for name, found in by_position.items() if found.measured},
        by_context={name: found for name, found in by_context.items() if found.measured},
        by_document={name: found for name, found in by_document.items() if found.measured},
        scored_tokens=scored_tokens,
        notes=notes_of(rows, window),
    )


def gain(rows: Sequence[Row]) -> Mean:
    """The mean of the scores; rows about one document are one cluster."""
    scored = [row for row in rows if row["score"] is not None]
    found = mean_interval([r["score"] for r in scored], [r["document"] for r in scored]) if scored else None
    return Mean(
        questions=len(rows),
        scored=len(scored),
        failed=len(rows) - len(scored),
        mean=rounded(found.estimate) if found else None,
        low=rounded(found.low) if found else None,
        high=rounded(found.high) if found else None,
    )


def loss_of(losses: Sequence[float]) -> Loss:
    """One loss a document."""
    found = mean_interval(losses) if losses else None
    return Loss(
        measured=len(losses),
        loss=rounded(found.estimate) if found else None,
        low=rounded(found.low) if found else None,
        high=rounded(found.high) if found else None,
        perplexity=rounded(math.exp(found.estimate)) if found and found.estimate < LARGEST_NLL else None,
    )


def fall_of(pairs: Sequence[tuple[float, float, str]]) -> Fall:
    """Of (loss before, loss, document)."""
    if not pairs:
        return Fall(measured=0, loss_before=None, loss=None, mean=None, low=None, high=None)
    before, after, documents = zip(*pairs, strict=True)
    found = mean_interval([b - a for b, a in zip(before, after, strict=True)], documents)
    return Fall(
        measured=len(pairs),
        loss_before=rounded(sum(before) / len(before)),
        loss=rounded(sum(after) / len(after)),
        mean=rounded(found.estimate),
        low=rounded(found.low),
        high=rounded(found.high),
    )


def notes_of(rows: Sequence[Row], window: int | None) -> list[str]:
    """What a reader must know: what could not be scored, and what went beyond the model's window."""
    reasons = [row["failure"] for row in rows if row["failure"]]
    notes = [f"{reasons.count(reason)} of {len(rows)} not scored: {reason}" for reason in dict.fromkeys(reasons)]
    beyond = sum(row["tokens"] > window for row in rows) if window else 0
    return notes + (
        [f"{beyond} of {len(rows)} are longer than the model's window of {window:,} tokens"] if beyond else []
    )


def bin_name(low: int, high: int) -> str:
    """`1k-2k` for positions 1,024 to 2,047, counted from 0."""
    return f"{short(low)}-{short(high)}"


def short(tokens: int) -> str:
    """`4k` for 4,096."""
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)
