"""Which documents of a corpus are like which, by rare words they share; no model, no download.

Each document keeps its most telling words (frequency in the document times rarity in the corpus); two documents are as
alike as the weight of the telling words they share. Of very large corpora a fixed part is known: ids are hashes, so the
first so many are a fair sample of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.attempt import Companion
from longalign.data.document_draw import DocumentLengths, DocumentSummary
from longalign.data.documents import Document
from longalign.data.plant import plant
from longalign.data.several_documents import HEADING_TOKENS
from longalign.data.unanswerable import is_unanswerable

KNOWN_DOCUMENTS = 3000
READ_CHARS = 8000
TELLING_WORDS = 32
COUNTED_WORDS = 500
COMMON_SHARE = 0.2
RARE_DOCUMENTS = 10
"""A word in no more documents than this is rare enough to tell two apart, however small the corpus."""
SPARE = 3


class Neighbours:
    """The index. `documents`: (id, language, text) in the order of ids."""

    def __init__(self, documents: Iterable[tuple[str, str, str]]) -> None:
        counts: dict[str, Counter[str]] = {}
        self.language: dict[str, str] = {}
        frequency: Counter[str] = Counter()
        for id, language, text in documents:
            counted = Counter(words(text[:READ_CHARS]))
            counts[id] = Counter(dict(counted.most_common(COUNTED_WORDS)))
            self.language[id] = language
            frequency.update(counts[id].keys())
        most = max(RARE_DOCUMENTS, COMMON_SHARE * len(counts))
        rarity = {word: math.log((1 + len(counts)) / times) for word, times in frequency.items() if 2 <= times <= most}
        self.telling: dict[str, dict[str, float]] = {}
        self.holders: dict[str, list[str]] = {}
        for id, counted in counts.items():
            weights = {word: (1 + math.log(n)) * rarity[word] for word, n in counted.items() if word in rarity}
            best = sorted(weights, key=lambda word: (-weights[word], word))[:TELLING_WORDS]
            norm = math.sqrt(sum(weights[word] ** 2 for word in best)) or 1.0
            self.telling[id] = {word: weights[word] / norm for word in best}
            for word in best:
                self.holders.setdefault(word, []).append(id)

    def of(self, id: str, text: str, count: int) -> list[str]:
        """The most similar other documents of the same language, best first; fewer where fewer share a telling word."""
        own = self.telling.get(id)
        if own is None:  # beyond the part that is known: its words weigh alike
            own = {word: 1.0 for word in dict.fromkeys(words(text[:READ_CHARS])) if word in self.holders}
        scores: dict[str, float] = {}
        for word, weight in own.items():
            for other in self.holders.get(word, ()):
                scores[other] = scores.get(other, 0.0) + weight * self.telling[other][word]
        scores.pop(id, None)
        return sorted(scores, key=lambda other: (-scores[other], other))[:count]


class Library:
    """The other documents that candidates need, loaded where dialogues are made (one thread), not where they run."""

    def __init__(
        self, documents: Sequence[DocumentSummary], load: Callable[[str], Document], settings: DataSettings
    ) -> None:
        self.settings = settings
        self.load = load
        self._indices: dict[str, Neighbours] = {}
        self.lengths: dict[str, int] = {}
        self.by_language: dict[str, list[str]] = {}
        if not (settings.unanswerable_share or settings.distractors or settings.documents_per_row > 1):
            return  # nobody will ask, and a million documents take memory
        self.lengths = {document.id: document.length_tokens for document in documents}
        for document in sorted(documents, key=lambda document: document.id):
            self.by_language.setdefault(document.language, []).append(document.id)

    def for_questions(self, document: Document, number: int) -> Companion | None:
        """The document whose questions are asked of this one, where pass `number` asks what it does not say."""
        if not is_unanswerable(document.id, number, self.settings):
            return None
        found = self._companions(document, number, 1, similar=True)
        return replace(found[0], document=plant(found[0].document, self.settings)) if found else None

    def for_row(self, document: Document, number: int) -> tuple[Companion, ...]:
        """The similar documents that pass `number` asks about together with this one: as many as fit."""
        wanted = self.settings.documents_per_row - 1
        if not wanted or is_unanswerable(document.id, number, self.settings):
            return ()
        room = DocumentLengths.of(self.settings).max - self.lengths[document.id] - HEADING_TOKENS
        chosen: list[Companion] = []
        for other in self._companions(document, number, SPARE * wanted, similar=True):
            if len(chosen) < wanted and other.length_tokens + HEADING_TOKENS <= room:
                room -= other.length_tokens + HEADING_TOKENS
                chosen.append(other)
        return tuple(chosen)

    def for_distractors(self, document: Document, number: int) -> tuple[Companion, ...]:
        """Candidates for distractors of pass `number` over a document, best first."""
        similar = self.settings.distractors_by == "similarity"
        return self._companions(document, number, SPARE * self.settings.distractors, similar=similar)

    def _companions(self, document: Document, number: int, wanted: int, *, similar: bool) -> tuple[Companion, ...]:
        ids = self._index(document.language).of(document.id, document.text, wanted) if similar and wanted else []
        if len(ids) < wanted:
            drawn = self._any(document, number, wanted + len(ids))
            ids += [id for id in drawn if id not in ids][: wanted - len(ids)]
        return tuple(Companion(self.load(id), self.lengths[id]) for id in ids)

    def _any(self, document: Document, number: int, count: int) -> list[str]:
        """Documents of the same language, drawn by seed."""
        ids = self.by_language.get(document.language, [])
        rng = random_for(self.settings.seed, "companions", document.id, number)
        drawn = dict.fromkeys(ids[int(place)] for place in rng.integers(len(ids), size=2 * count + 2)) if ids else {}
        return [id for id in drawn if id != document.id][:count]

    def _index(self, language: str) -> Neighbours:
        if language not in self._indices:
            ids = self.by_language.get(language, [])[:KNOWN_DOCUMENTS]
            self._indices[language] = Neighbours((id, language, self.load(id).text) for id in ids)
        return self._indices[language]
