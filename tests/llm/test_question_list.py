"""Which questions a call gave: none of a list that may have been cut, the only one also without a number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.llm.base import Failure, Reply
from longalign.llm.numbered import numbered_items
from longalign.llm.question_list import questions_in

LIST = "1. Who wrote it?\n2. When did the war end?\n3. How many ships were lost in 1853?"
QUESTIONS = ["Who wrote it?", "When did the war end?", "How many ships were lost in 1853?"]


def whole_list(text: str, *, count: int) -> list[str]:
    return questions_in(Failure(kind="truncated", message="", text=text), count=count)


@pytest.mark.parametrize(
    "reply",
    [
        LIST + "\n\nHere is a sample:\n\n```python\nimport sub",
        LIST.replace(". ", ": ").replace("1:", "Question 1:").replace("2:", "Question 2:").replace("3:", "Question 3:")
        + "\n \nQuestion 1:\n\nThe person who wro",
        "Here are the questions:\n\n" + LIST.replace("\n", "\n\n") + "\n\nAnswers:\n1. The",
    ],
)
def test_a_list_that_was_complete_before_the_cut_is_read(reply: str) -> None:
    assert whole_list(reply, count=3) == QUESTIONS


@pytest.mark.parametrize(
    "reply",
    [
        LIST,  # the last question may go on
        LIST[:-1] + "\n\n",  # white space at the end is no end of a question
        LIST.replace("\n", "\n\n"),
        "1. Who wrote it?\n2. When did the war end?\n\nThe text says that 3. ",
        "The war ended in 3. The text, the text,\n\nthe text, the text",
        "",
    ],
)
def test_a_list_that_the_cap_may_have_cut_gives_nothing(reply: str) -> None:
    assert whole_list(reply, count=3) == []


def test_a_question_that_comes_twice_counts_once() -> None:
    assert whole_list("1. Who?\n2. Who?\n3. Who?\n\nThe", count=3) == ["Who?"]


@given(st.integers(0, len(LIST)))
def test_no_cut_inside_the_list_gives_half_a_question(place: int) -> None:
    assert whole_list(LIST[:place], count=3) == []


@given(st.text(max_size=40))
def test_what_stands_behind_the_list_changes_nothing(behind: str) -> None:
    plain = "".join(letter for letter in behind if letter.isalpha()) or "talk"
    assert whole_list(f"{LIST}\n\n{plain}", count=3) == numbered_items(LIST, limit=3)


@pytest.mark.parametrize(
    "reply",
    [
        "What is a slice?",
        '"What is a slice?"',
        "**What is a slice?**\n",
        "Here is a question that the text answers:\n\nWhat is a slice?",
        "The answer to this question is: What is a slice?",
        "**Question:** What is a slice?",
        "What is a slice?\n\nA slice is a part of a sequence.",
    ],
)
def test_the_only_question_needs_no_number(reply: str) -> None:
    assert questions_in(Reply(text=reply), count=1) == ["What is a slice?"]
    assert whole_list(f"{reply}\n\nThe text, the text, the", count=1) == ["What is a slice?"]


@pytest.mark.parametrize(
    "reply",
    [
        "The text describes slices.",
        "A slice is a part.\nIs that clear?",
        "I am here to help. What is on your mind?",
        "",
        "Questions:",
        "I am:\na model",
    ],
)
def test_talk_is_no_question(reply: str) -> None:
    assert questions_in(Reply(text=reply), count=1) == []


def test_several_questions_need_numbers() -> None:
    assert questions_in(Reply(text="What is a slice?"), count=3) == []


@pytest.mark.parametrize("kind", ["empty", "thinking_truncated", "moderated", "incomplete"])
def test_other_failures_give_no_question(kind: str) -> None:
    assert questions_in(Failure(kind=kind, message="", text=LIST + "\n\nThe"), count=3) == []  # type: ignore[arg-type]
