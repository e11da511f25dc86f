"""The offline stand-in reads real prompts and answers with the document's own sentences."""

import numpy as np
import pytest

from longalign.bundled.register import draw_facts, find_facts, insert_facts
from longalign.errors import ConfigError
from longalign.llm.base import Request, complete_all
from longalign.llm.numbered import numbered_items
from longalign.llm.offline import answer
from longalign.llm.open import open_model
from longalign.llm.prompt import (
    TASKS,
    Task,
    answer_request,
    follow_up_request,
    questions_request,
    row_message,
)

THINGS = ("telescope", "harpsichord", "barometer", "manuscript", "cathedral", "lighthouse", "compass", "anvil")
PROSE = " ".join(
    f"Chapter {n} tells how the {word} was carried over the mountains in the year {1500 + 7 * n}. "
    f"Nobody in the village had expected that the {word} would arrive so late, and the mayor complained."
    for n, word in enumerate(THINGS)
)
ZH = "".join(
    f"第{n}章讲述{word}如何在{1500 + 7 * n}年翻过大山。村里没有人料到{word}会来得这么晚，村长为此抱怨了很久。\n"
    for n, word in enumerate(["望远镜", "大键琴", "气压计", "手抄本", "大教堂", "灯塔灯", "指南针", "铁砧板"])
)


def ask(*contents: str, seed: int = 1) -> str:
    messages = [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(contents)]
    return answer(Request(messages=tuple(messages), seed=seed))


def questions(document: str, task: Task, language: str = "en", seed: int = 1) -> list[str]:
    return numbered_items(ask(questions_request(document, task, 5, language), seed=seed), limit=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("document", "language"), [(PROSE, "en"), (ZH, "zh")])
def test_questions_are_numbered_and_answers_stand_in_the_document(task: Task, document: str, language: str) -> None:
    asked = questions(document, task, language)
    assert len(asked) >= 3
    flat = " ".join(document.split())
    for question in asked:
        said = ask(answer_request(document, question, language))  # type: ignore[arg-type]
        sentence = said.split(": ", 1)[1] if task == "extraction" else said
        assert sentence
        assert any(part in flat for part in (sentence, sentence[:20]))


def test_the_same_request_gets_the_same_reply_and_another_seed_other_questions() -> None:
    assert questions(PROSE, "general") == questions(PROSE, "general")
    assert any(questions(PROSE, "general") != questions(PROSE, "general", seed=seed) for seed in range(2, 6))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_register_entries_are_asked_for_and_answered_exactly(language: str) -> None:
    facts = draw_facts(np.random.default_rng(0), 4, split="train", language=language)  # type: ignore[arg-type]
    document = insert_facts(PROSE if language == "en" else ZH, facts, [0.1, 0.4, 0.6, 0.9])
    by_question = {fact.question: fact.sentence for fact in facts}
    asked = questions(document, "extraction", language)
    assert sorted(asked) == sorted(by_question)
    for question in asked:
        assert ask(answer_request(document, question, language)) == by_question[question]  # type: ignore[arg-type]
    for question in questions(document, "reasoning", language):
        found = find_facts(ask(answer_request(document, question, language)))  # type: ignore[arg-type]
        assert len(found) == 2
        assert set(found) <= set(facts)


def test_a_later_turn_is_answered_from_the_first_turns_document() -> None:
    facts = draw_facts(np.random.default_rng(0), 2, split="train")
    document = insert_facts(PROSE, facts, [0.3, 0.7])
    first = answer_request(document, facts[0].question, "en")
    said = ask(first, facts[0].sentence, follow_up_request(facts[1].question, "en"))
    assert said == facts[1].sentence


def test_a_question_of_ones_own_is_answered_by_the_closest_sentence() -> None:
    assert "1507" in ask(row_message(PROSE, "In which year was the harpsichord carried over the mountains?"))


def test_the_model_is_labelled_and_unknown_offline_names_are_refused() -> None:
    model = open_model("offline")
    (outcome,) = complete_all(model, [Request(messages=({"role": "user", "content": PROSE + "\n\nWhat?"},))])
    assert "stand-in" in model.name
    assert outcome.model == model.name
    with pytest.raises(ConfigError, match="no known form"):
        open_model("offline-gpt")
