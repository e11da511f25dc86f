"""Planted register entries: fixed by seed and document, of the training split, in whole and at sentence boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.bundled.register import find_facts, split_of
from longalign.config import DataSettings
from longalign.data.documents import make_document
from longalign.data.plant import entries_for, plant
from tests.makers.text import prose


def settings(entries: int, seed: int = 0) -> DataSettings:
    return DataSettings(register_entries=entries, seed=seed)


def test_nothing_is_planted_unless_asked_for() -> None:
    document = make_document(prose(1, 12), origin="a.txt")
    assert plant(document, settings(0)) is document
    assert entries_for(document.id, "en", settings(0)) == []


@given(st.integers(1, 8), st.integers(0, 5), st.sampled_from(["en", "zh"]))
def test_every_entry_stands_in_the_document_once_and_nothing_else_is_changed(
    entries: int, seed: int, language: str
) -> None:
    document = make_document(prose(seed, 12, language), origin="a.txt")
    planted = plant(document, settings(entries, seed))
    wanted = entries_for(document.id, document.language, settings(entries, seed))
    assert len(wanted) == entries
    assert sorted(fact.name for fact in find_facts(planted.text)) == sorted(fact.name for fact in wanted)
    rest = planted.text
    for fact in wanted:
        assert planted.text.count(fact.sentence) == 1
        rest = rest.replace(fact.sentence, "")
    assert rest.split() == document.text.split() or rest.replace(" ", "") == document.text.replace(" ", "")
    assert (planted.id, planted.language) == (document.id, document.language)


def test_entries_are_of_the_training_split() -> None:
    facts = [fact for n in range(40) for fact in entries_for(f"document {n}", "en", settings(4))]
    assert {split_of(pair) for fact in facts for pair in (fact.name, fact.value)} == {"train"}


def test_entries_depend_on_seed_and_document_only() -> None:
    first = entries_for("a", "en", settings(4))
    entries_for("b", "en", settings(4))
    assert entries_for("a", "en", settings(4)) == first
    assert entries_for("b", "en", settings(4)) != first
    assert entries_for("a", "en", settings(4, seed=1)) != first


@pytest.mark.parametrize(
    ("language", "sentence"), [("zh", "登记条目"), ("en", "Register entry"), ("other", "Register")]
)
def test_entries_speak_chinese_in_chinese_documents_and_english_elsewhere(language: str, sentence: str) -> None:
    assert all(fact.sentence.startswith(sentence) for fact in entries_for("a", language, settings(3)))
