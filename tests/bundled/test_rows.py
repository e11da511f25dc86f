"""Bundled rows: the same by name and number, as long as their name says, names and values of the training split."""

from itertools import islice
from typing import Any

import numpy as np
import pytest

from longalign.base.files import random_for
from longalign.bundled.corpora import corpus
from longalign.bundled.register import find_facts, split_of
from longalign.bundled.rows import DEMO_CHARACTERS_PER_TOKEN, passage, rows
from longalign.data.source import read_rows
from longalign.errors import ConfigError

NAMES = ("builtin:recall-256-40", "builtin:recall-2048-40", "builtin:warmup-128-40", "builtin:chat-0-40")


def text_of(row: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in row["messages"])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_the_same_every_time_and_as_many_as_the_name_says(name: str) -> None:
    first = list(rows(name))
    assert first == list(rows(name))
    assert len(first) == 40
    assert len({row["id"] for row in first}) == 40
    assert len({text_of(row) for row in first}) == 40


def test_a_row_depends_on_the_name_and_its_number_only() -> None:
    whole = list(rows("builtin:recall-256-8"))
    assert list(islice(rows("builtin:recall-256-8"), 3)) == whole[:3]


@pytest.mark.parametrize("tokens", [256, 1024, 2048])
def test_recall_rows_are_about_as_long_as_they_are_called(tokens: int) -> None:
    english = [row for row in rows(f"builtin:recall-{tokens}-60") if row["language"] == "en"]
    lengths = np.array([len(text_of(row)) / DEMO_CHARACTERS_PER_TOKEN["en"] for row in english])
    assert 0.5 * tokens < lengths.mean() < 0.95 * tokens
    assert lengths.max() < 1.4 * tokens
    assert lengths.min() > 0.2 * tokens


def test_questions_follow_the_document_and_answers_stand_in_it() -> None:
    for row in rows("builtin:recall-512-30"):
        document = row["messages"][0]["content"]
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        asked = [message["content"] for message in row["messages"] if message["role"] == "user"]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * len(answers)
        assert len(set(answers)) == len(answers)
        for question, answer in zip(asked, answers, strict=True):
            (fact,) = find_facts(answer)
            assert answer in document
            assert question.endswith(fact.question)


@pytest.mark.parametrize("name", ["builtin:recall-512-60", "builtin:chat-0-140"])
def test_no_name_or_value_is_of_the_held_out_split(name: str) -> None:
    facts = [fact for row in rows(name) for fact in find_facts(text_of(row))]
    assert len(facts) > 30
    assert {split_of(pair) for fact in facts for pair in (fact.name, fact.value)} == {"train"}


def test_about_a_tenth_is_chinese() -> None:
    for name, share in (("builtin:recall-256-200", 0.1), ("builtin:chat-0-200", 0.1)):
        languages = [row["language"] for row in rows(name)]
        assert abs(languages.count("zh") / len(languages) - share) < 0.06


def test_running_text_comes_from_training_documents() -> None:
    training = [text for _, text in corpus("builtin:python-docs")]
    for number in range(5):
        for part in passage(random_for(0, "test", number), "en", 300).split("\n\n"):
            assert any(part in text for text in training)


def test_a_passage_has_the_asked_length_or_is_empty() -> None:
    assert passage(random_for(0, "none"), "en", 0) == ""
    for wanted in (50, 5000, 200_000):
        assert abs(len(passage(random_for(0, "length", wanted), "en", wanted)) - wanted) < 0.05 * wanted + 10


def test_training_reads_them_like_any_row_file() -> None:
    assert [row["id"] for row in read_rows("builtin:chat-0-5")] == [row["id"] for row in rows("builtin:chat-0-5")]


@pytest.mark.parametrize("wrong", ["builtin:recall-256", "builtin:recal-256-8", "builtin:recall-x-8", "builtin:recall"])
def test_a_wrong_name_is_shown_a_right_one(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"no such bundled rows; a name looks like builtin:recall-256-800"):
        list(rows(wrong))
