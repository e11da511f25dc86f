"""Rows longer than the window: four rules, none of which lets a row without targets into training.

truncate_middle_of_document (default): the prompt is cut in its middle, where a document is, so that its beginning,
    the question at its end and the answer stay whole; evidence that a row marks is cut last.
truncate_right: the paper's rule. A row whose targets all lie beyond the window is dropped, and counted.
split: consecutive windows, each a sequence of its own; windows without targets are dropped, and counted.
drop: the row is left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from longalign.data.tokenize import TokenSequence, windows

Overlong = Literal["truncate_middle_of_document", "truncate_right", "split", "drop"]
HEAD_TOKENS = 32
TAIL_TOKENS = 256
"""Kept at the beginning (system prompt, first words of the document) and end (question) of a prompt that is cut."""


def fit(sequence: TokenSequence, window: int, rule: Overlong) -> tuple[list[TokenSequence], Counter[str]]:
    """The sequences that enter training for one row, each at most `window` tokens and with targets, and what was done.

    Counts: `overlong` rows met, `shortened`, `split`, `dropped_overlong`, `dropped_without_targets`, `tokens_cut`.
    """
    counts: Counter[str] = Counter()
    if sequence.target_count == 0:
        counts["dropped_without_targets"] = 1
        return [], counts
    if sequence.length_tokens <= window:
        return [sequence], counts
    counts["overlong"] = 1
    if rule == "drop":
        counts |= Counter(dropped_overlong=1, tokens_cut=sequence.length_tokens)
        return [], counts
    if rule == "split":
        kept = list(windows(sequence, window))
        counts["split"] = 1
    elif rule == "truncate_right":
        kept = [sequence.take(slice(0, window))]
        counts["shortened"] = 1
    else:
        kept = [cut_middle(sequence, window)]
        counts["shortened"] = 1
    kept = [part for part in kept if part.target_count]
    counts["tokens_cut"] = sequence.length_tokens - sum(part.length_tokens for part in kept)
    if not kept:
        counts["dropped_without_targets"] = 1
        counts["shortened"] = counts["split"] = 0
    return kept, +counts


def cut_middle(sequence: TokenSequence, window: int) -> TokenSequence:
    """Shorten to `window` tokens by cutting prompts in their middle, the longest first, then evidence, then the right.

    At least one target stays. Answers are cut only when the prompts' beginnings and ends alone exceed the window.
    """
    excess = sequence.length_tokens - window
    keep_T = np.ones(sequence.length_tokens, dtype=bool)
    protected_T = sequence.protected_T
    if protected_T is None:
        protected_T = np.zeros(sequence.length_tokens, dtype=bool)
    runs = sorted(_prompt_runs(sequence.target_T), key=lambda run: run[0] - run[1])
    for spare_evidence in (True, False):
        for start, end in runs:
            head, tail = min(HEAD_TOKENS, window // 8), min(TAIL_TOKENS, window // 4)
            place_T = np.arange(start + head, end - tail)
            free_T = place_T[keep_T[place_T] & ~(protected_T[place_T] & spare_evidence)]
            cut = min(excess, len(free_T))
            if cut > 0:
                first = (len(free_T) - cut) // 2
                keep_T[free_T[first : first + cut]] = False
                excess -= cut
            if excess <= 0:
                return sequence.take(keep_T)
    rest = sequence.take(keep_T)
    first_target = int(np.argmax(rest.target_T))
    start = max(0, min(first_target - window // 2, rest.length_tokens - window))
    if rest.target_T[:window].any():
        start = 0
    return rest.take(slice(start, start + window))


def _prompt_runs(target_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches [start, end) of tokens that are not targets."""
    edges = np.flatnonzero(np.diff(np.concatenate(([True], target_T, [True])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)) if len(edges) else []
