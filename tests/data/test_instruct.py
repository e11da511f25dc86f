"""One document's dialogue: which task, which questions, what is asked next."""

from collections import Counter
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.bundled.register import draw_facts, insert_facts
from longalign.config import DataSettings
from longalign.data.documents import make_document
from longalign.data.instruct import Attempt, draw_task, make_row, row_of
from longalign.llm.base import Failure, Outcome, Reply, Request
from longalign.llm.offline import answer
from longalign.llm.prompt import TASKS
from tests.makers.text import prose

paper = partial(DataSettings, preset="paper")
DOCUMENT = make_document(prose(1, 40), origin="test")


def run(dialogue: Generator[Request, Outcome, Attempt], reply: Any = None) -> tuple[Attempt, list[Request]]:
    asked: list[Request] = []
    try:
        request = next(dialogue)
        while True:
            asked.append(request)
            outcome = reply(request) if reply else Reply(text=answer(request), model="stand-in")
            request = dialogue.send(outcome)
    except StopIteration as stop:
        return stop.value, asked


def questions(attempt: Attempt) -> list[str]:
    return [turn.question for turn in attempt.turns]


@given(st.text(max_size=10), st.integers(0, 5))
def test_a_document_gets_every_task_type_once_before_any_comes_again(document: str, seed: int) -> None:
    drawn = [draw_task(document, number, paper(seed=seed)) for number in range(8)]
    assert {task for task, _ in drawn[:4]} == {task for task, _ in drawn[4:]} == set(TASKS)
    assert [earlier for _, earlier in drawn] == [0] * 4 + [1] * 4


def test_task_types_are_drawn_evenly_over_documents_and_as_often_as_they_are_listed() -> None:
    first = Counter(draw_task(f"d{n}", 0, paper())[0] for n in range(2000))
    assert all(420 < count < 580 for count in first.values())
    chosen = paper(tasks=("extraction", "extraction", "general"))
    assert [draw_task("d", n, chosen)[0] for n in range(3)].count("extraction") == 2


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_later_passes_of_one_type_ask_other_questions(turns: int) -> None:
    facts = draw_facts(random_for(0), 12, split="train")
    text = insert_facts(DOCUMENT.text, facts, [n / 12 for n in range(12)])
    document = make_document(text, origin="test")
    settings = paper(tasks=("extraction",), turns=turns)
    rows = [questions(run(make_row(document, number, settings))[0]) for number in range(5)]
    assert all(len(row) == turns for row in rows)
    assert len({tuple(row) for row in rows}) == 5
    if turns == 1:
        assert len({question for row in rows for question in row}) == 5


def test_a_later_turn_carries_the_conversation_and_not_the_document_again() -> None:
    _, asked = run(make_row(DOCUMENT, 0, paper(turns=2)))
    assert [len(request.messages) for request in asked] == [1, 1, 3]
    assert asked[2].messages[0]["content"].startswith(DOCUMENT.text)
    assert DOCUMENT.text not in asked[2].messages[2]["content"]


def test_the_row_asks_plainly_and_without_our_instructions() -> None:
    attempt, asked = run(make_row(DOCUMENT, 0, paper()))
    row = row_of(attempt)
    assert row["messages"][0]["content"] == f"{DOCUMENT.text}\n\n{questions(attempt)[0]}"
    assert asked[1].messages[0]["content"].startswith(row["messages"][0]["content"] + "\n\n")


@pytest.mark.parametrize("kind", ["truncated", "moderated", "too_long", "unavailable", "malformed"])
def test_a_failed_call_rejects_the_candidate_with_its_kind(kind: Any) -> None:
    attempt, asked = run(make_row(DOCUMENT, 0, paper()), lambda request: Failure(kind=kind, message="m"))
    assert attempt.rejection is not None
    assert attempt.rejection.reason == f"questions: {kind}"
    assert len(asked) == 1


def test_spare_questions_stand_in_where_several_turns_are_wanted() -> None:
    refused: list[Request] = []

    def refuse_first(request: Request) -> Outcome:
        if "1: " not in request.messages[-1]["content"][-700:] and not refused:
            refused.append(request)
            return Reply(text="I'm sorry, I cannot do that.", model="m")
        return Reply(text=answer(request), model="m")

    attempt, _ = run(make_row(DOCUMENT, 0, paper(turns=2)), refuse_first)
    assert len(attempt.turns) == 2
    assert attempt.rejection is None
    assert [rejection.reason for rejection in attempt.rejected_turns] == ["refused"]


def test_with_one_turn_the_first_bad_answer_rejects_the_candidate() -> None:
    def refuse(request: Request) -> Outcome:
        asks = "1: " in request.messages[-1]["content"][-700:]
        return Reply(text=answer(request) if asks else "I'm sorry, no.", model="m")

    attempt, asked = run(make_row(DOCUMENT, 0, paper()), refuse)
    assert attempt.rejection is not None
    assert attempt.rejection.reason == "refused"
    assert len(asked) == 2
