"""MT-Bench's two turns: the model's own first answer stands before the second question, and the judge reads both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.config import ChatSettings, EvalSettings
from longalign.errors import DataError, LongAlignError
from longalign.eval.compare import compare
from longalign.eval.evaluate import evaluate
from longalign.eval.longbench import LongBench
from longalign.eval.mt_bench import MTBench
from longalign.report.page import report
from tests.eval.endpoint import serve

CATEGORIES = ("writing", "math", "writing", "math")


def questions(folder: Path) -> Path:
    rows = [
        {"question_id": n, "category": category, "turns": [f"First {n}?", f"Second {n}?"]}
        | ({"reference": [f"ref {n} a", f"ref {n} b"]} if category == "math" else {})
        for n, category in enumerate(CATEGORIES, start=1)
    ]
    path = folder / "question.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(model: str, judge: str, folder: Path, label: str = "m") -> EvalSettings:
    part = ChatSettings(cases=(str(questions(folder)),), judge=judge, max_new_tokens=32)
    return EvalSettings(model=model, label=label, mt_bench=part)


def answer(body: dict[str, Any]) -> str:
    return f"my answer to <{body['messages'][-1]['content']}>"


def rate(body: dict[str, Any]) -> str:
    """First turns 8; second turns 4, but 6 where there is a reference."""
    prompt = body["messages"][-1]["content"]
    if "my answer to <First" in prompt.split("<answer>")[1]:
        return "[[8]]"
    return "[[6]]" if "<reference>" in prompt else "[[4]]"


def test_the_second_turn_is_asked_after_the_models_own_first_answer(tmp_path: Path) -> None:
    with serve(answer) as model, serve(rate) as judging:
        got = evaluate(settings(model.spec, judging.spec, tmp_path), tmp_path / "out")
        asked = [body["messages"] for body in model.seen]
        judged = judging.prompts()
    firsts, seconds = [m for m in asked if len(m) == 1], [m for m in asked if len(m) == 3]
    assert len(firsts) == len(seconds) == 4
    for user, assistant, again in seconds:
        number = user["content"].removeprefix("First ")
        assert assistant == {"role": "assistant", "content": f"my answer to <First {number}>"}
        assert again == {"role": "user", "content": f"Second {number}"}
    of_second = [p for p in judged if "my answer to <Second" in p.split("<answer>")[1]]
    assert len(of_second) == 8  # 4 questions, scored twice
    for prompt in of_second:
        number = re.findall(r"my answer to <Second (\d)\?>", prompt)[0]
        shown = prompt.split("<question>\n")[1].split("\n</question>")[0]
        assert shown == (
            f"Person: First {number}?\n\nAssistant: my answer to <First {number}?>\n\nPerson: Second {number}?"
        )
        assert (f"<reference>\nref {number} b\n" in prompt) == (CATEGORIES[int(number) - 1] == "math")
        assert "{{" not in prompt
    assert got["overall"]["mean"] == pytest.approx((4 * 8 + 2 * 4 + 2 * 6) / 8)
    assert got["overall"]["documents"] == 4  # the two turns of a conversation are not independent
    assert {name: row["mean"] for name, row in got["by_dataset"].items()} == {"turn 1": 8, "turn 2": 5}
    assert {name: row["mean"] for name, row in got["by_category"].items()} == {"writing": 6, "math": 7}
    assert "mt_bench score of m: 6.500" in got["text"]


def test_a_turn_after_a_failed_one_is_counted_as_failed_and_not_asked(tmp_path: Path) -> None:
    def model_answer(body: dict[str, Any]) -> str | int:
        return 400 if body["messages"][-1]["content"] == "First 2?" else answer(body)

    with serve(model_answer) as model, serve(rate) as judging:
        got = evaluate(settings(model.spec, judging.spec, tmp_path), tmp_path / "out")
        assert not [b for b in model.seen if b["messages"][-1]["content"] == "Second 2?"]
    assert (got["overall"]["questions"], got["overall"]["failed"], got["overall"]["scored"]) == (8, 2, 6)
    (row,) = [r for r in read_jsonl(tmp_path / "out" / "scores.jsonl") if r["key"] == "2.2"]
    assert row["failure"].startswith("not asked: the turn before has no answer (rejected:")


def test_a_kill_between_the_turns_changes_nothing(tmp_path: Path) -> None:
    with serve(answer) as model, serve(rate) as judging:
        wanted = settings(model.spec, judging.spec, tmp_path)
        whole = evaluate(wanted, tmp_path / "whole")
        log = (tmp_path / "whole" / "answers.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / "cut").mkdir()
        (tmp_path / "cut" / "answers.jsonl").write_text("".join(log[:5]), encoding="utf-8")
        before = len(model.seen)
        again = evaluate(wanted, tmp_path / "cut")
        assert len(model.seen) - before == 3
    assert again["overall"] == whole["overall"]


def test_a_local_model_answers_both_turns(tmp_path: Path, tiny_model: Path) -> None:
    got = evaluate(settings(str(tiny_model), "offline", tmp_path), tmp_path / "out")
    assert got["overall"]["failed"] == 0
    assert got["judge"]["failed"] == 4 * 2  # the offline judge compares with a reference; half of the turns have none
    assert got["overall"]["unscored"] == 4


def test_the_report_shows_turns_beside_the_papers_table_and_compare_pairs_them(tmp_path: Path) -> None:
    with serve(answer) as model, serve(rate) as judging:
        for label in ("a", "b"):
            evaluate(settings(model.spec, judging.spec, tmp_path, label), tmp_path / label)
    report([tmp_path], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "MT-Bench&#39;s turns" in page
    ours = page.split("Our models in the same columns")[1].split("</table>")[0]
    cells = re.findall(r'<td class="number">(.*?)</td>', ours)
    assert re.fullmatch(r"6\.50<small>8 of question\.jsonl, by stand-in</small>", cells[4])
    assert len(set(cells[:4] + cells[5:9])) == 1  # what was not measured stays empty
    text = compare(tmp_path / "a", tmp_path / "b")["text"]
    assert "dataset turn 2: 5.00 vs 5.00" in text


def test_a_turn_without_room_in_the_window_is_counted_as_failed(tmp_path: Path) -> None:
    def long_winded(body: dict[str, Any]) -> str:
        return "word " * 400 if body["messages"][-1]["content"] == "First 3?" else "short"

    with serve(long_winded) as model, serve(lambda body: "[[5]]") as judging:
        wanted = settings(model.spec, judging.spec, tmp_path)
        assert wanted.mt_bench is not None
        part = wanted.mt_bench.model_copy(update={"window": 200})
        got = evaluate(wanted.model_copy(update={"mt_bench": part}), tmp_path / "out")
    assert (got["overall"]["questions"], got["overall"]["failed"], got["overall"]["scored"]) == (8, 1, 7)
    (row,) = [r for r in read_jsonl(tmp_path / "out" / "scores.jsonl") if r["answer"] is None]
    assert (row["key"], row["failure"]) == ("3.2", "not asked: the conversation so far fills the window")
    report([tmp_path / "out"], tmp_path / "page.html")
    ours = (tmp_path / "page.html").read_text(encoding="utf-8").split("Our models in the same columns")[1]
    assert '<td class="number">5.00*<small>7 of question.jsonl, by ' in ours  # a star: one question has no score


def test_a_judge_that_fixes_its_temperature_is_not_said_to_be_at_zero(tmp_path: Path) -> None:
    def choosy(body: dict[str, Any]) -> str | int:
        return 400 if "temperature" in body else "[[7]]"

    with serve(answer) as model, serve(choosy, complaint="temperature is not supported") as judging:
        got = evaluate(settings(model.spec, judging.spec, tmp_path), tmp_path / "out")
    assert got["judge"]["temperature"] is None
    assert got["overall"]["mean"] == 7
    report([tmp_path / "out"], tmp_path / "page.html")
    assert "at a temperature of its own" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_files_of_another_part_are_refused(tmp_path: Path) -> None:
    file = str(questions(tmp_path))
    with pytest.raises(DataError, match="has `turns`, as MT-Bench's questions"):
        LongBench(ChatSettings(cases=(file,))).cases()
    other = tmp_path / "c.json"
    other.write_text(json.dumps([{"idx": 1, "prompt": "T.\n\nQ?", "query": "Q?", "answer": "A."}]), encoding="utf-8")
    with pytest.raises(DataError, match="case 1 has no `turns`"):
        MTBench(ChatSettings(cases=(str(other),))).cases()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"judge": "openai:gpt-4o@https://api.openai.com/v1"}, "OPENAI_API_KEY is not set"),
        ({"judge": "gpt-4o"}, "no such model directory; endpoints are written"),
        ({"judge_prompt": "PROMPT"}, "a judge prompt needs"),
    ],
)
def test_a_judge_that_cannot_be_used_is_found_before_any_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], complaint: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "PROMPT").write_text("no slots", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with serve(answer) as model:
        wanted = settings(model.spec, "offline", tmp_path)
        assert wanted.mt_bench is not None
        part = wanted.mt_bench.model_copy(update=changes)
        with pytest.raises(LongAlignError, match=complaint):
            evaluate(wanted.model_copy(update={"mt_bench": part}), tmp_path / "out")
        assert model.seen == []
