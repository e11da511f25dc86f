"""What came of the candidates so far: counts in memory, whole attempts on disk."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

from longalign.base.files import json_line, random_for
from longalign.config import DataSettings
from longalign.data.attempt import Attempt, Rejection
from longalign.data.document_draw import DocumentSummary
from longalign.data.ingredients import IngredientCounts
from longalign.data.instruct import row_id
from longalign.data.question_variety import QuestionVariety

Kept = tuple[int, int]


class AttemptFile:
    """Attempts in a file without a name, gone with the process. They are kept without the texts of documents."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  lives as long as this object

    def put(self, attempt: Attempt) -> Kept:
        """Keep an attempt; what is returned finds it again."""
        data = pickle.dumps(attempt)
        start = self._file.seek(0, 2)
        self._file.write(data)
        return start, len(data)

    def get(self, kept: Kept) -> Attempt:
        """A kept attempt."""
        self._file.seek(kept[0])
        return cast(Attempt, pickle.loads(self._file.read(kept[1])))

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()


@dataclass
class Tally:
    """The outcomes of candidates in the drawn order. Rejected ones go to `stream` line by line as they are decided."""

    stream: TextIO
    rows: int = 0
    tried: int = 0
    turns: int = 0
    asked_only: int = 0
    short_documents: int = 0
    over_budget: str = ""
    reasons: Counter[str] = field(default_factory=Counter)
    turn_reasons: Counter[str] = field(default_factory=Counter)
    by_task: Counter[str] = field(default_factory=Counter)
    by_language: Counter[str] = field(default_factory=Counter)
    by_source: Counter[str] = field(default_factory=Counter)
    lengths_tokens: array[int] = field(default_factory=lambda: array("q"))
    evidence_positions: array[float] = field(default_factory=lambda: array("d"))
    samples: list[Rejection] = field(default_factory=list)
    ingredients: IngredientCounts = field(default_factory=IngredientCounts)
    variety: QuestionVariety = field(default_factory=QuestionVariety)
    seconds: float = 0.0
    slots_busy_share: float | None = None
    _order: list[tuple[float, str, Kept]] = field(default_factory=list)
    _asked: set[bytes] = field(default_factory=set)
    _documents: set[bytes] = field(default_factory=set)

    @property
    def rejected(self) -> int:
        """Candidates without a row."""
        return sum(self.reasons.values())

    @property
    def documents_used(self) -> int:
        """Different documents of the rows."""
        return len(self._documents)

    def in_row_order(self) -> Iterator[Kept]:
        """The accepted attempts in an order drawn by seed and row: languages, passes and lengths are mixed."""
        return (kept for _, _, kept in sorted(self._order))

    def count(self, attempt: Attempt, document: DocumentSummary, kept: Kept, settings: DataSettings) -> bool:
        """Enter one candidate; whether it gives a row."""
        self.tried += 1
        self.ingredients.tried(attempt)
        questions = [turn.question for turn in attempt.turns]
        asked = _digest(document.id, *questions)
        if attempt.rejection is None and asked in self._asked:
            attempt.rejection = Rejection("same question again", question=questions[0])
        if attempt.rejection is None and (
            fault := self.variety.fault(document.id, questions, overlap=settings.question_overlap, rows=settings.rows)
        ):
            attempt.rejection = Rejection(fault, question=questions[0])
        for kind, rejection in [*(("turn", r) for r in attempt.rejected_turns), ("row", attempt.rejection)]:
            if rejection is not None:
                (self.reasons if kind == "row" else self.turn_reasons)[rejection.reason] += 1
                self.stream.write(json_line({"kind": kind, **_about(attempt), **asdict(rejection)}))
        if attempt.rejection is not None:
            self.asked_only += attempt.rejection.reason.startswith("questions:")
            self._sample(attempt.rejection)
            return False
        self._asked.add(asked)
        self.variety.add(document.id, questions)
        self.ingredients.kept(attempt)
        self._documents.add(_digest(document.id))
        id = row_id(attempt)
        self._order.append((float(random_for(settings.seed, "row order", id).random()), id, kept))
        self.rows += 1
        self.turns += len(attempt.turns)
        self.short_documents += not document.in_band
        self.by_task[attempt.task] += 1
        self.by_language[attempt.document.language] += 1
        self.by_source[attempt.document.source] += 1
        self.lengths_tokens.append(attempt.length_tokens)
        self.evidence_positions.extend(e.position for turn in attempt.turns for e in turn.evidence)
        return True

    def _sample(self, rejection: Rejection) -> None:
        """Keep the first rejection and the next one, better one of another reason."""
        if len(self.samples) < 2:
            self.samples.append(rejection)
        elif self.samples[0].reason == self.samples[1].reason != rejection.reason:
            self.samples[1] = rejection

    def top_reasons(self, most: int = 3) -> str:
        """The commonest reasons with their counts; of questions where no candidate has one."""
        return ", ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common(most))


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()[:16]


def _about(attempt: Attempt) -> dict[str, Any]:
    document = attempt.document
    return {
        "document": document.id,
        "title": document.title,
        "origin": document.origin,
        "language": document.language,
        "task": attempt.task,
    }
