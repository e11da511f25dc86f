"""Text to ids and character offsets, with control tokens only where the template wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.data.controls import controls_of
from longalign.data.dye import map_texts
from longalign.data.turn_spans import Found
from longalign.errors import DataError

_THINKING_MARKS = ("<think>", "</think>", "[THINK]", "[/THINK]")


def encode_text(
    tokenizer: Any, text: str, spelled: Sequence[tuple[int, int]] = ()
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ids [T] and offsets [T, 2] of `text`, tokenised as a whole.

    `spelled`: stretches [start, end) that look like control tokens and are text. What stands between the control tokens
    to the left and right of such a stretch is tokenised again, as text; all other tokens stay as they are.
    """
    ids_T, offsets_T2 = _encode(tokenizer, text, as_text=False)
    if not spelled:
        return ids_T, offsets_T2
    control_C = np.flatnonzero(np.isin(ids_T, list(controls_of(tokenizer).special_ids)))
    starts_S, ends_S = (np.array(edges, dtype=np.int64) for edges in zip(*spelled, strict=True))
    stretch_C = np.searchsorted(ends_S, offsets_T2[control_C, 0], side="right")  # first stretch that ends behind it
    inside_C = stretch_C < len(starts_S)
    inside_C &= starts_S[np.minimum(stretch_C, len(starts_S) - 1)] < offsets_T2[control_C, 1]
    if not inside_C.any():
        return ids_T, offsets_T2
    real_R = control_C[~inside_C]
    edges = [-1, *real_R.tolist(), len(ids_T)]
    again = sorted({int(np.searchsorted(real_R, token)) for token in control_C[inside_C].tolist()})
    parts_ids, parts_offsets, done = [], [], 0
    for number in again:
        left, right = edges[number], edges[number + 1]
        start = int(offsets_T2[left, 1]) if left >= 0 else 0
        end = int(offsets_T2[right, 0]) if right < len(ids_T) else len(text)
        part_ids_T, part_offsets_T2 = _encode(tokenizer, text[start:end], as_text=True)
        parts_ids += [ids_T[done : left + 1], part_ids_T]
        parts_offsets += [offsets_T2[done : left + 1], part_offsets_T2 + start]
        done = right
    return (
        np.concatenate([*parts_ids, ids_T[done:]]).astype(np.int32),
        np.concatenate([*parts_offsets, offsets_T2[done:]]).astype(np.int64),
    )


def _encode(tokenizer: Any, text: str, *, as_text: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    encoding = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, verbose=False, split_special_tokens=as_text
    )
    return (
        np.asarray(encoding["input_ids"], dtype=np.int32),
        np.asarray(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2),
    )


def spelled_controls(tokenizer: Any, found: Found) -> list[tuple[int, int]]:
    """Control tokens that a message spells out, where they stand in the rendered text: [start, end).

    The marks around thinking that an assistant's message brings with it are meant as such. Raises `DataError` when the
    template does not tell where the message's text is.
    """
    controls = controls_of(tokenizer)
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    for message in found.messages:
        map_texts(message, note)
    if not any(any(controls.spelled(text)) for text in texts):
        return []
    if found.owner_N is None:
        raise DataError("a message spells out a control token, and the chat template does not tell where; take it out")
    places = []
    for start, end in controls.spelled(found.text):
        turn = int(found.owner_N[start:end].max())
        meant = (
            found.text[start:end] in _THINKING_MARKS and turn >= 0 and found.messages[turn].get("role") == "assistant"
        )
        if turn >= 0 and not meant:
            places.append((start, end))
    return places
