"""Ingredient `question_overlap`: over a whole build, no question is asked twice in much the same words.

About one document, questions that share most of their words are the same question. Over all documents, one wording may
come up only so often: models like to ask every text for its main argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from longalign.core.text import words

SAME_WORDING_SHARE = 0.01
SAME_WORDING_ROWS = 5


class QuestionVariety:
    """The questions of the rows accepted so far, in their order."""

    def __init__(self) -> None:
        self._by_document: dict[str, list[frozenset[str]]] = {}
        self._wordings: Counter[tuple[str, ...]] = Counter()

    def fault(self, document_id: str, questions: Sequence[str], *, overlap: float, rows: int) -> str | None:
        """Why a row with these questions would repeat others; None if it does not. rows: those wanted in all."""
        if overlap >= 1:
            return None
        for question in questions:
            said = words(question)
            bag = frozenset(said)
            for other in self._by_document.get(document_id, ()):
                if len(bag & other) >= overlap * len(bag | other):
                    return "much the same question again"
            if self._wordings[tuple(said)] >= max(SAME_WORDING_ROWS, SAME_WORDING_SHARE * rows):
                return "asked of too many documents"
        return None

    def add(self, document_id: str, questions: Sequence[str]) -> None:
        """Remember the questions of an accepted row."""
        for question in questions:
            said = words(question)
            self._by_document.setdefault(document_id, []).append(frozenset(said))
            self._wordings[tuple(said)] += 1
