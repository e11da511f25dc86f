"""What is no data is turned away for a stated reason; what is, has evidence with its place."""

import random
from itertools import pairwise
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.text import sentences, token_f1, words
from longalign.data.verify import (
    Passages,
    alike,
    answer_fault,
    position_balance,
    question_fault,
    unknown_name,
    unsupported_number,
    wrong_language,
)

FILLER = " ".join(f"Sentence {n} tells nothing of interest about weather or wind." for n in range(200))
FACT = "The lighthouse keeper Anders Holm counted 1,482 puffins on the western cliff."
DOCUMENT = f"{FILLER} {FACT} {FILLER}"


def test_an_answer_in_the_documents_words_is_supported_where_they_stand() -> None:
    support, evidence = Passages(DOCUMENT).support(
        "Anders Holm counted 1,482 puffins.", frozenset(words("How many puffins?"))
    )
    assert support == 1
    (found,) = evidence
    assert found.text == FACT
    assert DOCUMENT[found.start : found.end] == FACT
    assert 0.45 < found.position < 0.55


def test_an_answer_from_elsewhere_is_not_supported() -> None:
    support, evidence = Passages(DOCUMENT).support("Quantum chromodynamics binds gluons strongly.")
    assert support < 0.3
    assert evidence == []


def test_an_answer_that_combines_two_places_has_both_as_evidence() -> None:
    second = "Maria Lund later painted the same cliff in oil."
    document = f"{FACT} {FILLER} {second}"
    answer = "Anders Holm counted puffins on the western cliff, and Maria Lund painted it in oil."
    support, evidence = Passages(document).support(answer)
    assert support > 0.6
    assert {FACT, second} <= {found.text for found in evidence}


def test_words_of_the_question_need_no_support_but_tell_equal_places_apart() -> None:
    document = f"The red gate opened in 1950. {FILLER} The blue gate opened in 1950."
    _, evidence = Passages(document).support(
        "The blue gate opened in 1950.", frozenset(words("When did the blue gate open?"))
    )
    assert [found.text for found in evidence] == ["The blue gate opened in 1950."]


def test_chinese_answers_are_matched_by_pairs_of_characters() -> None:
    document = "灯塔看守人在西边的悬崖上数到了许多海鸟。" + "天气和风没有什么好说的。" * 50
    support, evidence = Passages(document).support("看守人数到了许多海鸟。")
    assert support > 0.8
    assert evidence[0].start == 0


@pytest.mark.parametrize(
    ("answer", "language", "fault"),
    [
        ("", "en", "empty answer"),
        ("...", "en", "empty answer"),
        ("I'm sorry, but I cannot help with that.", "en", "refused"),
        ("I can't answer this.", "en", "refused"),
        ("As an AI language model, I have no opinion.", "en", "refused"),
        ("抱歉，我无法回答这个问题。", "zh", "refused"),
        ("The document does not mention who built it.", "en", "not in the document, says the model"),
        ("文中没有提到这一点。", "zh", "not in the document, says the model"),
        ("Who built the lighthouse on the cliff?", "en", "copy of the question"),
        ("灯塔是由一位工程师在悬崖上建造的。", "en", "answer in another language"),
        ("An engineer built the lighthouse on the cliff.", "zh", "answer in another language"),
        ("An engineer built it.", "en", None),
        ("Sorry is the hero's first word in the book.", "en", None),
        ("It was 灯塔 (a lighthouse) that the engineer built there.", "en", None),
        ("他使用 Python 的 asyncio 模块写了这个程序。", "zh", None),
    ],
)
def test_answers_are_turned_away_for_the_right_reason(answer: str, language: str, fault: str | None) -> None:
    assert answer_fault(answer, "Who built the lighthouse on the cliff?", language) == fault


@pytest.mark.parametrize(
    ("question", "language", "fault"),
    [
        ("Why?", "en", "question too short"),
        ("What does this section describe?", "en", "question points at a place"),
        ("What is the output of the following code?", "en", "question points at a place"),
        ("What follows from the following codes of conduct?", "en", None),
        ("谁建造了灯塔，为什么？", "en", "question in another language"),
        ("Who built the lighthouse?", "en", None),
        ("谁建造了灯塔？", "zh", None),
    ],
)
def test_questions_are_turned_away_for_the_right_reason(question: str, language: str, fault: str | None) -> None:
    assert question_fault(question, language) == fault


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What does `__cxa_get_offset_by_line` return?", "__cxa_get_offset_by_line"),
        ("What is sort() for?", "sort"),
        ("What does `read_all` wait for, and listen()?", None),
        ("How large is alpha_max?", None),  # another way to write it
        ("How large is x_1?", None),
        ("Does it return `None`, or the _old harbour_?", None),
    ],
)
def test_a_question_about_code_that_the_document_lacks_is_found(question: str, name: str | None) -> None:
    document = r"Telnet.read_all() waits for the end; see Listen. It is at most $\alpha_{\max}$."
    assert unknown_name(question, document) == name


def test_a_number_that_nobody_gave_is_found() -> None:
    assert unsupported_number("He counted 1482 puffins.", DOCUMENT, "") is None
    assert unsupported_number("He counted 1,583 puffins.", DOCUMENT, "") == "1,583"
    assert unsupported_number("In 1999 there were 3.", DOCUMENT, "What of 1999?") is None


