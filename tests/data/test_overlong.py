"""Rows above the window: shortened without losing question or answer, never without targets, always counted."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.core.weighting import sequence_weights
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
        ("split", {"overlong": 1, "dropped_prompt_too_long": 1, "targets_cut": 900, "tokens_cut": 4940}),
    ):
        _, counts = fit(row(4000, 40, 900), 1000, rule)  # type: ignore[arg-type]
        assert counts == Counter(expected)
    _, counts = fit(row(10, 5, 0), 1000, "drop")
    assert counts == Counter(dropped_without_targets=1)


def test_fragments_of_a_long_answer_all_have_the_question() -> None:
    """Regression: only the first window held it; the others trained on an answer to nothing."""
    fragments, counts = fit(row(500, 40, 1500), 1000, "split")
    context = 460 // 4  # a quarter of the room beside the prompt
    assert [part.target_count for part in fragments] == [460, 345, 345, 345, 5]
    for part in fragments:
        assert part.ids_T[:540].tolist() == list(range(540))
        assert not part.target_T[:540].any()
    for before, after in pairwise(fragments):
        assert after.ids_T[540 : 540 + context].tolist() == before.ids_T[-context:].tolist()
        assert not after.target_T[540 : 540 + context].any()
    repeated = 4 * (540 + context)
    assert counts == Counter(overlong=1, split=1, fragments=5, tokens_repeated=repeated)


def test_fragments_of_a_long_conversation_carry_its_beginning_and_whole_turns() -> None:
    fragments, counts = fit(row(30, 10, 60, turns=30), 500, "split")
    head = [*range(40), *range(100 - 62 + 2, 100)]  # the first prompt, and its answer, which is short enough
    for part in fragments[1:]:
        assert part.ids_T[:100].tolist() == head
        assert part.ids_T[100] % 100 == 0, "a turn begins"
        assert part.ids_T[-1] % 100 == 99, "and one ends"
    assert [part.target_count for part in fragments] == [300, *[240] * 6, 60]
    assert counts == Counter(overlong=1, split=1, fragments=8, tokens_repeated=700)


def plainly_own_prompt(target: list[bool], position: int) -> range:
    """What stands between the answer of a target and the answer before, found by walking."""
    end = position
    while target[end - 1]:
        end -= 1
    start = end
    while start > 0 and not target[start - 1]:
        start -= 1
    return range(start, end)


@settings(max_examples=40)
@given(
    runs=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 90)), min_size=1, max_size=8),
    tail=st.integers(0, 20),
    window=st.integers(8, 300),
)
def test_every_target_is_trained_once_after_its_own_prompt_or_counted(
    runs: list[tuple[int, int]], tail: int, window: int
) -> None:
    target = [flag for prompt, answer in runs for flag in [False] * prompt + [True] * answer] + [False] * tail
    sequence = TokenSequence(np.arange(len(target), dtype=np.int32), np.array(target))
    if len(target) <= window:
        return
    fragments, counts = fit(sequence, window, "split")
    trained = [int(n) for part in fragments for n in part.ids_T[part.target_T]]
    assert len(trained) == len(set(trained)), "no target twice"
    assert len(trained) + counts["targets_cut"] == sum(target), "none lost without being counted"
    lost = set(np.flatnonzero(target).tolist()) - set(trained)
    for part in fragments:
        ids = part.ids_T.tolist()
        assert len(ids) <= window
        assert ids[: runs[0][0]] == list(range(runs[0][0])), "the conversation's beginning"
        for place in np.flatnonzero(part.target_T):
            assert set(plainly_own_prompt(target, ids[place])) <= set(ids[:place])
    for position in lost:
        head = 0 if position < sum(runs[0]) else runs[0][0] + min(runs[0][1], window // 8)
        assert window - head - len(plainly_own_prompt(target, position)) < window / 4, "there was no room"
    whole = {n for part in fragments for n in part.ids_T.tolist()}
    assert counts["tokens_cut"] == len(target) - len(whole)
    assert counts["tokens_repeated"] == sum(part.length_tokens for part in fragments) - len(whole)
    assert bool(fragments) == bool(counts["split"]) != bool(counts["dropped_prompt_too_long"])


def test_each_fragment_counts_once_in_equation_2() -> None:
    """The loss of a step with a split row, in float64, against the plain definition: means of fragments, averaged."""
    long, _ = fit(row(20, 10, 150), 90, "split")
    sequences = [*long, row(5, 5, 12), row(3, 2, 40)]
    rng = np.random.default_rng(0)
    nll = [rng.random(part.length_tokens) for part in sequences]
    weights = sequence_weights([part.target_count for part in sequences])
    loss = sum(w * values[part.target_T].sum() for w, values, part in zip(weights, nll, sequences, strict=True))
    means = [values[part.target_T].mean() for values, part in zip(nll, sequences, strict=True)]
    assert len(long) == 3
    assert loss == pytest.approx(np.mean(means), rel=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_fit_are_left_alone(rule: str) -> None:
    sequence = row(100, 10, 20)
    kept, counts = fit(sequence, 130, rule)  # type: ignore[arg-type]
    assert kept == [sequence]
    assert not counts


@settings(max_examples=40)
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
    reasons = ("dropped_overlong", "dropped_without_targets", "dropped_prompt_too_long")
    assert bool(kept) or any(counts[reason] for reason in reasons)
    if rule == "truncate_middle_of_document" and sequence.target_count and len(target) > window:
        assert len(kept) == 1, "the default loses no row"
        assert kept[0].length_tokens == window
