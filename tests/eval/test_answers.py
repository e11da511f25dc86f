"""Items are answered once; failures are kept, told apart, and asked again only where that can help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import append_jsonl, read_jsonl
from longalign.errors import ModelError
from longalign.eval.answers import Item, Spend, ask, fixed_batches, passing_failures, spend
from longalign.llm.base import Failure, FailureKind, Outcome, Reply, Request


class Scripted:
    """A language model that follows a script: what to say to which text."""

    name = "scripted"

    def __init__(self, script: dict[str, Outcome | None], batched: bool = False) -> None:
        self.script, self.batched = script, batched
        self.asked: list[str] = []

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        for index in reversed(range(len(requests))):
            text = requests[index].messages[-1]["content"]
            self.asked.append(text)
            if outcome := self.script[text]:
                yield index, outcome


def item(text: str) -> Item:
    return Item(f"key {text}", ({"role": "user", "content": text},), 8)


def failure(kind: FailureKind, text: str = "") -> Failure:
    return Failure(kind=kind, message="why", text=text)


def test_answers_come_back_by_key_and_are_not_asked_twice(tmp_path: Path) -> None:
    model = Scripted({"a": Reply(text="A"), "b": Reply(text="B")})
    log = tmp_path / "answers.jsonl"
    for _ in range(2):
        got = ask(model, [item("a"), item("b")], log, label="t", batch_tokens=100)
        assert [(key, answer.text) for key, answer in got.items()] == [("key a", "A"), ("key b", "B")]
    assert sorted(model.asked) == ["a", "b"]
    assert len(read_jsonl(log)) == 2


def test_only_failures_that_may_pass_are_asked_again(tmp_path: Path) -> None:
    script: dict[str, Outcome | None] = {
        "down": failure("unavailable"),
        "poor": failure("over_budget"),
        "refused": failure("rejected"),
        "ok": Reply(text="fine"),
    }
    model, items = Scripted(script), [item(name) for name in script]
    first = ask(model, items, tmp_path / "a.jsonl", label="t", batch_tokens=100)
    assert passing_failures(first) == 2
    assert first["key refused"].failure == "rejected: why"
    model.asked.clear()
    script["down"] = Reply(text="up again")
    second = ask(model, items, tmp_path / "a.jsonl", label="t", batch_tokens=100)
    assert sorted(model.asked) == ["down", "poor"]
    assert second["key down"].text == "up again"
    assert passing_failures(second) == 1


def test_an_answer_cut_by_the_cap_is_still_the_answer(tmp_path: Path) -> None:
    model = Scripted({"a": failure("truncated", "half an ans")})
    got = ask(model, [item("a")], tmp_path / "a.jsonl", label="t", batch_tokens=100)["key a"]
    assert (got.text, got.failure, got.finish_reason) == ("half an ans", None, "length")


def test_thoughts_or_silence_in_place_of_an_answer_are_the_models_answer_and_half_a_reply_is_none(
    tmp_path: Path,
) -> None:
    kinds: tuple[FailureKind, ...] = ("thinking_truncated", "only_thinking", "empty", "incomplete", "prompt_cut")
    model = Scripted({kind: failure(kind) for kind in kinds})
    got = ask(model, [item(kind) for kind in kinds], tmp_path / "a.jsonl", label="t", batch_tokens=100)
    assert [got[f"key {kind}"].text for kind in kinds] == ["", "", "", None, None]
    assert got["key thinking_truncated"].finish_reason == "length"
    assert passing_failures(got) == 2


def test_a_model_that_forgets_a_question_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no outcome for 1 of 2"):
        ask(
            Scripted({"a": Reply(text="A"), "b": None}),
            [item("a"), item("b")],
            tmp_path / "a",
            label="t",
            batch_tokens=9,
        )


def test_unknown_costs_are_not_zero(tmp_path: Path) -> None:
    script: dict[str, Outcome | None] = {"a": Reply(text="A"), "b": Reply(text="B", prompt_tokens=3, cost_usd=0.5)}
    got = spend(list(ask(Scripted(script), [item("a"), item("b")], tmp_path / "a", label="t", batch_tokens=9).values()))
    assert got == Spend(calls=2, prompt_tokens=3, completion_tokens=None, cost_usd=0.5, calls_without_token_counts=1)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.randoms())
def test_batches_do_not_depend_on_order_or_on_what_is_answered(sizes: list[int], random: object) -> None:
    items = [Item(f"{n}", ({"role": "user", "content": "x" * size},), 8) for n, size in enumerate(sizes)]
    groups = fixed_batches(items, 100)
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fixed_batches(shuffled, 100) == groups
    assert sorted(i.key for group in groups for i in group) == sorted(i.key for i in items)
    assert all(len(group) == 1 or sum(i.characters for i in group) <= 300 for group in groups)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms())
def test_questions_about_one_long_document_are_asked_in_one_call(counts: list[int], random: object) -> None:
    items = [
        Item(f"{doc}/{n}", ({"role": "user", "content": f"{doc}" * (4000 + doc) + f" question {n}" * n},), 8)
        for doc, questions in enumerate(counts)
        for n in range(questions)
    ]
    random.shuffle(items)  # type: ignore[attr-defined]
    groups = fixed_batches(items, 1400)  # 4,200 characters: one document, and its questions beside it
    assert sorted([i.key[0] for i in group] for group in groups) == [[str(d)] * n for d, n in enumerate(counts)]


def test_a_half_finished_local_batch_is_run_whole_but_logged_once(tmp_path: Path) -> None:
    script: dict[str, Outcome | None] = {name: Reply(text=name.upper()) for name in ("aaa", "bb", "c")}
    items = [item(name) for name in script]
    log = tmp_path / "a.jsonl"
    ask(Scripted(script, batched=True), items, log, label="t", batch_tokens=100)
    rows = read_jsonl(log)
    log.unlink()
    append_jsonl(log, rows[0])
    model = Scripted(script, batched=True)
    ask(model, items, log, label="t", batch_tokens=100)
    assert sorted(model.asked) == ["aaa", "bb", "c"]
    assert sorted(row["key"] for row in read_jsonl(log)) == ["key aaa", "key bb", "key c"]
