"""Rows above the window: shortened without losing question or answer, never without targets, always counted."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.data.overlong import cut_middle, fit
from longalign.data.tokenize import TokenSequence

RULES = ("truncate_middle_of_document", "truncate_right", "split", "drop")


def row(document: int, question: int, answer: int, *, turns: int = 1) -> TokenSequence:
    """Ids count up, so that what is missing shows; each turn is document and question, then the answer as target."""
    target = ([False] * (document + question) + [True] * answer) * turns
    return TokenSequence(np.arange(len(target), dtype=np.int32), np.array(target))


def test_the_middle_of_the_document_goes_and_question_and_answer_stay() -> None:
    sequence = row(5000, 40, 60)
    kept = cut_middle(sequence, 1000)
    ids = kept.ids_T.tolist()
    assert len(ids) == 1000
    assert ids[:32] == list(range(32))
    assert ids[-356:] == list(range(5100 - 356, 5100))
    assert sum(b - a > 1 for a, b in pairwise(ids)) == 1, "one cut"
    assert kept.target_count == 60


def test_evidence_is_cut_last() -> None:
    sequence = row(5000, 40, 60)
    protected = np.zeros(5100, dtype=bool)
    protected[2400:2600] = True
    kept = cut_middle(TokenSequence(sequence.ids_T, sequence.target_T, protected), 1000)
    assert set(range(2400, 2600)) <= set(kept.ids_T.tolist())
    assert kept.length_tokens == 1000
    assert kept.target_count == 60


def test_several_documents_in_one_conversation_are_all_shortened() -> None:
    kept = cut_middle(row(2000, 20, 30, turns=3), 1500)
    assert kept.length_tokens == 1500
    assert kept.target_count == 90


def test_truncating_on_the_right_never_leaves_a_row_without_targets() -> None:
    """Regression: the published code trained on rows whose every target was cut off."""
    sequences, counts = fit(row(5000, 40, 60), 1000, "truncate_right")
    assert sequences == []
    assert counts == Counter(overlong=1, dropped_without_targets=1, tokens_cut=5100)


def test_nothing_is_dropped_silently() -> None:
    """Regression: over-long rows and the last open pack vanished from the published packing."""
    for rule, expected in (
        ("drop", {"overlong": 1, "dropped_overlong": 1, "tokens_cut": 4940}),
        ("split", {"overlong": 1, "split": 1, "tokens_cut": 4000}),
    ):
        _, counts = fit(row(4000, 40, 900), 1000, rule)  # type: ignore[arg-type]
        assert counts == Counter(expected)
    _, counts = fit(row(10, 5, 0), 1000, "drop")
    assert counts == Counter(dropped_without_targets=1)


def test_split_keeps_every_window_that_has_targets() -> None:
    sequences, counts = fit(row(4000, 40, 900), 1000, "split")
    assert [s.ids_T[0] for s in sequences] == [4000]
    assert counts["tokens_cut"] == 4000
    both, _ = fit(row(500, 40, 1500), 1000, "split")
    assert [s.length_tokens for s in both] == [1000, 1000, 40]


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_fit_are_left_alone(rule: str) -> None:
    sequence = row(100, 10, 20)
    kept, counts = fit(sequence, 130, rule)  # type: ignore[arg-type]
    assert kept == [sequence]
    assert not counts


@given(
    runs=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), min_size=1, max_size=5),
    window=st.integers(8, 300),
    rule=st.sampled_from(RULES),
)
def test_every_result_fits_and_has_targets(runs: list[tuple[int, int]], window: int, rule: str) -> None:
    target = [flag for prompt, answer in runs for flag in [False] * prompt + [True] * answer]
    sequence = TokenSequence(np.arange(len(target), dtype=np.int32), np.array(target, dtype=bool))
    sequence.target_T[:1] = False
    kept, counts = fit(sequence, window, rule)  # type: ignore[arg-type]
    for part in kept:
        assert part.length_tokens <= window
        assert part.target_count
        assert not part.target_T[0]
        assert (np.diff(part.ids_T) > 0).all(), "in the order of the row"
    assert bool(kept) or counts["dropped_overlong"] or counts["dropped_without_targets"]
    if rule == "truncate_middle_of_document" and sequence.target_count and len(target) > window:
        assert len(kept) == 1, "the default loses no row"
        assert kept[0].length_tokens == window
