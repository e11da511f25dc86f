"""Bundled names: corpora whose held-out part shares nothing with what is trained on, and errors for wrong names."""

from pathlib import Path

import pytest

from longalign.base.sources import Named, model_dir
from longalign.bundled.corpora import REPEATED_SHARE, corpus
from longalign.errors import ConfigError
from tests.oracles.shingles import shingle_set

GATHERED = pytest.mark.slow
"""Python's documentation is gathered from the installed modules, which takes seconds."""
CORPORA = (pytest.param("python-docs", marks=GATHERED), "chinese")


@pytest.mark.parametrize("name", CORPORA)
def test_training_and_held_out_documents_have_no_title_in_common(name: str) -> None:
    training = {title for title, _ in corpus(f"builtin:{name}")}
    held_out = {title for title, _ in corpus(f"builtin:{name}-heldout")}
    assert training
    assert held_out
    assert training.isdisjoint(held_out)


@pytest.mark.parametrize("name", CORPORA)
def test_held_out_text_does_not_stand_in_training_text(name: str) -> None:
    seen = set().union(*(shingle_set(text, 13) for _, text in corpus(f"builtin:{name}")))
    for title, text in corpus(f"builtin:{name}-heldout"):
        own = shingle_set(text, 13)
        assert len(own & seen) <= REPEATED_SHARE * len(own), title


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(f"python-docs{part}", marks=GATHERED) for part in ("", "-heldout")),
        *(f"chinese{part}" for part in ("", "-heldout")),
    ],
)
def test_a_corpus_is_the_same_every_time_and_holds_real_text(name: str) -> None:
    documents = list(corpus(f"builtin:{name}"))
    assert documents == list(corpus(f"builtin:{name}"))
    assert len({title for title, _ in documents}) == len(documents)
    assert all(text.strip() for _, text in documents)


@GATHERED
def test_every_machine_has_over_a_million_characters_of_english_to_train_on() -> None:
    documents = list(corpus("builtin:python-docs"))
    assert sum(len(text) for _, text in documents) > 10**6
    assert any(title.startswith("topic ") for title, _ in documents)
    assert any(title.startswith("module ") for title, _ in documents)


@GATHERED
def test_there_is_enough_held_out_english_for_the_demos_longest_haystack() -> None:
    assert sum(len(text) for _, text in corpus("builtin:python-docs-heldout")) > 100_000


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("builtin:python-doc", "did you mean `builtin:python-docs`?"), ("builtin:zzz", "there are builtin:python-docs")],
)
def test_a_wrong_corpus_is_named_with_those_there_are(wrong: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        corpus(wrong)
    assert wrong in str(error.value)
    assert hint in str(error.value)


def test_only_bundled_models_are_looked_up() -> None:
    assert model_dir("some/hub-id") == "some/hub-id"
    assert not Named("some/hub-id").bundled
    assert not Named("builtin:no-such").bundled_model
    with pytest.raises(ConfigError, match=r"`builtin:no-such`: no such bundled model; there is `builtin:tiny-base`"):
        model_dir("builtin:no-such")


@pytest.mark.skipif(
    not Named("builtin:tiny-base").bundled_model, reason="the base model is not made yet (make tiny-base)"
)
def test_the_bundled_model_is_small_whole_and_says_how_it_was_made() -> None:
    folder = Path(model_dir("builtin:tiny-base"))
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"} <= names
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12 * 2**20
