"""Text to sequences: token ids, and which of them are targets.

A conversation is rendered by the tokenizer's own chat template and tokenised once, as a whole; targets are found as
character spans of the rendered text (turn_spans.py), checked (turn_guard.py), and carried over to tokens by the
tokenizer's offsets. Nothing is ever added to the text that is trained (the paper's code put two marker tokens around
each answer and searched for their ids).

A target span runs from the end of the assistant header (what generation is prompted with) to the end-of-turn token.
Control tokens are the template's. One that is spelled out in a message is text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longalign.base.progress import say
from longalign.data.controls import controls_of
from longalign.data.encode import encode_text, spelled_controls
from longalign.data.render import Renderer, render_row
from longalign.data.template_rows import HIDDEN, answers_changed, check_shown, with_known_roles
from longalign.data.turn_guard import check_turns
from longalign.data.turn_spans import Found, Span, find_turns
from longalign.errors import DataError, ModelError

Thinking = Literal["keep", "strip"]
TURN_NOTICES = {
    "turns_without_end": "assistant turns that teach no stopping: {count}. This chat template ends them with no token "
    "of its own; their words are trained, and a row's last turn gets the tokenizer's end of text. For an end after "
    "every turn, give a copy of the template that writes one with --chat_template FILE",
    "turns_not_shown": "assistant turns that are not trained: {count}. The chat template shows none of their words "
    "(has it tool calls?); give one that does with --chat_template FILE",
    **HIDDEN,
}
"""What a user should know of `counts`, by name."""
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
    counts: Counter[str] | None = None,
) -> TokenSequence:
    """Tokenise `messages` by the chat template; assistant turns (all, or the last) are targets, end-of-turn included.

    A turn with `train` false is no target. `thinking="strip"` takes `<think>` blocks and `reasoning_content` out before
    rendering; with `keep` the template decides what of them is shown. Texts in `evidence` are marked as protected
    wherever they occur. `template_options` are variables for the template. `counts` gets what a user should know, by
    the names of `TURN_NOTICES`.
    Raises `ModelError` for a tokenizer without template or offsets, `DataError` when turns cannot be told exactly.
    """
    check_tokenizer(tokenizer)
    if thinking == "strip":
        messages = [_without_thinking(message) for message in messages]
    trained = {n for n, m in enumerate(messages) if m.get("role") == "assistant" and m.get("train") is not False}
    plain = [{key: value for key, value in message.items() if key != "train"} for message in messages]
    render = Renderer(tokenizer, tools, template_options or {})
    read, text = render_row(render, plain)
    hidden = check_shown(text, read, tools)
    found = find_turns(render, read, text)
    check_turns(render, read, text, found.spans, controls_of(tokenizer).added)
    hidden["answers_changed"] = answers_changed(text, read, {span.turn for span in found.spans})
    if train_on == "last":
        trained &= {max((span.turn for span in found.spans), default=-1)}
    spans = [span for span in found.spans if span.turn in trained]
    sequence, open_turns = _encode(tokenizer, found, spans, evidence)
    if counts is not None:
        not_shown = 0 if train_on == "last" else len(trained - {span.turn for span in spans})
        counts.update(hidden + Counter({"turns_without_end": open_turns, "turns_not_shown": not_shown}))
    return sequence


def say_notices(counts: Mapping[str, int]) -> None:
    """Say, a line each, what a user should know of `counts`."""
    for name, notice in TURN_NOTICES.items():
        if counts.get(name):
            say(f"targets: {notice.format(count=f'{counts[name]:,}')}")


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


def _encode(tokenizer: Any, found: Found, spans: Sequence[Span], evidence: Sequence[str]) -> tuple[TokenSequence, int]:
    """The tokens of the conversation, and the number of turns whose end is not trained.

    A turn that no control token ends, at the end of the conversation, gets the tokenizer's end of text; what the
    template writes behind it (the header of a next turn) is left out.
    """
    text, special = found.text, controls_of(tokenizer).added_ids
    spelled = spelled_controls(tokenizer, found)
    last_span = found.spans[-1] if found.spans else None
    ends_text = last_span in spans and last_span is not None and last_span.turn == len(found.messages) - 1
    if ends_text and last_span is not None and not last_span.closed:
        text = text[: last_span.end]
    ids_T, offsets_T2 = encode_text(tokenizer, text, spelled)
    target_T = np.zeros(len(ids_T), dtype=bool)
    open_turns = 0
    for place, span in enumerate(spans):
        part = _tokens_of(offsets_T2, span.start, span.end)
        last = part.stop - 1
        while last >= part.start and _is_behind(found, span, offsets_T2[last]):
            last -= 1
        if last < part.start:
            continue  # an empty turn of a template that shows nothing for it
        # the turn's text ends with its end-of-turn token, maybe followed by white space of the layout
        while span.closed and last > part.start and int(ids_T[last]) not in special:
            if text[slice(*offsets_T2[last])].strip():
                break
            last -= 1
        target_T[part.start : last + 1] = True
        if not (span.closed and int(ids_T[last]) in special) and int(ids_T[last]) != tokenizer.eos_token_id:
            if ends_text and span is last_span and tokenizer.eos_token_id is not None:
                ids_T = np.append(ids_T[: last + 1], np.int32(tokenizer.eos_token_id))
                offsets_T2 = np.vstack([offsets_T2[: last + 1], [[len(text), len(text)]]])
                target_T = np.append(target_T[: last + 1], True)
            elif place + 1 == len(spans) or spans[place + 1].turn != span.turn:
                open_turns += 1
    target_T[:1] = False
    protected_T = None
    if evidence:
        protected_T = np.zeros(len(ids_T), dtype=bool)
        for quote in filter(None, evidence):
            start = text.find(quote)
            if start >= 0:
                protected_T |= _overlap(offsets_T2, start, start + len(quote))
    return TokenSequence(ids_T, target_T, protected_T), open_turns


def _is_behind(found: Found, span: Span, offset_2: NDArray[np.int64]) -> bool:
    """Whether a token at the end of a turn holds none of its words and something of what follows."""
    start, end = int(offset_2[0]), int(offset_2[1])
    words = found.owner_N is None or bool((found.owner_N[start : min(end, span.end)] == span.turn).any())
    return not words and bool(found.text[span.end : end].strip())


def _tokens_of(offsets_T2: NDArray[np.int64], start: int, end: int) -> slice:
    """Tokens that cover at least one character of [start, end); by bisection: a row may have thousands of turns."""
    return slice(
        int(np.searchsorted(offsets_T2[:, 1], start, side="right")),
        int(np.searchsorted(offsets_T2[:, 0], end, side="left")),
    )


def _overlap(offsets_T2: NDArray[np.int64], start: int, end: int) -> NDArray[np.bool_]:
    """Tokens that cover at least one character of [start, end)."""
    return (offsets_T2[:, 1] > start) & (offsets_T2[:, 0] < end)


def _without_thinking(message: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in message.items() if key not in ("reasoning_content", "reasoning", "thinking")}
    if message.get("role") == "assistant" and isinstance(message.get("content"), str):
        kept["content"] = _THINKING.sub("", message["content"])
    return kept


def sequence_of_row(tokenizer: Any, row: Mapping[str, Any], **how: Any) -> TokenSequence:
    """`tokenize_conversation` of a data row (`messages`, optional `tools`, `evidence` and `chat_template_kwargs`)."""
    if not row.get("messages"):
        raise DataError("field `messages` is missing or empty")
    check_tokenizer(tokenizer)
    options = row.get("chat_template_kwargs")
    return tokenize_conversation(
        tokenizer,
        with_known_roles(tokenizer, row),
        tools=row.get("tools"),
        evidence=evidence_texts(row.get("evidence")),
        template_options=options if isinstance(options, Mapping) else None,
        **how,
    )


def evidence_texts(evidence: Any) -> list[str]:
    """Quotes of an `evidence` field: one string, or a list of strings or of mappings with `text` or `quote`.

    Raises `DataError` for entries of another kind.
    """
    texts = []
    for entry in [evidence] if isinstance(evidence, str) else evidence or ():
        if not isinstance(entry, str | Mapping):
            raise DataError(f"field `evidence` holds {entry!r}; its entries are texts or objects with `text`")
        text = entry if isinstance(entry, str) else (entry.get("text") or entry.get("quote"))
        if text:
            texts.append(str(text))
    return texts
