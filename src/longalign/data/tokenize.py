"""Text to sequences: token ids, and which of them are targets.

A conversation is rendered by the tokenizer's own chat template and tokenised once, as a whole; targets are found as
character spans of the rendered text and carried over to tokens by the tokenizer's offsets. Nothing is ever added to
the text to find them again (the paper's code put two marker tokens around each answer and searched for their ids).

A target span runs from the end of the assistant header (what generation is prompted with) to the end-of-turn token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longalign.data.template_rows import check_shown, with_known_roles
from longalign.data.turn_spans import Span, assistant_spans
from longalign.errors import DataError, ModelError

Thinking = Literal["keep", "strip"]
_THINKING = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class TokenSequence:
    """One tokenised conversation or window of a document.

    ids_T: token ids, int32. target_T: True where the token is trained, that is predicted from those before it; never
    at position 0. protected_T: True where the text must survive shortening (evidence of the answer), or None.
    """

    ids_T: NDArray[np.int32]
    target_T: NDArray[np.bool_]
    protected_T: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.ids_T.shape != self.target_T.shape or self.ids_T.ndim != 1:
            raise ValueError(f"ids {self.ids_T.shape} and targets {self.target_T.shape} must be equal and flat")

    @property
    def length_tokens(self) -> int:
        return len(self.ids_T)

    @property
    def target_count(self) -> int:
        return int(self.target_T.sum())

    def take(self, kept_T: NDArray[Any] | slice) -> TokenSequence:
        """The tokens that an index, mask or slice keeps; the first one is no target."""
        target_T = self.target_T[kept_T].copy()
        target_T[:1] = False
        protected_T = None if self.protected_T is None else self.protected_T[kept_T]
        return TokenSequence(self.ids_T[kept_T], target_T, protected_T)


def tokenize_conversation(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    train_on: Literal["all", "last"] = "all",
    thinking: Thinking = "keep",
    tools: Sequence[Mapping[str, Any]] | None = None,
    evidence: Sequence[str] = (),
    template_options: Mapping[str, Any] | None = None,
) -> TokenSequence:
    """Tokenise `messages` by the chat template; assistant turns (all, or the last) are targets, end-of-turn included.

    `thinking="strip"` takes `<think>` blocks and `reasoning_content` out before rendering; with `keep` the template
    decides what of them is shown. Texts in `evidence` are marked as protected wherever they occur.
    Raises `ModelError` for a tokenizer without template or offsets, `DataError` when turns cannot be located.
    """
    check_tokenizer(tokenizer)
    if thinking == "strip":
        messages = [_without_thinking(message) for message in messages]
    text, spans = assistant_spans(tokenizer, messages, tools, template_options)
    check_shown(text, messages, tools)
    if train_on == "last":
        spans = spans[-1:]
    return _encode(tokenizer, text, spans, evidence)


def tokenize_document(tokenizer: Any, text: str) -> TokenSequence:
    """Tokenise plain text for continued pretraining: every token but the first is a target; ends with the EOS token.

    Special tokens the tokenizer adds by itself (BOS) stay. Control tokens spelled out in the text are text.
    """
    ids = tokenizer(text, return_attention_mask=False, verbose=False, split_special_tokens=True)["input_ids"]
    eos = tokenizer.eos_token_id
    if eos is not None and (not ids or ids[-1] != eos):
        ids = [*ids, eos]
    ids_T = np.asarray(ids, dtype=np.int32)
    target_T = np.ones(len(ids_T), dtype=bool)
    target_T[:1] = False
    return TokenSequence(ids_T, target_T)


def windows(sequence: TokenSequence, window: int) -> Iterator[TokenSequence]:
    """Consecutive windows of at most `window` tokens; a rest of one token has no target and is left out."""
    for start in range(0, sequence.length_tokens, window):
        part = sequence.take(slice(start, start + window))
        if part.target_count:
            yield part


def check_tokenizer(tokenizer: Any) -> None:
    """Raise `ModelError` if exact assistant masks cannot be had from this tokenizer."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"tokenizer {tokenizer.name_or_path!r} has no character offsets (it is not a `tokenizers` one), so answers "
            "cannot be located exactly; use the model's fast tokenizer (tokenizer.json)"
        )
    if not tokenizer.chat_template:
        raise ModelError(
            f"tokenizer {tokenizer.name_or_path!r} has no chat template; set one with --chat_template FILE.jinja "
            "or use the chat variant's tokenizer"
        )


def _encode(tokenizer: Any, text: str, spans: Sequence[Span], evidence: Sequence[str]) -> TokenSequence:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids_T = np.asarray(encoding["input_ids"], dtype=np.int32)
    offsets_T2 = np.asarray(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    target_T = np.zeros(len(ids_T), dtype=bool)
    special = set(tokenizer.all_special_ids)
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    for number, span in enumerate(spans):
        inside = _overlap(offsets_T2, span.start, span.end)
        if not inside.any():
            continue  # an empty turn of a template that shows nothing for it
        last = int(np.flatnonzero(inside)[-1])
        if span.closed:  # the turn's text ends with its end-of-turn token, maybe followed by white space of the layout
            while int(ids_T[last]) not in special and not text[slice(*offsets_T2[last])].strip() and inside[last]:
                inside[last] = False
                last -= 1
        elif number == len(spans) - 1 and span.end >= len(text.rstrip()) and tokenizer.eos_token_id is not None:
            ids_T = np.append(ids_T[: last + 1], np.int32(tokenizer.eos_token_id))
            offsets_T2 = np.vstack([offsets_T2[: last + 1], [[len(text), len(text)]]])
            inside, target_T = np.append(inside[: last + 1], True), np.append(target_T[: last + 1], False)
        target_T |= inside
    target_T[:1] = False
    protected_T = None
    if evidence:
        protected_T = np.zeros(len(ids_T), dtype=bool)
        for quote in filter(None, evidence):
            start = text.find(quote)
            if start >= 0:
                protected_T |= _overlap(offsets_T2, start, start + len(quote))
    return TokenSequence(ids_T, target_T, protected_T)


def _overlap(offsets_T2: NDArray[np.int64], start: int, end: int) -> NDArray[np.bool_]:
    """Tokens that cover at least one character of [start, end)."""
    return (offsets_T2[:, 1] > start) & (offsets_T2[:, 0] < end)


def _without_thinking(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if key not in ("reasoning_content", "reasoning", "thinking")}
    if message.get("role") == "assistant" and isinstance(message.get("content"), str):
        kept["content"] = _THINKING.sub("", message["content"])
    return kept


def sequence_of_row(tokenizer: Any, row: Mapping[str, Any], **how: Any) -> TokenSequence:
    """`tokenize_conversation` of a data row (`messages`, optional `tools`, `chat_template_kwargs` and `evidence`)."""
    if not row.get("messages"):
        raise DataError("field `messages` is missing or empty")
    check_tokenizer(tokenizer)
    return tokenize_conversation(
        tokenizer,
        with_known_roles(tokenizer, row),
        tools=row.get("tools"),
        evidence=evidence_texts(row.get("evidence")),
        template_options=row.get("chat_template_kwargs"),
        **how,
    )


def evidence_texts(evidence: Any) -> list[str]:
    """Quotes of an `evidence` field: a list of strings, or of mappings with `text` or `quote`."""
    texts = []
    for entry in evidence or ():
        text = entry if isinstance(entry, str) else (entry.get("text") or entry.get("quote"))
        if text:
            texts.append(str(text))
    return texts
