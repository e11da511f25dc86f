"""Sentences and words, against their plain definitions."""

import re

from hypothesis import given
from hypothesis import strategies as st

from longalign.core.text import bags_of_words, sentences, words

# Where a sentence ends, written plainly; the product's pattern says the same in a form that is quick to search for.
PLAIN = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？；])[”’」』）]*|\n\s*\n|\n(?![ \t]*[a-z])")


@given(st.text(st.sampled_from(".!?。！？；\n \t\"'”’)」aAb中"), max_size=40))
def test_sentences_end_where_the_plain_pattern_says(text: str) -> None:
    ends = [0, *(place for match in PLAIN.finditer(text) for place in match.span()), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(ends[::2], ends[1::2], strict=True)]
    assert [sentence.text for sentence in sentences(text)] == [piece for piece in pieces if piece]
    assert all(text[found.start : found.end] == found.text for found in sentences(text))


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_words_of_plain_text_are_those_of_the_same_text_beside_another_script(text: str) -> None:
    assert words(text) == words(f"{text} 中")[:-1]


TEXTS = st.lists(st.text(st.sampled_from("abZ019 .'-_,\n\0é’中"), max_size=12), max_size=5)


@given(TEXTS)
def test_the_words_of_many_texts_at_once_are_those_of_each(texts: list[str]) -> None:
    assert bags_of_words(texts) == [frozenset(words(text)) for text in texts]


@given(st.text(st.sampled_from("abZ019 .'-_,\n\0\x1c"), max_size=20))
def test_words_of_plain_text_are_runs_of_letters_and_digits_that_single_marks_join(text: str) -> None:
    assert words(text) == re.findall(r"[a-z0-9]+(?:['.-][a-z0-9]+)*", text.lower())
