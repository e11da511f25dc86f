"""Rows longer than the window: four rules, none of which lets a row without targets into training.

truncate_middle_of_document (default): the prompt is cut in its middle, where a document is, so that its beginning,
    the question at its end and the answer stay whole; evidence that a row marks is cut last.
truncate_right: the paper's rule. A row whose targets all lie beyond the window is dropped, and counted.
split: several fragments, each a sequence of its own, that keep their prompt; what cannot keep it is left out, and
    counted (`split_row`).
drop: the row is left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from longalign.data.tokenize import TokenSequence

Overlong = Literal["truncate_middle_of_document", "truncate_right", "split", "drop"]
HEAD_TOKENS = 32
TAIL_TOKENS = 256
"""Kept at the beginning (system prompt, first words of the document) and end (question) of a prompt that is cut."""
CONTEXT_TOKENS = 256
"""`split`: at most so many of an answer's tokens are repeated, untrained, before the place where the answer is cut."""
LEAST_ROOM = 4
"""`split`: an answer is cut only where a quarter of the window is left beside its prompt, so that no row becomes many
fragments of a long prompt and a few words each."""


def fit(sequence: TokenSequence, window: int, rule: Overlong) -> tuple[list[TokenSequence], Counter[str]]:
    """The sequences that enter training for one row, each at most `window` tokens and with targets, and what was done.

    Counts: `overlong` rows met, `shortened`, `split`, `dropped_overlong`, `dropped_without_targets`, `tokens_cut`; of
    `split` also `fragments`, `targets_cut`, `tokens_repeated` and `dropped_prompt_too_long`.
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
        kept, done = split_row(sequence, window)
        return kept, counts + done
    if rule == "truncate_right":
        kept = [sequence.take(slice(0, window))]
        counts["shortened"] = 1
    else:
        kept = [cut_middle(sequence, window)]
        counts["shortened"] = 1
    kept = [part for part in kept if part.target_count]
    counts["tokens_cut"] = sequence.length_tokens - sum(part.length_tokens for part in kept)
    if not kept:
        counts["dropped_without_targets"] = 1
        counts["shortened"] = 0
    return kept, +counts


def split_row(sequence: TokenSequence, window: int) -> tuple[list[TokenSequence], Counter[str]]:
    """Fragments of at most `window` tokens in which every target follows its own prompt; and what was counted.

    A row is a run of exchanges, each a prompt (what stands before an answer, back to the answer before) and an answer
    (targets without a gap). A fragment is

        head + as many consecutive exchanges as fit,    or    head + prompt + a piece of an answer that alone is too
                                                              long, which the last tokens of the piece before introduce

    where the head, which the first exchange itself does not have, is the first prompt (system prompt, document, first
    question) with the end of its answer. No token of a head is a target, and no target is trained twice. An exchange
    that does not fit, and whose prompt leaves less than a quarter of the window, is left out; its targets are counted.
    """
    exchanges = _exchanges(sequence.target_T)
    counts: Counter[str] = Counter()
    fragments: list[TokenSequence] = []
    seen_T = np.zeros(sequence.length_tokens, dtype=bool)

    def add(context: list[tuple[int, int]], trained: tuple[int, int]) -> None:
        kept_T = np.concatenate([np.arange(start, end) for start, end in (*context, trained)])
        part = sequence.take(kept_T)
        own_T = kept_T >= trained[0]
        fragments.append(TokenSequence(part.ids_T, part.target_T & own_T, part.protected_T))
        seen_T[kept_T] = True

    place = 0
    while place < len(exchanges):
        start, answer, end = exchanges[place]
        head = _head(exchanges[0], window) if place else []
        held = sum(stop - begin for begin, stop in head)
        room = window - held - (answer - start)
        place += 1
        if end - answer > room and room < max(window // LEAST_ROOM, 1):
            counts["targets_cut"] += end - answer
        elif end - answer > room:
            done = answer
            for context, targets in pieces(end - answer, room):
                add([*head, (start, answer), (done - context, done)], (done, done + targets))
                done += targets
        else:
            while place < len(exchanges) and held + exchanges[place][2] - start <= window:
                end = exchanges[place][2]
                place += 1
            add(head, (start, end))
    counts["fragments"] = len(fragments)
    counts["split" if fragments else "dropped_prompt_too_long"] = 1
    counts["tokens_cut"] = int((~seen_T).sum())
    counts["tokens_repeated"] = sum(part.length_tokens for part in fragments) - int(seen_T.sum())
    return fragments, +counts


def pieces(answer: int, room: int) -> list[tuple[int, int]]:
    """(tokens of context, targets) of each piece of an answer of `answer` tokens, of which `room` fit at once."""
    context = min(CONTEXT_TOKENS, room // 4)
    later = range(min(answer, room), answer, room - context)
    return [(0, min(answer, room)), *((context, min(answer - done, room - context)) for done in later)]


def _exchanges(target_T: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(start, where the answer starts, end) of each exchange; what follows the last answer belongs to none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], target_T, [False])).astype(np.int8)))
    answers, ends = edges[::2].tolist(), edges[1::2].tolist()
    return list(zip([0, *ends[:-1]], answers, ends, strict=True))


def _head(first: tuple[int, int, int], window: int) -> list[tuple[int, int]]:
    """The first prompt and the end of its answer."""
    start, answer, end = first
    return [(start, answer), (max(answer, end - min(CONTEXT_TOKENS, window // 8)), end)]


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
