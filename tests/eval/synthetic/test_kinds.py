"""Every kind of synthetic question: the text holds the answer as claimed, and no other answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.bundled.names import cities, numbers, pairs_of_words, people, places, uuids
from longalign.bundled.register import sentence_starts
from longalign.errors import ConfigError
from longalign.eval.haystack import Haystack
from longalign.eval.synthetic.challenge import Challenge, score
from longalign.eval.synthetic.fit import Fitted, fit
from longalign.eval.synthetic.kind import Draw, Listed, many, others, steps
from longalign.eval.synthetic.kinds import KINDS, chosen
from longalign.eval.token_view import CharacterView
from tests.makers.text import filler
from tests.oracles.synthetic_reader import answer

VIEW = CharacterView()
LANGUAGES: Any = ["en", "zh"]
HAYSTACKS = {
    language: Haystack.build([filler(600, 1000 * n, language) for n in range(3)], VIEW, 100_000)
    for language in LANGUAGES
}


def made(name: str, length: int, language: Any, seed: int) -> Fitted:
    def rng(part: str) -> np.random.Generator:
        return random_for(seed, name, part)

    return fit(KINDS[name], name, length, VIEW, HAYSTACKS[language], rng, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.sampled_from([600, 1500, 5000]))
def test_who_reads_the_whole_text_is_right_and_who_repeats_it_is_not(
    name: str, language: Any, seed: int, length: int
) -> None:
    fitted = made(name, length, language, seed)
    assert score(fitted.challenge, answer(fitted.content)).right
    assert score(fitted.challenge, ", ".join(fitted.challenge.expected)).right
    assert not score(fitted.challenge, fitted.content).right
    assert score(fitted.challenge, "").share == 0
    assert fitted == made(name, length, language, seed)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(700, 6000))
def test_a_prompt_has_the_length_that_was_asked_for(name: str, seed: int, length: int) -> None:
    fitted = made(name, length, "en", seed)
    assert fitted.length_tokens == VIEW.count(fitted.content)
    assert fitted.length_tokens <= length
    assert fitted.length_tokens >= 0.93 * length - 20


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not isinstance(kind, Listed)])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_planted_sentences_stand_between_sentences_where_the_row_says(name: str, language: Any, seed: int) -> None:
    fitted = made(name, 3000, language, seed)
    body = fitted.content.rsplit("\n\n", 1)[0]
    for plant in fitted.challenge.plants:
        assert body.count(plant.sentence) >= 1
        place = body.index(plant.sentence)
        assert place in sentence_starts(body) or body[place - 1] in " \n"
    for plant, at in zip(fitted.challenge.plants, fitted.answer_tokens, strict=False):
        assert at == VIEW.count(fitted.content[: fitted.content.index(plant.sentence)])
    assert len(fitted.answer_tokens) == fitted.challenge.placed


def test_links_of_a_chain_never_overtake_each_other() -> None:
    for seed in range(30):
        fitted = made("variable_tracking", 600, "en", seed)
        assert list(fitted.answer_tokens) == sorted(fitted.answer_tokens)


def test_longer_prompts_are_harder_by_the_stated_law() -> None:
    lengths = [512, 1024, 4096, 131072]
    assert [others(n) for n in lengths] == [4, 5, 11, 259]
    assert [steps(n) for n in lengths] == [2, 2, 4, 9]
    assert [many(n) for n in lengths] == [3, 4, 6, 11]


ONE = Challenge(question="", expected=("4812903",), wrong=("7730125", "1112223"))
ALL = replace(ONE, expected=("4812903", "5500127"))
COUNT = Challenge(question="", expected=("3",), only_number=True)
ORDER = Challenge(question="", expected=("Oslo", "Lima"), sequence=True)


@pytest.mark.parametrize(
    ("challenge", "said", "share"),
    [
        (ONE, "The special magic number for Oslo is 4812903.", 1),
        (ONE, "4,812,903", 1),
        (ONE, "4812903 or 7730125", 0.5),
        (ONE, "48129031", 0),
        (ONE, "7730125", 0),
        (ALL, "5500127,4812903", 1),
        (ALL, "5500127", 0.5),
        (ALL, "5500127, 4812903, 7730125, 1112223", 0.5),
        (COUNT, "3", 1),
        (COUNT, "It rang three times.", 1),
        (COUNT, "3 times, or 4", 0),
        (COUNT, "13", 0),
        (COUNT, "three, in 5 places", 0),
        (ORDER, "First Oslo, then Lima", 1),
        (ORDER, "Lima, Oslo", 0),
        (ORDER, "Oslo", 0),
    ],
)
def test_values_count_when_they_are_given_and_no_wrong_one_is(challenge: Challenge, said: str, share: float) -> None:
    assert score(challenge, said).share == share


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("draw", [cities, people, pairs_of_words, places])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 900))
def test_names_are_all_different(draw: Callable[..., list[str]], language: Any, seed: int, count: int) -> None:
    found = draw(random_for(seed, "names"), count, language)
    assert len(set(found)) == count


@given(seed=st.integers(0, 10**6), count=st.integers(1, 500))
def test_numbers_are_all_different(seed: int, count: int) -> None:
    rng = random_for(seed, "numbers")
    assert len({n for n in numbers(rng, count) if len(n) == 7}) == count
    assert len(set(uuids(rng, count))) == count


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_million_tokens_have_names_enough(language: Any) -> None:
    assert len(set(cities(random_for(0, "many"), 80_000, language))) == 80_000


def test_a_kind_that_is_none_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"no synthetic task `countin` \(did you mean `counting`\?\); there are single, .*, or all"
    ):
        chosen(["countin"])
    assert list(chosen(["all"])) == list(KINDS)


def test_too_short_a_length_is_refused() -> None:
    for name in ("multi_key", "key_value"):
        with pytest.raises(ConfigError, match="too short"):
            made(name, 40, "en", 0)


def test_a_draw_depends_on_its_seed_alone() -> None:
    kind = KINDS["single"]
    assert kind.make(Draw(random_for(1, "a"), "en"), 1000) == kind.make(Draw(random_for(1, "a"), "en"), 1000)
    assert kind.make(Draw(random_for(1, "a"), "en"), 1000) != kind.make(Draw(random_for(2, "a"), "en"), 1000)
