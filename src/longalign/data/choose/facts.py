"""What is known of one row without a model: lengths, groups, evidence, scores that others gave it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longalign.core.length_bands import length_band
from longalign.core.text import CHARACTERS_PER_TOKEN, words
from longalign.data.choose.given import Given, answers_of, content_key, document_id, questions_of
from longalign.errors import ConfigError

Count = Callable[[Given], int]
GROUPS = ("task", "language", "source", "length", "model", "prompt")
"""What rows can be grouped by; `length` is the power-of-two band of tokens."""
UNKNOWN = "not given"


@dataclass(frozen=True)
class RowFacts:
    """One row in a few hundred bytes, so that a million fit into memory.

    tokens: of the whole row, `estimated` where neither the row nor a tokenizer gives them. positions: middle of each
    piece of evidence, 0 start to 1 end of the document. support: the least of the row's turns. scores: by name, what
    the row's `scores` column says (the mean over turns). answer_words: of each answer.
    """

    id: str
    key: str
    document: str
    tokens: int
    estimated: bool
    task: str
    language: str
    source: str
    model: str
    prompt: str
    positions: tuple[float, ...]
    support: float | None
    scores: Mapping[str, float]
    questions: tuple[tuple[str, ...], ...]
    answer_words: tuple[int, ...]

    @property
    def length(self) -> str:
        return length_band(self.tokens)

    @property
    def spread(self) -> float | None:
        """How far apart the outermost pieces of evidence lie, as a share of the document."""
        return max(self.positions) - min(self.positions) if self.positions else None

    def group(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Values of `GROUPS` by name."""
        return tuple(str(getattr(self, name)) for name in names)


def check_groups(option: str, names: Sequence[str]) -> None:
    """Raise `ConfigError` for a name that rows cannot be grouped by."""
    if unknown := [name for name in names if name not in GROUPS]:
        raise ConfigError(f"{option} {', '.join(unknown)}: rows are grouped by {', '.join(GROUPS)}")


def facts_of(given: Given, count: Count | None = None) -> RowFacts:
    """`count`: exact tokens of a row; without it the row's own `length_tokens` or `length` count."""
    row = given.row
    told = next((row[name] for name in ("length_tokens", "length") if _is_number(row.get(name))), None)
    exact = count(given) if count else told
    characters = sum(len(str(message.get("content") or "")) for message in row["messages"])
    return RowFacts(
        id=given.id,
        key=content_key(row),
        document=document_id(row),
        tokens=int(exact) if exact else max(characters // CHARACTERS_PER_TOKEN, 1),
        estimated=not exact,
        task=_name(row, "task"),
        language=_name(row, "language"),
        source=_name(row, "source"),
        model=_name(row, "model"),
        prompt=_name(row, "prompt"),
        positions=tuple(float(entry["position"]) for entry in _entries(row) if _is_number(entry.get("position"))),
        support=_least(row.get("support")),
        scores=scores_of(row.get("scores")),
        questions=tuple(tuple(words(question)[:400]) for question in questions_of(row)),
        answer_words=tuple(len(words(answer)) for answer in answers_of(row)),
    )


def scores_of(value: object) -> dict[str, float]:
    """`{name: score}` of a `scores` column: numbers by name, lists of numbers by name, or a list of such objects, one
    a turn. What is no number is passed over; several are averaged."""
    found: dict[str, list[float]] = {}
    for entry in value if isinstance(value, list) else [value]:
        for name, given in entry.items() if isinstance(entry, Mapping) else ():
            for number in given if isinstance(given, list) else [given]:
                if _is_number(number):
                    found.setdefault(str(name), []).append(float(number))
    return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}


def _entries(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    evidence = row.get("evidence")
    return [entry for entry in evidence if isinstance(entry, Mapping)] if isinstance(evidence, list) else []


def _least(support: Any) -> float | None:
    numbers = [float(value) for value in (support if isinstance(support, list) else [support]) if _is_number(value)]
    return min(numbers) if numbers else None


def _name(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    return str(value) if value not in (None, "", [], {}) else UNKNOWN


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
