"""Requests: the document is a common prefix, and reading is the inverse of writing."""

from hypothesis import given
from hypothesis import strategies as st

from longalign.llm.check_prompts import SECTIONS
from longalign.llm.prompt import (
    LANGUAGES,
    TASKS,
    AnswerAsked,
    PromptLanguage,
    QuestionsAsked,
    Task,
    answer_request,
    prompt_hash,
    questions_request,
    read_request,
    row_message,
    sections,
)

LANGUAGE = st.sampled_from(LANGUAGES)
DOCUMENT = st.text(max_size=200)
QUESTION = st.text(min_size=1, max_size=60).map(lambda text: " ".join(text.split())).filter(bool)


@given(DOCUMENT, st.sampled_from(TASKS), st.integers(1, 50), LANGUAGE)
def test_a_call_for_questions_is_read_back(document: str, task: Task, count: int, language: PromptLanguage) -> None:
    message = questions_request(document, task, count, language)
    assert read_request(message) == QuestionsAsked(document, task, count, language)


@given(DOCUMENT, QUESTION, LANGUAGE)
def test_a_call_for_an_answer_is_read_back(document: str, question: str, language: PromptLanguage) -> None:
    assert read_request(answer_request(document, question, language)) == AnswerAsked(document, question, language)


@given(DOCUMENT, QUESTION, LANGUAGE)
def test_the_document_is_the_same_prefix_of_all_calls_and_of_the_row(
    document: str, question: str, language: PromptLanguage
) -> None:
    messages = [questions_request(document, task, 5, language) for task in TASKS]
    messages += [answer_request(document, question, language), row_message(document, question)]
    assert all(message.startswith(document + "\n\n") for message in messages)


def test_every_language_has_every_text_and_its_own_hash() -> None:
    names = {"questions", "answer", "closed_book", *TASKS, *SECTIONS, "readers", "document"}
    assert all(set(sections(language)) == names and all(sections(language).values()) for language in LANGUAGES)
    assert len({prompt_hash(language) for language in LANGUAGES}) == len(LANGUAGES) == 9


def test_rows_of_earlier_versions_keep_the_hash_of_their_prompt() -> None:
    assert prompt_hash("en") == "4231fc61d8840842"
    assert prompt_hash("zh") == "94dc93903d687050"


def test_a_document_that_ends_like_a_request_does_not_confuse_the_reading() -> None:
    inner = questions_request("inner", "summary", 3, "en")
    assert read_request(questions_request(inner, "general", 5, "zh")) == QuestionsAsked(inner, "general", 5, "zh")