def test_answers_alike_share_most_words() -> None:
    assert alike("Anders Holm counted 1,482 puffins.", "It was Anders Holm who counted 1,482 puffins.")
    assert not alike("Anders Holm counted 1,482 puffins.", "UNKNOWN")


def test_short_and_unknown_languages_are_not_judged() -> None:
    assert not wrong_language("42", "zh")
    assert not wrong_language("Это русский ответ", "other")


def test_positions_are_counted_by_tenths() -> None:
    counts = position_balance([0.0, 0.05, 0.5, 1.0])
    assert list(counts.values()) == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]


@given(st.text(max_size=400))
def test_sentences_are_stretches_of_their_text_in_order(text: str) -> None:
    found = sentences(text)
    assert all(text[s.start : s.end] == s.text and s.text == s.text.strip() and s.text for s in found)
    assert all(a.end <= b.start for a, b in pairwise(found))


@given(st.text(max_size=200), st.text(max_size=100))
def test_support_is_a_share_and_evidence_lies_in_the_document(document: str, answer: str) -> None:
    support, evidence = Passages(document).support(answer)
    assert 0 <= support <= 1 + 1e-9
    assert all(document[found.start : found.end] == found.text and 0 <= found.position <= 1 for found in evidence)


def test_token_f1_is_symmetric_and_counts_repeats() -> None:
    assert token_f1(["a", "a", "b"], ["a", "b", "b"]) == pytest.approx(2 / 3)
    assert token_f1([], ["a"]) == 0


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Does Debian ship the tool by default?", "Debian does so."),
        (
            "Which release of the harbour rules counts the boats?",
            "The release of the harbour rules that counts the boats.",
        ),
        ("港口的规则有哪些？", "港口的规则。"),
        ("灯塔是白色的吗？", "是的。"),
        ("Le phare est-il blanc ?", "Le phare est blanc."),
        (  # as SmolLM2-135M wrote it
            'What is the type of the object in the text that meets the value restriction "0 <= x <= 255"?',
            'The type of the object in the text that meets the value restriction "0 <= x <= 255" is an arbitrary '
            'object that meets the value restriction "0 <= x <= 255".',
        ),
    ],
)
def test_the_question_restated_is_no_answer(question: str, answer: str) -> None:
    language = "en" if answer.isascii() else "zh"
    assert answer_fault(answer, question, language) in ("nothing beyond the question", "copy of the question")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is the gate red or blue?", "Blue."),
        ("Who keeps the keys of the old harbour gate?", "The keys of the old harbour gate are kept by Maria."),
        (
            "How do the dues of a boat in spring and the dues of a boat in autumn differ?",
            "The dues of a boat in spring are higher than the dues of a boat in autumn.",
        ),
        ("Does Debian ship it?", "Yes, since release 4 every installer has it."),
        ("Who painted the cliff?", "Maria Lund."),
        ("Which number is larger: 9.9, 9.11?", "9.9"),
        ("What does the unit file set?", "It sets:\nUser: www-data\nGroup: www-data"),
        ("What are the cells of the column?", "None\nNone\nNone\nNone\nNone"),
    ],
)
def test_a_short_answer_with_something_new_is_one(question: str, answer: str) -> None:
    assert answer_fault(answer, question, "en") is None


def test_an_answer_that_goes_on_with_the_conversation_or_in_circles_is_none() -> None:
    more = "Puffins nest there.\n\nUser: And gulls?"
    assert answer_fault(more, "Which birds nest there?", "en") == "speaks for the user"
    assert answer_fault("Puffins nest in holes. " * 6, "Which birds?", "en") == "repeats itself"


@pytest.mark.parametrize("answer", ["It is quote-\ndelimited.", "It is quote- delimited.", "It is quote-delimited."])
@pytest.mark.parametrize("broken", ["quote-\ndelimited", "quote-delimited"])
def test_a_hyphen_at_the_end_of_a_line_may_belong_to_its_word(answer: str, broken: str) -> None:
    support, _ = Passages(f"{FILLER} The field is {broken} there. {FILLER}").support(answer, frozenset(["it", "is"]))
    assert support == 1


@given(st.integers(0, 2**32 - 1))
def test_what_typesetting_adds_to_a_document_does_not_hide_its_words(seed: int) -> None:
    """Ligatures, line-end and soft hyphens, curly apostrophes: a verbatim answer is supported all the same."""
    rng = random.Random(seed)
    plain = "The officer's final figure of 1482 puffins on the western cliff differs from an earlier estimate."
    noisy = plain.replace("fi", "ﬁ").replace("'", "’")
    for _ in range(3):
        place = rng.randrange(1, len(noisy) - 1)
        if noisy[place - 1].isalpha() and noisy[place] in ascii_lowercase:
            noisy = noisy[:place] + rng.choice(["-\n", "\u00ad"]) + noisy[place:]
    support, evidence = Passages(f"{FILLER} {noisy} {FILLER}").support(plain)
    assert support > 0.9
    assert noisy in evidence[0].text
