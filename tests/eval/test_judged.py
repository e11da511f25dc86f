"""LongBench-Chat end to end: cut in the middle with room to answer, judged twice, nothing lost, nothing paid twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longalign.base.files import read_jsonl
from longalign.config import ChatSettings, EvalSettings
from longalign.errors import ConfigError, DataError
from longalign.eval.cases import document_rows, read_cases
from longalign.eval.evaluate import evaluate
from longalign.eval.judged import fit
from longalign.eval.subject import Subject
from longalign.eval.token_view import CharacterView, TokenizerView
from longalign.eval.validate import against_people, leave_one_out, validate_judge
from longalign.llm.open import open_model
from tests.eval.endpoint import serve
from tests.makers.text import filler


def cases_file(folder: Path, count: int = 6, sentences: int = 40) -> Path:
    rows = [
        {
            "idx": n,
            "prompt": f"START {filler(sentences, 100 * (n // 2))}\n\nWhat about {n}?",
            "query": f"What about {n}?",
            "answer": f"reference {n}",
        }
        for n in range(1, count + 1)
    ]
    path = folder / "test_cases.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def shots_file(folder: Path, count: int = 6) -> Path:
    shots = [[{"answer": f"shot {n} {k}", "score": k} for k in (2, 5, 9)] for n in range(1, count + 1)]
    path = folder / "few_shots.json"
    path.write_text(json.dumps(shots), encoding="utf-8")
    return path


def settings(model: str, judge: str, cases: Path, **changes: Any) -> EvalSettings:
    return EvalSettings(model=model, chat=ChatSettings(cases=(str(cases),), judge=judge, max_new_tokens=64, **changes))


def answer(body: dict[str, Any]) -> str:
    return "about " + body["messages"][-1]["content"].rsplit("What about ", 1)[1].rstrip("?")


def test_scores_are_means_of_two_ratings_with_everything_recorded(tmp_path: Path) -> None:
    ratings = {"1": (8, 10), "2": (1, 1), "3": (6, 7), "4": (10, 10), "5": (5, 5), "6": (3, 4)}
    seen: dict[str, int] = {}

    def judge(body: dict[str, Any]) -> str:
        number = re.findall(r"<answer>\nabout (\d+)\n", body["messages"][-1]["content"])[0]
        return f"Fine. [[{ratings[number][body['seed']]}]]"

    with serve(answer) as model, serve(judge) as judging:
        cases = cases_file(tmp_path)
        got = evaluate(settings(model.spec, judging.spec, cases, few_shots=str(shots_file(tmp_path))), tmp_path / "out")
        prompts = judging.prompts()
    means = [9, 1, 6.5, 10, 5, 3.5]
    assert got["overall"]["mean"] == pytest.approx(np.mean(means), abs=1e-6)
    assert got["overall"]["scale"] == [1, 10]
    assert got["overall"]["documents"] == 4  # questions 2 and 3, 4 and 5 ask about one document each
    assert got["overall"]["low"] < got["overall"]["mean"] < got["overall"]["high"]
    assert got["judge"]["verdicts"] == 12
    assert got["judge"]["unreadable"] == got["judge"]["failed"] == 0
    assert got["judge"]["reported_models"] == ["stand-in"]
    assert got["judge"]["spend"]["prompt_tokens"] > 0
    assert got["judge"]["spend"]["cost_usd"] is None  # no price was given: unknown, not zero
    assert len(got["judge"]["prompt_hash"]["chat"]) == 16
    assert len(prompts) == 12
    orders = {tuple(re.findall(r'rating="\[\[(\d)\]\]"', prompt)) for prompt in prompts}
    assert len(orders) > 2
    assert {tuple(sorted(order)) for order in orders} == {("2", "5", "9")}
    assert seen == {}


def test_an_unreadable_verdict_is_missing_and_bounds_the_mean(tmp_path: Path) -> None:
    def judge(body: dict[str, Any]) -> str | int:
        content = body["messages"][-1]["content"]
        if "<answer>\nabout 1\n" in content:
            return "I cannot say."
        if "<answer>\nabout 2\n" in content:
            return "[[6]]" if body["seed"] == 0 else "[[6]] or [[8]]"
        return 400 if "<answer>\nabout 3\n" in content else "[[4]]"

    with serve(answer) as model, serve(judge) as judging:
        got = evaluate(settings(model.spec, judging.spec, cases_file(tmp_path)), tmp_path / "out")
    overall = got["overall"]
    assert (overall["questions"], overall["scored"], overall["unscored"], overall["failed"]) == (6, 4, 2, 0)
    assert overall["mean"] == pytest.approx((6 + 4 + 4 + 4) / 4)
    share = [(np.mean(pair) - 1) / 9 * 100 for pair in ((1, 1), (6, 1), (1, 1), (4, 4), (4, 4), (4, 4))]
    assert overall["worst_share"] == pytest.approx(np.mean(share), abs=1e-3)
    assert (got["judge"]["unreadable"], got["judge"]["failed"]) == (3, 2)
    rows = read_jsonl(tmp_path / "out" / "scores.jsonl")
    assert [row["ratings"] for row in rows][:3] == [[None, None], [6, None], [None, None]]
    assert rows[0]["score"] is None
    assert rows[1]["score"] == 6


def test_a_question_without_an_answer_is_not_judged(tmp_path: Path) -> None:
    def model_answer(body: dict[str, Any]) -> str | int:
        return 400 if answer(body) == "about 4" else answer(body)

    with serve(model_answer) as model, serve(lambda body: "[[5]]") as judging:
        got = evaluate(settings(model.spec, judging.spec, cases_file(tmp_path)), tmp_path / "out")
        assert len(judging.seen) == 10
    assert (got["overall"]["failed"], got["overall"]["scored"], got["overall"]["unscored"]) == (1, 5, 0)


def test_an_interrupted_run_goes_on_without_paying_again(tmp_path: Path) -> None:
    with serve(answer) as model, serve(lambda body: f"[[{5 + body['seed']}]]") as judging:
        wanted = settings(model.spec, judging.spec, cases_file(tmp_path))
        whole = evaluate(wanted, tmp_path / "out")
        (tmp_path / "out" / "stage.json").unlink()
        for name in ("answers.jsonl", "verdicts.jsonl"):
            log = (tmp_path / "out" / name).read_bytes()
            (tmp_path / "out" / name).write_bytes(log[: len(log) // 2])
        asked = len(model.seen) + len(judging.seen)
        again = evaluate(wanted, tmp_path / "out")
        assert len(model.seen) + len(judging.seen) == asked  # what the torn log lost is in the ledger
    assert again == whole


def test_answers_and_verdicts_keep_their_newlines(tmp_path: Path) -> None:
    with serve(lambda body: "one\n\ntwo") as model, serve(lambda body: "[[5]]") as judging:
        evaluate(settings(model.spec, judging.spec, cases_file(tmp_path, count=1)), tmp_path / "out")
        assert "<answer>\none\n\ntwo\n</answer>" in judging.prompts()[0]


def test_long_inputs_lose_their_middle_and_leave_room_for_the_answer(tmp_path: Path, tokenizers: Any) -> None:
    view = TokenizerView(tokenizers("bytes"))
    subject = Subject(open_model("offline"), view, 600, 1000)
    prompt = f"START {filler(200)}\n\nWhat about it?"
    cut, lost = fit(prompt, subject, ChatSettings(max_new_tokens=100))
    count = view.count(view.render([{"role": "user", "content": cut}]))
    assert 500 - 12 <= count <= 500
    assert cut.startswith("START ")
    assert cut.endswith("What about it?")
    assert lost > 1000
    same, none = fit("short", subject, ChatSettings(max_new_tokens=100))
    assert (same, none) == ("short", 0)
    with pytest.raises(ConfigError, match="600 tokens leaves no room"):
        fit(prompt, subject, ChatSettings(max_new_tokens=600))
    whole, none = fit(prompt, Subject(open_model("offline"), CharacterView(), None, 1000), ChatSettings())
    assert (whole, none) == (prompt, 0)


def test_built_in_cases_with_the_offline_judge_need_no_network(documents: Path, tmp_path: Path) -> None:
    part = ChatSettings(questions=5, case_tokens=300, documents=(str(documents),))
    got = evaluate(EvalSettings(model="offline", chat=part), tmp_path)
    assert got["overall"]["questions"] == 5
    assert got["overall"]["mean"] > 5  # it made the references itself
    assert "offline" in got["judge"]["model"]
    assert "offline stand-in" in got["cases"]
    assert "offline judge" in got["text"]


def test_summaries_and_questions_are_judged_on_their_own_scales(tmp_path: Path) -> None:
    rows = [
        {"input": "Who?", "context": "Text.", "answers": ["Ann"], "dataset": "hotpotqa", "_id": "q"},
        {"input": "", "context": "Text.", "answers": ["Sum"], "dataset": "gov_report", "_id": "s"},
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with serve(lambda body: "x") as model, serve(lambda body: "[[3]]") as judging:
        got = evaluate(settings(model.spec, judging.spec, path), tmp_path / "out")
    assert got["by_dataset"]["hotpotqa"]["share"] == 100
    assert got["by_dataset"]["gov_report"]["share"] == 50
    assert got["overall"]["mean"] is None
    assert got["overall"]["share"] == 75


def test_the_judge_is_tested_on_answers_that_people_scored(tmp_path: Path) -> None:
    cases, shots = cases_file(tmp_path), shots_file(tmp_path)

    def judge(body: dict[str, Any]) -> str:
        content = body["messages"][-1]["content"]
        shown = re.findall(r'rating="\[\[(\d)\]\]"', content)
        (human,) = re.findall(r"<answer>\nshot \d+ (\d)\n", content)
        assert human not in shown  # the one to judge is left out of the examples
        assert len(shown) == 2
        return "none" if "shot 6 2" in content.rsplit("<answer>", 1)[1] else f"[[{min(10, int(human) + 1)}]]"

    part = ChatSettings(cases=(str(cases),), few_shots=str(shots), scorings=1)
    with serve(judge) as judging:
        got = validate_judge(part.model_copy(update={"judge": judging.spec}), tmp_path / "out")
    assert (got["answers"], got["unscored"], got["n"]) == (18, 1, 17)
    assert got["spearman"] == pytest.approx(1)
    assert got["kendall"] == pytest.approx(1)
    assert got["mean_excess"] == pytest.approx(1)
    assert len(leave_one_out(read_cases([cases], document_rows(shots)))) == 18


def test_scores_are_compared_with_peoples(tmp_path: Path) -> None:
    with serve(answer) as model, serve(lambda body: f"[[{5 + body['seed']}]]") as judging:
        evaluate(settings(model.spec, judging.spec, cases_file(tmp_path)), tmp_path / "out")
    people = tmp_path / "people.jsonl"
    people.write_text("\n".join(json.dumps({"idx": n, "score": n}) for n in (1, 2, 3, 9)))
    got = against_people(tmp_path / "out", people)
    assert (got["matched"], got["of"], got["spearman"]) == (3, 4, None)  # the judge said 5.5 to all
    assert got["mean_distance"] == pytest.approx(3.5)
    people.write_text(json.dumps({"idx": 99, "score": 1}))
    with pytest.raises(DataError, match="none of its keys"):
        against_people(tmp_path / "out", people)
