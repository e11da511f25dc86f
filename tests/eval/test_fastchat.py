"""MT-Bench judged as FastChat does it: its prompts by name, its references by category, its reading of verdicts.

The templates here have the form of FastChat's file and words of our own; its facts are in fastchat.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.config import ChatSettings, EvalSettings
from longalign.errors import ConfigError, DataError, LongAlignError
from longalign.eval.evaluate import evaluate
from longalign.eval.fastchat import RATING, RATING_BACKUP
from tests.llm.chat_server import Answer, Body, ChatServer

ONE, TWO = "Q {question} A {answer}", "Q1 {question_1} A1 {answer_1} Q2 {question_2} A2 {answer_2}"
TEMPLATES = {
    "pair-v2": "{question} {answer_a} {answer_b}",
    "single-v1": ONE,
    "single-math-v1": f"{ONE} R {{ref_answer_1}}",
    "single-v1-multi-turn": TWO,
    "single-math-v1-multi-turn": f"{TWO} R1 {{ref_answer_1}} R2 {{ref_answer_2}}",
}
CATEGORIES = ("writing", "math", "reasoning", "coding", "extraction", "stem", "roleplay", "humanities")


def prompts_file(folder: Path, templates: dict[str, str] = TEMPLATES) -> Path:
    rows = [
        {"name": name, "system_prompt": f"System {name}.", "prompt_template": text, "output_format": "[[rating]]"}
        for name, text in templates.items()
    ]
    path = folder / "judge_prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(folder: Path, model: str, judge: str, **changes: Any) -> EvalSettings:
    questions = [
        {"question_id": 81 + n, "category": name, "turns": [f"{name} one", f"{name} two"], "reference": ["own", "own"]}
        for n, name in enumerate(CATEGORIES)
    ]
    references = [
        {"question_id": 81 + n, "choices": [{"turns": [f"ref {name} one", f"ref {name} two"]}]}
        for n, name in enumerate(CATEGORIES)
        if name in ("math", "reasoning", "coding")
    ]
    for name, rows in (("question", questions), ("gpt-4", references)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    part = {
        "cases": (str(folder / "question.jsonl"),),
        "references": str(folder / "gpt-4.jsonl"),
        "protocol": "fastchat",
        "judge_prompts": str(prompts_file(folder)),
        "judge": judge,
        "scorings": 1,
    }
    return EvalSettings(model=model, mt_bench=ChatSettings.model_validate(part | changes))


def model(body: Body, times: int) -> Answer:
    return Answer(f"<{body['messages'][-1]['content']}>")


def test_prompts_references_and_request_are_fastchats(tmp_path: Path) -> None:
    with ChatServer(model) as answering, ChatServer(lambda body, times: Answer("Good. [[7]]")) as judging:
        got = evaluate(settings(tmp_path, answering.spec, judging.spec), tmp_path / "out")
        asked = {body["messages"][1]["content"]: body for body in judging.bodies}
    assert len(asked) == 16
    for name in CATEGORIES:
        math = "math-" if name in ("math", "reasoning", "coding") else ""
        first = f"Q {name} one A <{name} one>" + (f" R ref {name} one" if math else "")
        second = f"Q1 {name} one A1 <{name} one> Q2 {name} two A2 <{name} two>" + (
            f" R1 ref {name} one R2 ref {name} two" if math else ""
        )
        for prompt, turns in ((first, ""), (second, "-multi-turn")):
            body = asked[prompt]
            assert body["messages"][0] == {"role": "system", "content": f"System single-{math}v1{turns}."}
            assert (body["temperature"], body["max_tokens"]) == (0, 2048)
    assert (got["overall"]["mean"], got["judge"]["protocol"]) == (7, "fastchat")
    assert len(got["judge"]["prompt_hash"]["dialogue"]) == 16


@pytest.mark.parametrize(
    ("verdict", "rating"),
    [
        ("[[7]] and later [[9]]", 7),
        ("Rating: [[7.5]]", 7.5),
        ("Rating: [8]", 8),
        ("Sources [1] say so. [[6]]", 6),
        ("Rating: [[seven]]", None),
        ("[[11]]", None),
    ],
)
def test_verdicts_are_read_as_published_and_asked_for_once(verdict: str, rating: float | None, tmp_path: Path) -> None:
    with ChatServer(model) as answering, ChatServer(lambda body, times: Answer(verdict)) as judging:
        got = evaluate(settings(tmp_path, answering.spec, judging.spec), tmp_path / "out")
        assert len(judging.bodies) == 16
    assert {row["score"] for row in read_jsonl(tmp_path / "out" / "scores.jsonl")} == {rating}
    assert got["judge"]["unreadable"] == (0 if rating else 16)


def test_braces_in_questions_and_answers_stay_text(tmp_path: Path) -> None:
    with (
        ChatServer(lambda body, times: Answer("{question} {0} }{")) as answering,
        ChatServer(lambda body, times: Answer("[[5]]")) as judging,
    ):
        evaluate(settings(tmp_path, answering.spec, judging.spec), tmp_path / "out")
        assert all("{question} {0} }{" in body["messages"][1]["content"] for body in judging.bodies)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"judge_prompts": None}, "protocol fastchat needs FastChat's prompts: --judge_prompts FILE"),
        ({"judge_prompts": "none.jsonl"}, "none.jsonl"),
        ({"judge_prompt": "mine.md"}, "exclude each other"),
        ({"references": None}, r"question 82\.1 \(math\) has no reference answer; give --references FILE"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with ChatServer(model) as answering:
        with pytest.raises(LongAlignError, match=complaint):
            evaluate(settings(tmp_path, answering.spec, "offline", **changes), tmp_path / "out")
        assert answering.bodies == [], "before anything is paid for"


def test_files_that_are_not_fastchats_and_other_tasks_are_refused(tmp_path: Path) -> None:
    with ChatServer(model) as answering:
        wanted = settings(tmp_path, answering.spec, "offline")
        prompts_file(tmp_path, {"single-v1": ONE})
        with pytest.raises(DataError, match="has no prompt 'single-math-v1'"):
            evaluate(wanted, tmp_path / "out")
        prompts_file(tmp_path, TEMPLATES | {"single-v1": "{unheard_of}"})
        with pytest.raises(DataError, match=r"prompt `single-v1` has a slot that cannot be filled \('unheard_of'\)"):
            evaluate(wanted, tmp_path / "out")
        prompts_file(tmp_path)
        other = EvalSettings(model=answering.spec, longbench_chat=wanted.mt_bench)
        with pytest.raises(ConfigError, match="`fastchat` is for mt_bench only"):
            evaluate(other, tmp_path / "other")


def test_the_patterns_are_the_published_ones() -> None:
    assert (RATING.pattern, RATING_BACKUP.pattern) == (r"\[\[(\d+\.?\d*)\]\]", r"\[(\d+\.?\d*)\]")
