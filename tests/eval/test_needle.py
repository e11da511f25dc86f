"""Needle retrieval: exact scores, results that survive kills, endpoints and local models alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import random_for, read_jsonl
from longalign.bundled.register import Fact, draw_facts, find_facts, split_of
from longalign.config import EvalSettings, NeedleSettings
from longalign.errors import ConfigError
from longalign.eval.evaluate import evaluate
from longalign.eval.forced import token_shares
from longalign.eval.needle import depth_grid
from longalign.eval.needle_forms import NeedleScore, of_register
from longalign.eval.needle_forms import score_needle as score_of
from longalign.eval.registry import find_task
from longalign.eval.token_view import TokenizerView
from tests.eval.endpoint import serve


def score_needle(answer: str, fact: Fact, others: Sequence[Fact] = ()) -> NeedleScore:
    return score_of(answer, of_register(fact), [of_register(other) for other in others])


FACT = Fact("amber crane", "copper tide")
OTHERS = (Fact("maple owl", "silver rope"),)


def say_the_right_entry(body: dict[str, Any]) -> str:
    """A perfect reader."""
    content = body["messages"][-1]["content"]
    text, question = content.rsplit("\n\n", 1)
    return next(fact.sentence for fact in find_facts(text) if fact.name in question)


def needle_settings(model: str, documents: Path, **changes: Any) -> EvalSettings:
    part = {
        "form": "register",
        "lengths": (256, 512),
        "depths": 3,
        "needles": 2,
        "haystack": (str(documents),),
        "max_new_tokens": 16,
    }
    outer = {key: changes.pop(key) for key in ("tokenizer", "concurrency", "batch_tokens") if key in changes}
    return EvalSettings(model=model, needle=NeedleSettings(**{**part, **changes}), **outer)


@pytest.mark.parametrize(
    ("answer", "name", "value", "exact"),
    [
        ("Register entry: amber crane copper tide.", True, True, True),
        ("register entry: AMBER CRANE copper tide", True, True, True),
        ("copper tide", False, True, False),
        ("The register holds copper tide for amber crane.", True, True, False),
        ("Register entry: amber crane silver rope.", True, False, False),
        ("amber crane copper tide, maple owl silver rope", True, False, False),  # listing everything is no retrieval
        ("amber copper crane tide", False, False, False),
        ("coppertide", False, False, False),
        ("", False, False, False),
    ],
)
def test_name_and_value_are_scored_apart(answer: str, name: bool, value: bool, exact: bool) -> None:
    got = score_needle(answer, FACT, OTHERS)
    assert (got.name, got.value, got.exact) == (name, value, exact)


def test_word_shares_say_which_word_was_lost() -> None:
    got = score_needle("Register entry: amber owl copper tide.", FACT, OTHERS)
    assert (got.name_words, got.value_words) == (0.5, 1.0)
    assert not got.name
    assert got.value


def test_chinese_answers_may_leave_out_spaces() -> None:
    fact = Fact("松树 河流", "石头 月亮", "zh")
    assert score_needle("登记条目：松树河流石头月亮。", fact).value
    assert score_needle(fact.sentence, fact).exact


@given(st.integers(0, 5000), st.sampled_from(["en", "zh"]))
def test_the_right_answer_scores_and_any_other_entry_does_not(seed: int, language: Any) -> None:
    needle_fact, *others = draw_facts(random_for(seed, "f"), 4, split="heldout", language=language)
    assert score_needle(needle_fact.sentence, needle_fact, others).exact
    assert score_needle(needle_fact.sentence, needle_fact, others).value
    for other in others:
        got = score_needle(other.sentence, needle_fact, others)
        assert not got.value
        assert not got.name


def test_depths_run_from_start_to_end() -> None:
    assert depth_grid(5) == [0, 0.25, 0.5, 0.75, 1]
    assert depth_grid(1) == [0.5]


def test_a_perfect_reader_behind_an_endpoint_scores_one(documents: Path, tmp_path: Path) -> None:
    with serve(say_the_right_entry) as endpoint:
        got = evaluate(needle_settings(endpoint.spec, documents), tmp_path)
        assert got["overall"]["accuracy"] == 1.0
        assert got["overall"]["exact_accuracy"] == 1.0
        assert set(got["cells"]) == {"256", "512"}
        assert set(got["cells"]["256"]) == {"0", "0.5", "1"}
        assert got["cells"]["256"]["0"]["questions"] == 2
        assert 0 < got["cells"]["256"]["0"]["low"] < 1
        assert "estimate" in got["length_unit"]
        reported = got["by_length"]["512"]["reported_tokens"]
        assert reported["min"] > 0  # what the endpoint itself counted stands beside the estimate
        asked = len(endpoint.seen)
        assert asked == 12
        assert all(body["temperature"] == 0 for body in endpoint.seen)
        assert evaluate(needle_settings(endpoint.spec, documents), tmp_path) == got
        assert len(endpoint.seen) == asked
    assert json.loads((tmp_path / "results.json").read_text())["overall"] == got["overall"]


def test_needles_are_held_out_and_differ_between_cells(documents: Path, tmp_path: Path) -> None:
    with serve(say_the_right_entry) as endpoint:
        evaluate(needle_settings(endpoint.spec, documents), tmp_path)
    rows = read_jsonl(tmp_path / "scores.jsonl")
    names = [fact.name for row in rows for fact in find_facts(row["expected"])]
    values = [fact.value for row in rows for fact in find_facts(row["expected"])]
    assert len(set(names)) == len(names) == 12
    assert {split_of(pair) for pair in names + values} == {"heldout"}


def test_adding_lengths_does_not_change_other_questions(documents: Path, tmp_path: Path) -> None:
    with serve(say_the_right_entry) as endpoint:
        evaluate(needle_settings(endpoint.spec, documents, lengths=(512,)), tmp_path / "one")
        first = {body["messages"][-1]["content"] for body in endpoint.seen}
        endpoint.seen.clear()
        evaluate(needle_settings(endpoint.spec, documents, lengths=(256, 512)), tmp_path / "two")
        second = {body["messages"][-1]["content"] for body in endpoint.seen}
    assert first < second


def test_refused_questions_are_counted_and_bound_the_result(documents: Path, tmp_path: Path) -> None:
    def refuse_long(body: dict[str, Any]) -> str | int:
        return 400 if len(body["messages"][-1]["content"]) > 1500 else say_the_right_entry(body)

    with serve(refuse_long) as endpoint:
        got = evaluate(needle_settings(endpoint.spec, documents), tmp_path)
    short, long = got["by_length"]["256"], got["by_length"]["512"]
    assert (short["failed"], short["accuracy"]) == (0, 1.0)
    assert (long["failed"], long["scored"], long["accuracy"]) == (6, 0, None)
    assert (got["overall"]["worst"], got["overall"]["best"], got["overall"]["accuracy"]) == (0.5, 1.0, 1.0)
    assert "6 of 12 questions have no answer" in got["notes"][0]
    rows = read_jsonl(tmp_path / "scores.jsonl")
    assert sum(row["score"] is None and "HTTP 400" in row["failure"] for row in rows) == 6
    assert "nothing scored" in "\n".join(find_task("needle").lines(got))


def test_a_local_model_is_asked_beyond_its_window_and_that_is_said(
    tiny_model: Path, documents: Path, tmp_path: Path
) -> None:
    got = evaluate(needle_settings(str(tiny_model), documents, max_new_tokens=4), tmp_path)
    assert got["length_unit"] == "tokens"
    assert got["model_window_tokens"] == 256
    assert got["by_length"]["512"]["beyond_window"]
    assert not got["by_length"]["256"]["beyond_window"]
    assert "512 exceed the model's window of 256" in got["notes"][0]
    rows = read_jsonl(tmp_path / "scores.jsonl")
    assert all(row["prompt_tokens"] == row["reported_prompt_tokens"] for row in rows)  # counted as the model saw them
    assert all(row["length"] - 12 <= row["prompt_tokens"] <= row["length"] for row in rows)


def test_a_local_run_cut_anywhere_ends_with_the_same_results(tiny_model: Path, documents: Path, tmp_path: Path) -> None:
    settings = needle_settings(str(tiny_model), documents, max_new_tokens=6, batch_tokens=1200)
    whole = evaluate(settings, tmp_path / "whole")
    log = (tmp_path / "whole" / "answers.jsonl").read_bytes()
    for kept in (0.2, 0.55, 0.9):
        out = tmp_path / f"cut{kept}"
        out.mkdir()
        (out / "answers.jsonl").write_bytes(log[: int(kept * len(log))])  # a torn last line, as a kill leaves it
        assert evaluate(settings, out) == whole
        assert (out / "scores.jsonl").read_bytes() == (tmp_path / "whole" / "scores.jsonl").read_bytes()


PROGRAM = """
import sys
from pathlib import Path
from longalign.config import EvalSettings
from longalign.eval.evaluate import evaluate
evaluate(EvalSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_kill_minus_nine_repeats_no_question(documents: Path, tmp_path: Path) -> None:
    def slowly(body: dict[str, Any]) -> str:
        time.sleep(0.05)
        return say_the_right_entry(body)

    with serve(slowly) as endpoint:
        settings = needle_settings(endpoint.spec, documents, concurrency=2, needles=4)
        command = [sys.executable, "-c", PROGRAM, settings.model_dump_json(), str(tmp_path / "killed")]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        while len(read_jsonl(tmp_path / "killed" / "answers.jsonl")) < 6 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        answered = len(read_jsonl(tmp_path / "killed" / "answers.jsonl"))
        assert 6 <= answered < 24
        time.sleep(0.2)
        got = evaluate(settings, tmp_path / "killed")
        assert len(endpoint.seen) <= 24 + 2  # at most what was under way when the process died
        assert got == evaluate(settings, tmp_path / "whole")
    assert [row["key"] for row in read_jsonl(tmp_path / "killed" / "scores.jsonl")] == [
        row["key"] for row in read_jsonl(tmp_path / "whole" / "scores.jsonl")
    ]


def test_impossible_lengths_are_refused_before_any_call(documents: Path, tmp_path: Path) -> None:
    with serve(say_the_right_entry) as endpoint, pytest.raises(ConfigError, match="length 40 is too short"):
        evaluate(needle_settings(endpoint.spec, documents, lengths=(40,)), tmp_path)
    assert not endpoint.seen


def test_an_endpoint_with_a_tokenizer_is_counted_exactly(tiny_model: Path, documents: Path, tmp_path: Path) -> None:
    with serve(say_the_right_entry) as endpoint:
        got = evaluate(needle_settings(endpoint.spec, documents, tokenizer=str(tiny_model)), tmp_path)
    assert got["length_unit"] == "tokens"
    assert got["by_length"]["512"]["realised_tokens"]["max"] <= 512


def test_forced_tokens_agree_with_one_plain_forward_pass(tiny_model: Path, documents: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = needle_settings(str(tiny_model), documents, lengths=(256,), max_new_tokens=2, forced_tokens=True)
    got = evaluate(settings, tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    fact = draw_facts(random_for(0, "needle", "en", "256/0/0"), 4, split="heldout")[0]
    (row,) = [row for row in read_jsonl(tmp_path / "scores.jsonl") if row["key"] == "256/0/0"]
    assert row["expected"] == fact.sentence
    items = {body: token_shares(model, tokenizer, rendered(tokenizer, body), fact) for body in ("", "x y")}
    for body, shares in items.items():
        prompt = f"<|user|>{body}<|end|><|assistant|>"
        ids = tokenizer(prompt + fact.sentence, add_special_tokens=False)["input_ids"]
        best = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        pieces = [tokenizer.decode(ids[: n + 1])[len(tokenizer.decode(ids[:n])) :] for n in range(len(ids))]
        reached, right = -len(prompt), {"name": [], "value": []}
        begin = fact.sentence.index(fact.name)
        for place, piece in enumerate(pieces):
            middle = reached + len(piece) - 1  # the last character: leading spaces belong to the token before a word
            if begin <= middle < begin + len(fact.name):
                right["name"].append(best[place - 1] == ids[place])
            elif begin + len(fact.name) < middle < begin + len(fact.name) + 1 + len(fact.value):
                right["value"].append(best[place - 1] == ids[place])
            reached += len(piece)
        assert shares == pytest.approx(tuple(sum(part) / len(part) for part in right.values()))
    assert 0 <= got["overall"]["forced_value"] <= 1
    assert len(read_jsonl(tmp_path / "forced.jsonl")) == 6


def test_forced_tokens_of_a_model_that_knows_the_answer_are_all_right(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for language in ("en", "zh"):
        fact = draw_facts(random_for(1, "x"), 1, split="heldout", language=language)[0]
        assert token_shares(Knowing(), tokenizer, rendered(tokenizer, "q"), fact) == (1.0, 1.0)


def rendered(tokenizer: Any, question: str) -> str:
    """The prompt as the model reads it."""
    return TokenizerView(tokenizer).render([{"role": "user", "content": question}])


class Knowing:
    """Gives the token that comes next the highest logit."""

    device = "cpu"

    def __call__(self, ids_BT: Any, logits_to_keep: int) -> Any:
        import torch

        following = torch.cat([ids_BT[0, 1:], ids_BT[0, :1]])
        logits = torch.nn.functional.one_hot(following, 1000)[None, -logits_to_keep:].float()
        return SimpleNamespace(logits=logits)


def test_endpoints_have_no_forced_tokens(documents: Path, tmp_path: Path) -> None:
    with serve(say_the_right_entry) as endpoint, pytest.raises(ConfigError, match="local model"):
        evaluate(needle_settings(endpoint.spec, documents, forced_tokens=True), tmp_path)
