"""Text to ids and character offsets, with control tokens only where the template wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    special = set(tokenizer.all_special_ids)
    special |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    control_C = np.flatnonzero(np.isin(ids_T, list(special)))
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
