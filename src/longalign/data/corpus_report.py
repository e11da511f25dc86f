"""What became of everything that a build read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """Every file and document accounted for: read, skipped with reason, cut, dropped with reason, usable."""

    read: int
    files_or_rows_skipped: int
    skipped_by_reason: dict[str, int]
    cut_into_parts: int
    parts: int
    dropped_by_reason: dict[str, int]
    usable: int
    usable_tokens: int
    usable_by_language: dict[str, int]
    longest_tokens: int
    length_histogram: dict[str, int]
    evaluation_texts: int
    evaluation_texts_too_short: int
    cut_out_by_reason: dict[str, int] = field(default_factory=dict)
    """Stretches cut out of documents. Empty in earlier reports."""
