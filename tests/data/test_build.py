"""A build fills its quota with accepted rows and accounts for everything else."""

import hashlib
import json
import re
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from longalign.base import progress
from longalign.config import DataSettings
from longalign.data import build_ask
from longalign.data.build import build
from longalign.data.source import read_rows
from longalign.errors import ConfigError, DataError, EndpointError, RunError
from longalign.llm.prompt import read_request
from tests.llm.chat_server import Answer, Body, ChatServer, stand_in
from tests.makers.text import prose


def settings(corpus: Path | str, tokenizer: Path, **changes: Any) -> DataSettings:
    values: dict[str, Any] = {
        "preset": "paper",
        "documents": (str(corpus),),
        "tokenizer": str(tokenizer),
        "rows": 10,
        "min_length_tokens": 100,
        "max_length_tokens": 8192,
        "max_new_tokens": 300,
    }
    return DataSettings(**(values | changes))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asks_questions(body: Body) -> bool:
    return "1: " in body["messages"][-1]["content"][-700:]


def test_rows_have_document_question_answer_evidence_and_their_origin(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    report = build(settings(corpus_dir, tokenizer_dir, rows=12), tmp_path / "rows.jsonl")
    rows = rows_of(tmp_path / "rows.jsonl")
    assert len(rows) == report["rows"] == 12
    assert len({row["id"] for row in rows}) == 12
    for row in rows:
        user, assistant = row["messages"]
        document, _, question = user["content"].rpartition("\n\n")
        assert row["document"] == hashlib.sha256(document.encode()).hexdigest()
        assert question
        assert assistant["content"].strip()
        assert row["model"].startswith("offline stand-in")
        assert row["task"] in ("general", "summary", "reasoning", "extraction")
        assert row["source"] in ("wikipedia", "wudao")
        assert 100 <= row["length_tokens"] <= 8192
        for evidence in row["evidence"]:
            assert document[evidence["start"] : evidence["end"]] == evidence["text"]
    assert [row["messages"] for row in read_rows(tmp_path / "rows.jsonl")] == [row["messages"] for row in rows]


def test_a_tenth_is_chinese_and_everything_is_counted(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    report = build(settings(corpus_dir, tokenizer_dir, rows=20), tmp_path / "rows.jsonl")
    rows = rows_of(tmp_path / "rows.jsonl")
    assert Counter(row["language"] for row in rows) == {"en": 18, "zh": 2} == report["by_language"]
    assert report["tried"] == report["rows"] + report["rejected"] == report["by_stage"]["tried"]
    assert report["accepted_share"] == pytest.approx(20 / report["tried"], abs=1e-4)
    assert sum(report["by_task"].values()) == sum(report["length_histogram"].values()) == 20
    assert report["complete"]
    assert report["tokens"] == sum(row["length_tokens"] for row in rows)
    assert sum(report["evidence_positions"].values()) == sum(len(row["evidence"]) for row in rows)


def test_the_same_build_again_does_nothing_and_other_settings_set_the_rows_aside(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    first = build(settings(corpus_dir, tokenizer_dir), out)
    before = out.stat().st_mtime_ns
    assert build(settings(corpus_dir, tokenizer_dir, concurrency=3), out) == first
    assert out.stat().st_mtime_ns == before
    moved = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-moved")) / out.name
    elsewhere = {"out": str(moved), "text": first["text"].replace(str(out), str(moved))}
    assert build(settings(corpus_dir, tokenizer_dir), moved) == first | elsewhere
    old = out.read_bytes()
    build(settings(corpus_dir, tokenizer_dir, seed=1), out)
    assert out.read_bytes() != old
    assert [path.read_bytes() for path in (tmp_path / "rows.work").rglob("rows.jsonl")] == [old]


def test_a_file_that_no_build_wrote_is_never_touched(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("mine\n")
    with pytest.raises(RunError, match="not written by"):
        build(settings(corpus_dir, tokenizer_dir), tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text() == "mine\n"


def test_an_endpoint_gives_the_same_rows_whatever_the_concurrency(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    found = []
    for concurrency in (1, 6):
        with ChatServer() as server:
            out = tmp_path / f"{concurrency}.jsonl"
            build(settings(corpus_dir, tokenizer_dir, llm=server.spec, concurrency=concurrency), out)
            found.append(out.read_bytes())
            assert len(server.bodies) == 20
            assert server.most_running <= concurrency
    assert found[0] == found[1]


def test_both_calls_share_the_document_as_their_prefix(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        build(settings(corpus_dir, tokenizer_dir, llm=server.spec, rows=4, concurrency=1), tmp_path / "rows.jsonl")
    for ask, answer in zip(server.bodies[::2], server.bodies[1::2], strict=True):
        document = read_request(ask["messages"][0]["content"]).document
        assert len(document) > 300
        assert answer["messages"][0]["content"].startswith(document + "\n\n")


def faulty(body: Body, times: int) -> Answer:
    """A sixth of the documents each: fails at first, is truncated, moderated, unnumbered, refused; the rest is fine."""
    document = read_request(body["messages"][0]["content"]).document
    kind = hashlib.sha256(document.encode()).digest()[0] % 6
    if kind == 0 and times == 1:
        return Answer(status=429 if asks_questions(body) else 500)
    if kind == 1 and not asks_questions(body):
        return Answer("The answer begins and", finish_reason="length")
    if kind == 2:
        return Answer("", finish_reason="content_filter")
    if kind == 3 and asks_questions(body):
        return Answer("Sure! What an interesting document.")
    if kind == 4 and not asks_questions(body):
        return Answer("I'm sorry, but I can't help with that.")
    return stand_in(body, times)


def test_the_quota_is_filled_with_accepted_rows_and_every_rejection_has_its_reason(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    with ChatServer(faulty) as server:
        report = build(settings(corpus_dir, tokenizer_dir, llm=server.spec, rows=14), tmp_path / "rows.jsonl")
    assert report["rows"] == 14
    assert report["tried"] == 14 + report["rejected"]
    rejected = rows_of(tmp_path / "rows.rejected.jsonl")
    assert Counter(row["reason"] for row in rejected if row["kind"] == "row") == report["rejected_by_reason"]
    assert set(report["rejected_by_reason"]) <= {
        "answer: truncated",
        "questions: moderated",
        "questions: no numbered list",
        "refused",
    }
    assert len(report["rejected_by_reason"]) >= 2
    texts = (tmp_path / "rows.jsonl").read_text()
    assert "The answer begins and" not in texts
    assert "sorry" not in texts


def test_several_turns_are_one_conversation_about_one_document(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    build(settings(corpus_dir, tokenizer_dir, turns=3, rows=5), tmp_path / "rows.jsonl")
    for row in rows_of(tmp_path / "rows.jsonl"):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * 3
        assert len({message["content"] for message in row["messages"]}) == 6
        assert all(len(message["content"]) < 400 for message in row["messages"][1:])
        assert {evidence["turn"] for evidence in row["evidence"]} == {0, 1, 2}


def test_what_is_known_without_the_document_is_left_out(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    remembered: dict[str, str] = {}

    def knows_half(body: Body, times: int) -> Answer:
        content = body["messages"][0]["content"]
        if "UNKNOWN" in content or "未知" in content:
            question = content.split("\n\n")[0]
            return Answer(remembered[question] if len(question) % 2 else "UNKNOWN")
        reply = stand_in(body, times)
        if not asks_questions(body):
            remembered[read_request(content).question] = reply.text  # type: ignore[union-attr]
        return reply

    with ChatServer(knows_half) as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec, closed_book=True, concurrency=1)
        report = build(chosen, tmp_path / "rows.jsonl")
    assert report["rejected_by_reason"].get("known without the document", 0) > 0
    for row in rows_of(tmp_path / "rows.jsonl"):
        assert len(row["messages"][0]["content"].rpartition("\n\n")[2]) % 2 == 0


def test_a_cap_on_money_ends_with_the_rows_there_are_and_more_money_goes_on(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    price = (100.0, 1000.0)
    with ChatServer() as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec, price_usd_per_million=price, concurrency=2)
        capped = build(chosen.model_copy(update={"max_cost_usd": 1.5}), out)
        assert 0 < capped["rows"] < 10
        assert capped["spend"]["spent_usd"] <= 1.5
        assert "raise --max-cost-usd" in capped["notice"]
        whole = build(chosen.model_copy(update={"max_cost_usd": 100.0}), out)
        assert whole["rows"] == 10
        assert max(server.served.values()) == 1
        asked = {"prompt": 0, "new": 0}
        for body in server.bodies:
            asked["prompt"] += sum(len(message["content"].split()) for message in body["messages"])
        assert whole["spend"]["prompt_tokens"] == asked["prompt"]


def test_a_plan_spends_nothing_and_states_price_and_shortage(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    with ChatServer() as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec, rows=500, price_usd_per_million=(1.0, 2.0))
        plan = build(chosen, tmp_path / "rows.jsonl", plan_only=True)
        assert server.bodies == []
    assert (
        plan["plan"]["cost_usd_if_all_accepted"] < plan["plan"]["cost_usd"] < plan["plan"]["cost_usd_if_half_accepted"]
    )
    assert "if every answer is accepted" in plan["text"]
    assert "only 64 of 500 rows: 16 usable documents x at most 4 rows each" in plan["text"]
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_small_corpus_gives_what_it_can_and_says_why(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    chosen = settings(corpus_dir, tokenizer_dir, rows=60, max_rows_per_document=2)
    report = build(chosen, tmp_path / "rows.jsonl")
    assert report["rows"] == 32
    assert not report["complete"]
    assert "16 usable documents x at most 2 rows each" in report["notice"]
    assert "note: only 32 of 60 rows" in report["text"]


def test_without_a_minimum_shorter_documents_stand_in_and_the_report_says_so(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    report = build(settings(corpus_dir, tokenizer_dir, min_length_tokens=None), tmp_path / "rows.jsonl")
    assert report["rows"] == 10
    assert "below 8,192 tokens" in report["notice"]


def test_long_documents_are_cut_or_skipped(tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(prose(7, 400))
    report = build(
        settings(tmp_path / "book.txt", tokenizer_dir, rows=8, max_length_tokens=2048), tmp_path / "rows.jsonl"
    )
    assert report["corpus"]["cut_into_parts"] == 1
    assert report["rows"] == 8
    assert {row["title"].rpartition("(")[2][-2:] for row in rows_of(tmp_path / "rows.jsonl")} != set()
    with pytest.raises(DataError, match=r"none of 1 documents is usable \(too long: 1"):
        build(
            settings(tmp_path / "book.txt", tokenizer_dir, longer_documents="skip", max_length_tokens=2048),
            tmp_path / "other.jsonl",
        )


def test_repeats_and_evaluation_texts_are_left_out(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    original = (corpus_dir / "wikipedia_11.txt").read_text()
    (corpus_dir / "copy.md").write_text(original + "\n")
    (corpus_dir / "part.md").write_text("\n\n".join(original.split("\n\n")[5:12]))
    question = " ".join((corpus_dir / "wikipedia_05.txt").read_text().split()[20:60])
    (tmp_path / "test_cases.json").write_text(json.dumps([{"query": question, "answer": "short"}]))
    chosen = settings(corpus_dir, tokenizer_dir, decontaminate=(str(tmp_path / "test_cases.json"),))
    report = build(chosen, tmp_path / "rows.jsonl")
    assert report["corpus"]["dropped_by_reason"] == {
        "holds text of an evaluation": 1,
        "repeated exactly": 1,
        "repeated inside others": 1,
    }
    assert report["corpus"]["usable"] == 15


@pytest.mark.parametrize(
    ("out", "changes", "error", "words"),
    [
        ("rows.json", {}, ConfigError, "must be a .jsonl file"),
        ("rows.jsonl", {"documents": ("/no/such/place",)}, DataError, "no such file or folder"),
        ("rows.jsonl", {"documents": ()}, DataError, "no documents given"),
        ("rows.jsonl", {"min_length_tokens": 7600}, DataError, "the longest has"),
        ("rows.jsonl", {"llm": "openai:gpt"}, ConfigError, "MODEL@BASE_URL"),
        ("rows.jsonl", {"llm": "openai:m@http://127.0.0.1:9/v1"}, EndpointError, "cannot be reached"),
    ],
)
def test_mistakes_are_one_clear_line(
    out: str,
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
    corpus_dir: Path,
    tokenizer_dir: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=words) as raised:
        build(settings(corpus_dir, tokenizer_dir, **changes), tmp_path / out)
    assert len(str(raised.value).splitlines()) == 1


def test_a_model_that_gives_nothing_usable_is_an_error_with_the_reasons(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer(lambda body, times: Answer("No.")) as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec)
        reasons = r"none of the first 50 documents gave a row: questions: no numbered list \(50\)"
        with pytest.raises(DataError, match=reasons):
            build(chosen, tmp_path / "rows.jsonl")
        assert len(rows_of(tmp_path / "rows.rejected.jsonl")) == len(server.bodies) == 50
        assert capsys.readouterr().err.count("rejected (questions: no numbered list): reply 'No.'") == 2
        with pytest.raises(DataError, match=r"no row was accepted of 64 tried: questions: no numbered list \(64\)"):
            build(chosen.model_copy(update={"give_up_after": 0}), tmp_path / "rows.jsonl")
        assert len(server.bodies) == 64  # the first 50 are remembered
    assert len(rows_of(tmp_path / "rows.rejected.jsonl")) == 64


def test_one_silent_call_holds_up_no_other(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    """With two slots, all other calls are made while the first one is not answered; the rows stay the same."""
    others = threading.Event()

    def first_waits(body: Body, times: int) -> Answer:
        if len(server.bodies) == 1:
            assert others.wait(20)
        elif len(server.bodies) == 19:  # two for each of ten rows; one comes after the first
            others.set()
        return stand_in(body, times)

    with ChatServer(first_waits) as server:
        report = build(settings(corpus_dir, tokenizer_dir, llm=server.spec, concurrency=2), tmp_path / "late.jsonl")
    assert report["slots_busy_share"] > 0.8
    with ChatServer() as server:
        build(settings(corpus_dir, tokenizer_dir, llm=server.spec, concurrency=2), tmp_path / "even.jsonl")
    assert (tmp_path / "late.jsonl").read_bytes() == (tmp_path / "even.jsonl").read_bytes()


def test_the_live_tally_says_how_many_why_and_what_it_costs(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(build_ask, "COST_AFTER", 5)
    monkeypatch.setattr(build_ask, "FEW_AFTER", 5)
    monkeypatch.setattr(build_ask, "FEW_SHARE", 0.99)
    monkeypatch.setattr(build_ask, "SECONDS_BETWEEN_COSTS", 0.0)
    with ChatServer(faulty) as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec, rows=14, price_usd_per_million=(1.0, 2.0))
        build(chosen, tmp_path / "rows.jsonl")
    said = capsys.readouterr().err
    assert re.search(r"data: \d+/14 .*\(\d+ tried, \d+% accepted: refused \(\d+\)|no numbered list \(\d+\)", said)
    assert re.search(r"so far, about \$\d+\.\d\d in all\)", said)
    assert len(re.findall(r"warning: only \d+ of \d+ documents gave a row", said)) == 1
    assert not (tmp_path / "rows.work" / "rejected.jsonl").exists()
