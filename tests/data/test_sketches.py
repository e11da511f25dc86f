"""Documents repeated inside others are found in arrays as they are by sets, and memory has a bound."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.shingles import sample
from longalign.data.sketches import Sketches
from tests.oracles.shingles import repeated_documents

HASHES = np.unique(np.random.default_rng(0).integers(0, 2**64, 60, dtype=np.uint64))
DOCUMENTS = st.lists(st.tuples(st.integers(1, 4), st.sets(st.sampled_from(range(len(HASHES))))), max_size=12)
Drawn = list[tuple[int, set[int]]]


def given_to(sketches: Sketches, drawn: Drawn) -> dict[str, tuple[int, set[int]]]:
    """The documents by id, and the sketches filled with them."""
    found = {}
    for number, (length, places) in enumerate(drawn):
        hashes = HASHES[sorted(places)]
        id = hashlib.sha256(str(number).encode()).hexdigest()
        sketches.add(id, length, hashes)
        found[id] = (length, {int(value) for value in hashes})
    return found


@given(DOCUMENTS, st.sampled_from([0.1, 0.5, 0.8, 1.0]))
def test_repeated_documents_are_those_found_by_sets(drawn: Drawn, share: float) -> None:
    sketches = Sketches()
    documents = given_to(sketches, drawn)
    assert sketches.share == 1
    assert [id for id, _ in sketches.repeated(share)] == repeated_documents(documents, share)


@given(DOCUMENTS, st.integers(1, 40))
def test_beyond_the_bound_all_documents_keep_the_largest_sample_that_fits(drawn: Drawn, most: int) -> None:
    sketches = Sketches(most)
    documents = given_to(sketches, drawn)
    share = 1.0
    while sum(len(sample(HASHES[sorted(places)], share)) for _, places in drawn) > most:
        share /= 2
    assert sketches.share == share
    thinned = {
        id: (length, {value for value in values if share == 1 or value < share * 2**64})
        for id, (length, values) in documents.items()
    }
    assert [id for id, _ in sketches.repeated(0.5)] == repeated_documents(thinned, 0.5)
