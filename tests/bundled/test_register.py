"""Register entries: drawn by split, found again, planted at sentence boundaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.bundled.register import Language, Split, draw_facts, find_facts, insert_facts, split_of
from longalign.errors import ConfigError

LANGUAGES = st.sampled_from(["en", "zh"])
SPLITS = st.sampled_from(["train", "heldout"])


@given(st.integers(0, 2**32), LANGUAGES, SPLITS, st.integers(1, 4))
def test_facts_keep_to_their_split_and_share_no_word(seed: int, language: Language, split: Split, count: int) -> None:
    facts = draw_facts(np.random.default_rng(seed), count, split=split, language=language)
    assert {split_of(pair) for fact in facts for pair in (fact.name, fact.value)} == {split}
    words = " ".join(f"{fact.name} {fact.value}" for fact in facts).split()
    assert len(set(words)) == 4 * count


@given(
    st.integers(0, 2**32),
    LANGUAGES,
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
    st.text(alphabet="ab 。.\n!", max_size=200),
)
def test_planted_facts_are_found_again_in_the_order_of_their_depths(
    seed: int, language: Language, depths: list[float], text: str
) -> None:
    facts = draw_facts(np.random.default_rng(seed), len(depths), split="train", language=language)
    planted = insert_facts(text, facts, depths)
    assert set(find_facts(planted)) == set(facts)
    for fact in facts:
        planted = planted.replace(fact.sentence, "")
    assert "".join(planted.split()) == "".join(text.split())


def test_a_fact_never_cuts_a_sentence() -> None:
    text = "First sentence here. Second one is longer than that. Third."
    (fact,) = draw_facts(np.random.default_rng(0), 1, split="train")
    for depth in np.linspace(0, 1, 21):
        planted = insert_facts(text, [fact], [float(depth)])
        assert all(sentence in planted for sentence in ("First sentence here.", "Second one is longer than that."))


@pytest.mark.parametrize(("language", "count"), [("en", 61), ("en", 1000), ("zh", 60)])
def test_beyond_the_pools_words_facts_share_words_but_no_pair(language: Language, count: int) -> None:
    facts = draw_facts(np.random.default_rng(0), count, split="heldout", language=language)
    pairs = [pair for fact in facts for pair in (fact.name, fact.value)]
    assert len(set(pairs)) == 2 * count
    assert {split_of(pair) for pair in pairs} == {"heldout"}


def test_more_facts_than_there_are_pairs_of_words_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="use fewer distractors"):
        draw_facts(np.random.default_rng(0), 3000, split="heldout", language="zh")
