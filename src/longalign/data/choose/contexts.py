"""The same answer behind four prompts: the whole document, a short window of it, the question alone, and the document
without its evidence. What is tokenised and which tokens count is what training does with the row.

Only the message with the document changes (the longest of the user's); system prompt, tools, earlier and later turns
stay. The short window is the document's last tokens before the question: what a model of short context would see.
Where other people's rows may ask before the document, a short first paragraph stays in every context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from longalign.data.choose.given import document_and_question, document_place, text_in
from longalign.data.tokenize import TokenSequence, evidence_texts, sequence_of_row
from longalign.errors import DataError
from longalign.llm.prompt import GAP

Context = Literal["whole", "short", "question", "blanked"]
BLANK = "[...]"
LEADING_CHARS = 500


@dataclass(frozen=True)
class Contexts:
    """`sequences` by context; one that is not there is unlike none: `short` is missing where the document is no longer
    than the window, `question` where no document stands before it, `blanked` where no evidence is known.

    evidence_in_window: share of the evidence's characters that the short window still holds; None where unknown.
    """

    sequences: Mapping[Context, TokenSequence]
    evidence_in_window: float | None


def contexts_of(tokenizer: Any, row: Mapping[str, Any], short_window: int, fit: int | None = None) -> Contexts:
    """The row's contexts. `fit`: the document is cut at its beginning until the whole row has so many tokens.

    Raises `DataError` when targets cannot be told, or when the row does not fit even without its document.
    """
    place = document_place(row)
    whole = sequence_of_row(tokenizer, row)
    if fit is not None and whole.length_tokens > fit:
        row, whole = _fitted(tokenizer, row, place, whole, fit)
    found: dict[Context, TokenSequence] = {"whole": whole}
    text = text_in(row, place)
    document, question = document_and_question(row)
    head = leading_question(row, document)
    in_window = None
    spans = evidence_spans(row, text)
    if document:
        found["question"] = _with(tokenizer, row, place, head + question)
    if (start := _last_tokens(tokenizer, document or text, short_window)) > len(head):
        found["short"] = _with(tokenizer, row, place, head + text[start:])
        if total := sum(end - begin for begin, end in spans):
            in_window = sum(max(end - max(begin, start), 0) for begin, end in spans) / total
    if spans:
        found["blanked"] = _with(tokenizer, row, place, without(text, spans))
    return Contexts(found, in_window)


def leading_question(row: Mapping[str, Any], document: str) -> str:
    """A first paragraph that may be the question, with the gap behind it; empty for rows that name their document, as
    those of a build do: there the document comes first."""
    first, gap, _ = document.partition(GAP)
    return first + gap if gap and not row.get("document") and len(first) <= LEADING_CHARS else ""


def evidence_spans(row: Mapping[str, Any], text: str) -> list[tuple[int, int]]:
    """Where the row's evidence stands in `text`, joined and in order; what cannot be found is passed over."""
    evidence = row.get("evidence")
    entries = [evidence] if isinstance(evidence, str | Mapping) else list(evidence or ())
    spans = []
    for entry in entries:
        for quote in evidence_texts([entry]):
            start = entry.get("start") if isinstance(entry, Mapping) else None
            if not (isinstance(start, int) and text[start : start + len(quote)] == quote):
                start = text.find(quote)
            if start >= 0:
                spans.append((start, start + len(quote)))
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """A text with each span replaced by `[...]`."""
    parts, done = [], 0
    for start, end in spans:
        parts += [text[done:start], BLANK]
        done = end
    return "".join([*parts, text[done:]])


def replaced(row: Mapping[str, Any], place: int, text: str) -> dict[str, Any]:
    """The row with another text in one message."""
    messages = [dict(message) for message in row["messages"]]
    messages[place]["content"] = text
    return {**row, "messages": messages}


def _with(tokenizer: Any, row: Mapping[str, Any], place: int, text: str) -> TokenSequence:
    return sequence_of_row(tokenizer, replaced(row, place, text))


def _last_tokens(tokenizer: Any, document: str, count: int) -> int:
    """Character at which the document's last `count` tokens begin; 0 where it has no more than those."""
    offsets = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
        "offset_mapping"
    ]
    return int(offsets[-count][0]) if len(offsets) > count else 0


def _fitted(
    tokenizer: Any, row: Mapping[str, Any], place: int, whole: TokenSequence, fit: int
) -> tuple[Mapping[str, Any], TokenSequence]:
    document, question = document_and_question(row)
    keep = fit - (whole.length_tokens - len(tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]))
    for _ in range(8):  # tokens at the cut may join otherwise than inside of the document
        if keep <= 0:
            break
        start = _last_tokens(tokenizer, document, keep)
        shorter = replaced(row, place, document[start:] + GAP + question)
        whole = sequence_of_row(tokenizer, shorter)
        if whole.length_tokens <= fit:
            return shorter, whole
        keep -= whole.length_tokens - fit
    raise DataError(f"does not fit into {fit:,} tokens even without its document")
