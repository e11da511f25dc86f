"""Prompts have the asked length with everything counted, needles stand where asked, in any vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.bundled.register import SENTENCE_END, draw_facts, find_facts
from longalign.errors import ConfigError, DataError
from longalign.eval.haystack import Haystack, Plant, Prompt, hide
from longalign.eval.token_view import CharacterView, TokenizerView, TokenView, cut_middle
from tests.makers.text import filler

KINDS = ["word", "bytes", "unigram", "glued"]


class SlowTokenizer:
    """A tokenizer that knows no offsets, as ChatGLM's own does not; and has no chat template."""

    is_fast = False
    chat_template = None

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> dict[str, list[int]]:
        return {"input_ids": self.inner(text, add_special_tokens=False)["input_ids"]}


def views(tokenizers: Callable[[str], Any]) -> dict[str, TokenView]:
    out: dict[str, TokenView] = {kind: TokenizerView(tokenizers(kind)) for kind in KINDS}
    return out | {"slow": TokenizerView(SlowTokenizer(tokenizers("bytes"))), "characters": CharacterView()}


def prompt(view: TokenView, length: int, depth: float, language: str = "en", seed: int = 0) -> tuple[Prompt, str]:
    texts = [filler(400, 1000 * n, language) for n in range(3)]
    haystack = Haystack.build(texts, view, 4 * length)
    rng = random_for(seed, "test")
    facts = draw_facts(rng, 4, split="heldout", language=language)  # type: ignore[arg-type]
    depths = (depth, 0.2, 0.5, 0.8)
    plants = [Plant(fact.sentence, at) for fact, at in zip(facts, depths, strict=True)]
    made = hide(view, haystack.stream(rng, length), length, plants, facts[0].question)
    return made, facts[0].sentence


@pytest.mark.parametrize("kind", [*KINDS, "slow", "characters"])
@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_needle_lands_at_the_asked_depth(kind: str, depth: float, tokenizers: Callable[[str], Any]) -> None:
    """In the paper's script every needle of a model other than ChatGLM landed at depth 0."""
    view = views(tokenizers)[kind]
    made, sentence = prompt(view, 1500, depth)
    rendered = view.render([{"role": "user", "content": made.content}])
    total = view.count(rendered)
    assert total == made.length_tokens
    assert total <= 1500
    assert total >= 1500 - 12
    before = view.count(rendered[: rendered.index(sentence)])
    assert made.plant_tokens[0] == pytest.approx(before, abs=3)
    assert made.plant_tokens[0] / total == pytest.approx(depth, abs=0.09)


@pytest.mark.parametrize("kind", KINDS)
def test_entries_stand_between_sentences(kind: str, tokenizers: Callable[[str], Any]) -> None:
    made, sentence = prompt(views(tokenizers)[kind], 900, 0.4)
    body = made.content.rsplit("\n\n", 1)[0]
    place = body.index(sentence)
    assert SENTENCE_END.search(body[max(0, place - 2) : place + 1]) or place == 0
    assert len(find_facts(body)) == 4
    assert body.endswith(".")


def test_chinese_needles_stand_between_chinese_sentences(tokenizers: Callable[[str], Any]) -> None:
    made, sentence = prompt(TokenizerView(tokenizers("bytes")), 1500, 0.5, language="zh")
    before = made.content[: made.content.index(sentence)].rstrip()
    assert before.endswith("。")
    assert made.plant_tokens[0] / made.length_tokens == pytest.approx(0.5, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(150, 3000), depth=st.floats(0, 1), seed=st.integers(0, 10_000))
def test_any_length_is_met_but_never_passed(length: int, depth: float, seed: int, word_view: TokenView) -> None:
    made, sentence = prompt(word_view, length, depth, seed=seed)
    assert length - 12 <= made.length_tokens <= length
    assert made.content.count(sentence) == 1


@pytest.fixture(scope="module")
def word_view(tokenizers: Callable[[str], Any]) -> TokenView:
    return TokenizerView(tokenizers("word"))


def test_the_haystack_is_verbatim_text(word_view: TokenView) -> None:
    made, _ = prompt(word_view, 700, 0.5)
    body = made.content.rsplit("\n\n", 1)[0]
    for fact in find_facts(body):
        body = body.replace(fact.sentence, "")
    source = " ".join("\n\n".join(filler(400, 1000 * n) for n in range(3)).split())
    pieces = [piece for piece in SENTENCE_END.split(body) if piece.strip()]
    assert all(" ".join(piece.split()) in source for piece in pieces)


def test_too_short_a_length_says_what_is_needed(word_view: TokenView) -> None:
    with pytest.raises(ConfigError, match=r"length 30 is too short: question and entries alone take \d+"):
        prompt(word_view, 30, 0.5)


def test_text_that_is_too_short_is_repeated_and_says_so(word_view: TokenView) -> None:
    haystack = Haystack.build([filler(10)], word_view, 10_000)
    facts = draw_facts(random_for(0, "x"), 1, split="heldout")
    made = hide(
        word_view, haystack.stream(random_for(0, "y"), 2000), 2000, [Plant(facts[0].sentence, 0.5)], facts[0].question
    )
    assert made.repeats_text
    assert made.length_tokens >= 1990


def test_empty_haystack_is_an_error(word_view: TokenView) -> None:
    with pytest.raises(DataError, match="no text"):
        Haystack.build([""], word_view, 100)


@given(st.text(alphabet="abc 中文。.\n", max_size=300), st.integers(0, 80))
def test_cutting_the_middle_keeps_both_ends_verbatim(text: str, keep: int) -> None:
    view = CharacterView()
    cut = cut_middle(text, view, keep)
    if view.count(text) <= keep:
        assert cut == text
        return
    assert view.count(cut) <= keep + 1
    split = next(i for i in range(len(cut) + 1) if text.startswith(cut[:i]) and text.endswith(cut[i:]))
    assert text.startswith(cut[:split])


@given(st.text(alphabet="ab 中。\n", max_size=200))
def test_the_estimate_counts_four_characters_or_one_chinese_as_a_token(text: str) -> None:
    chinese = text.count("中")
    rest = len(text) - chinese
    assert CharacterView().count(text) == pytest.approx(chinese + rest / 4, abs=1)
    starts = CharacterView().starts(text)
    assert np.all(np.diff(starts) > 0)
