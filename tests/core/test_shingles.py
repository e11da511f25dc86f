"""Repeats and contamination are found by containment, short in long included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.shingles import Contamination, repeated_share, sample, shingles
from tests.oracles import shingles as oracle

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "Ä", "河", "x1", "long-word", "A", "é"]), max_size=60).map(" ".join)


@given(WORDS)
def test_as_many_shingles_as_by_sets(text: str) -> None:
    for size in (2, 13):
        assert len(shingles(text, size)) == len(oracle.shingle_set(text, size))


@given(st.lists(WORDS, max_size=6))
def test_repeated_share_equals_the_one_by_sets(texts: list[str]) -> None:
    got = repeated_share([shingles(text, 3) for text in texts])
    assert got == pytest.approx(oracle.repeated_share(texts, 3))


@given(WORDS, st.lists(WORDS, max_size=5))
def test_contamination_equals_the_one_by_sets(document: str, evaluations: list[str]) -> None:
    found = Contamination.of(evaluations).share(shingles(document))
    assert found == pytest.approx(oracle.contamination(document, evaluations, 13))


def prose(seed: int, words: int) -> str:
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 5000, words))


def test_a_short_text_inside_a_long_one_is_a_repeat_and_neighbours_are_not() -> None:
    long, other = prose(0, 20_000), prose(1, 500)
    inside = " ".join(long.split()[7000:7400])
    shares = repeated_share([shingles(text) for text in (long, other, inside)])
    assert shares[2] == 1
    assert shares[:2].max() == 0


def test_the_sample_is_the_same_for_all_texts_and_estimates_containment() -> None:
    long = prose(2, 40_000)
    half = " ".join(long.split()[:5000]) + " " + prose(3, 5000)
    sampled = [sample(shingles(text), 1 / 8) for text in (long, half)]
    assert len(sampled[0]) == pytest.approx(40_000 / 8, rel=0.1)
    assert repeated_share(sampled)[1] == pytest.approx(0.5, abs=0.06)


def test_an_evaluation_text_in_a_document_is_found_and_short_ones_are_counted() -> None:
    document = prose(4, 3000)
    question = " ".join(document.split()[100:130])
    index = Contamination.of([question, "too short", question])
    assert index.share(shingles(document)) == 1
    assert index.share(shingles(prose(5, 3000))) == 0
    assert index.too_short == 1
