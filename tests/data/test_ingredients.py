"""Ingredients of `preset: best`: each adds what it promises, rejects what it should, and off it leaves no trace."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_test
from hypothesis import strategies as st

from longalign.config import DataSettings
from longalign.config.load import build as settings_from
from longalign.data.attempt import Attempt, Companion
from longalign.data.attempt_row import shown_text
from longalign.data.balance import imbalance, order_of
from longalign.data.build import build
from longalign.data.check_multi_hop import parts, places
from longalign.data.distractors import surround
from longalign.data.document_draw import DocumentSummary
from longalign.data.documents import Document, make_document
from longalign.data.instruct import make_row, row_of
from longalign.data.neighbours import Library, Neighbours
from longalign.data.question_variety import QuestionVariety
from longalign.data.verify import Evidence, Passages, position_balance
from longalign.errors import ConfigError, DataError
from longalign.llm.base import Failure, Request
from longalign.llm.check_prompts import read_check, write
from longalign.llm.team import CheckRequest
from tests.data.scripted import run, section_of
from tests.llm.chat_server import Answer, ChatServer, stand_in
from tests.makers.text import prose

FACTS = (
    "The mill at Harrow was built by Agnes Thorne in 1712.",
    "The bridge at Selby was built by Oswin Marlowe in 1764.",
)
QUESTION = "Who built the mill at Harrow, and who the bridge at Selby?"
BOTH = "Agnes Thorne built the mill at Harrow, and Oswin Marlowe built the bridge at Selby."


def paragraphs(seed: int, count: int) -> str:
    return prose(seed, count)


def two_places() -> Document:
    return make_document(
        "\n\n".join([FACTS[0], paragraphs(1, 30), FACTS[1], paragraphs(2, 30)]), origin="two", title="Two places"
    )


def reasoning(**changes: Any) -> DataSettings:
    plain = {"preset": "paper", "tasks": ("reasoning",), "questions_per_call": 1}
    return DataSettings(**{**plain, **changes})


def script(**replies: str) -> Any:
    """Asks QUESTION and answers BOTH; `replies`: by section of an ingredient's request."""

    def reply(request: Request) -> str | None:
        section = section_of(request)
        if section:
            return replies.get(section)
        if not request.shared_prefix_characters:
            return "UNKNOWN"  # a closed book
        return f"1: {QUESTION}" if "1: " in request.messages[-1]["content"][-900:] else BOTH

    return reply


# -- presets


def test_a_preset_gives_defaults_and_a_setting_that_is_given_counts() -> None:
    paper, best = DataSettings(preset="paper"), DataSettings()
    assert paper.ingredients == ()
    assert {"closed_book", "check_answers", "multi_hop", "balance_evidence", "unanswerable"} <= set(best.ingredients)
    assert DataSettings(preset="paper", closed_book=True).ingredients == ("closed_book",)
    assert "closed_book" not in DataSettings(closed_book=False).ingredients
    assert DataSettings(**paper.model_dump()) == paper
    with pytest.raises(ConfigError, match="preset"):
        settings_from(DataSettings, {"preset": "papre"}, "command line")


def test_settings_written_before_there_were_presets_are_the_papers() -> None:
    written = DataSettings(preset="paper", seed=3).model_dump()
    new = {name for name in written if name not in ("seed", "closed_book")} - {"turns", "tasks"}
    old = {name: value for name, value in written.items() if name not in new}
    assert DataSettings(**DataSettings.as_written(old)) == DataSettings(preset="paper", seed=3)


@pytest.mark.parametrize("closed_book", [False, True])
def test_with_every_ingredient_off_requests_and_row_are_plain(closed_book: bool) -> None:
    settings = DataSettings(preset="paper", closed_book=closed_book)
    attempt, asked = run(make_row(two_places(), 0, settings))
    assert not any(isinstance(request, CheckRequest) or section_of(request) for request in asked)
    assert len(asked) == 2 + closed_book
    assert row_of(attempt, settings) == row_of(attempt)
    assert not {"checks", "scores", "documents", "answerable", "hops", "ingredients"} & set(row_of(attempt))


# -- the checker


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ("supported: yes\ncomplete: yes\ncorrect: yes", None),
        ("**Supported**: Yes.\n**Complete**: Yes.\n**Correct**: Yes.", None),
        ("supported: no\ncomplete: yes\ncorrect: yes", "checker: not supported"),
        ('{"supported": true, "complete": false, "correct": true}', "checker: not complete"),
        ("supported：是\ncomplete：是\ncorrect：否", "checker: not correct"),
    ],
)
def test_a_verdict_keeps_or_rejects_an_answer(verdict: str, reason: str | None) -> None:
    settings = reasoning(check_answers=True)
    attempt, asked = run(make_row(two_places(), 0, settings), script(check=verdict))
    assert (attempt.rejection.reason if attempt.rejection else None) == reason
    assert isinstance(asked[-1], CheckRequest)
    if reason is None:
        row = row_of(attempt, settings)
        assert row["checks"] == [{"supported": True, "complete": True, "correct": True}]
        assert row["checked_by"] == "scripted"
        assert "scores" not in row


def test_the_checker_reads_the_document_first_so_that_a_prefix_cache_serves_it() -> None:
    document = two_places()
    _, asked = run(make_row(document, 0, reasoning(check_answers=True)), script())
    assert all(request.messages[0]["content"].startswith(f"{document.text}\n\n") for request in asked)
    assert {request.shared_prefix_characters for request in asked} == {len(document.text)}


@pytest.mark.parametrize("unchecked", ["keep", "reject"])
def test_a_verdict_that_cannot_be_read_is_asked_for_once_more_and_is_not_zero(unchecked: str) -> None:
    settings = reasoning(check_answers=True, scores=True, unchecked=unchecked)
    again, asked = run(
        make_row(two_places(), 0, settings),
        script(check_scores="Fine!", check_again="supported: yes\ncomplete: yes\ncorrect: yes\nhelpfulness: [[9]]"),
    )
    assert row_of(again, settings)["scores"] == [{"helpfulness": 9.0}]
    assert asked[-1].messages[-2] == {"role": "assistant", "content": "Fine!"}
    never, asked = run(make_row(two_places(), 0, settings), script(check_scores="Fine!", check_again="Fine!"))
    assert [section_of(request) for request in asked] == ["", "", "check_scores", "check_again"]
    if unchecked == "keep":
        assert row_of(never, settings)["scores"] == row_of(never, settings)["checks"] == [None]
    else:
        assert never.rejection is not None
        assert never.rejection.reason == "checker: no verdict"


def test_the_cap_on_money_ends_a_candidate_at_any_step() -> None:
    settings = DataSettings(tasks=("reasoning",), questions_per_call=1, unanswerable_share=0)
    _, whole = run(make_row(two_places(), 0, settings), script(part="UNKNOWN"))
    assert len(whole) >= 5
    for step in range(len(whole)):
        seen: list[Request] = []

        def capped(request: Request, step: int = step, seen: list[Request] = seen) -> Any:
            seen.append(request)
            if len(seen) > step:
                return Failure(kind="over_budget", message="cap")
            return script(part="UNKNOWN")(request)

        attempt, asked = run(make_row(two_places(), 0, settings), capped)
        assert attempt.over_budget
        assert attempt.rejection is not None
        assert attempt.rejection.reason == ("answer: over_budget" if step else "questions: over_budget")
        assert len(asked) == step + 1


# -- several steps


@pytest.mark.parametrize("how", ["relabel", "reject"])
def test_a_reasoning_question_that_one_part_answers_is_not_one(how: str) -> None:
    settings = reasoning(multi_hop=how)
    attempt, asked = run(make_row(two_places(), 0, settings), script(part=BOTH))
    assert [section_of(request) for request in asked] == ["", "", "part"]
    if how == "reject":
        assert attempt.rejection is not None
        assert attempt.rejection.reason == "answered by one part"
    else:
        row = row_of(attempt, settings)
        assert (row["task"], row["hops"]) == ("extraction", [1])


def test_one_that_no_part_answers_alone_is_kept_after_so_many_calls() -> None:
    settings = reasoning(multi_hop="reject", multi_hop_calls=2)
    document = two_places()
    attempt, asked = run(
        make_row(document, 0, settings), script(part="Agnes Thorne built the mill; the part says nothing of Selby.")
    )
    row = row_of(attempt, settings)
    assert (row["task"], row["hops"]) == ("reasoning", [2])
    shown = [read_check(request.messages[0]["content"]) for request in asked[2:]]
    assert len(shown) == 2
    assert {fact for fact in FACTS for part in shown if part and fact in part.before} == set(FACTS)
    assert all(part and len(part.before) <= len(document.text) / 4 and part.before in document.text for part in shown)


def test_evidence_in_one_place_settles_it_without_a_call() -> None:
    near = make_document("\n\n".join([paragraphs(1, 30), *FACTS, paragraphs(2, 30)]), origin="near")
    attempt, asked = run(make_row(near, 0, reasoning(multi_hop="relabel")), script())
    assert len(asked) == 2
    assert (attempt.task, attempt.turns[0].hops) == ("extraction", 1)


@given(st.integers(0, 40), st.integers(200, 3000))
def test_what_lies_within_half_a_part_is_whole_in_one_of_them(seed: int, size: int) -> None:
    passages = Passages(prose(seed, 12))
    found = parts(passages, size)
    for first, second in zip(passages.sentences, passages.sentences[1:], strict=False):
        if second.end - first.start <= size // 2:
            assert any(part.start <= first.start and second.end <= part.end for part in found)
    assert found[0].start == passages.sentences[0].start
    assert found[-1].end == passages.sentences[-1].end


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8), st.integers(20, 800))
def test_places_are_the_fewest_windows_that_hold_all_evidence(starts: list[int], size: int) -> None:
    spans = [Evidence("e", start, start + 10, 0.5) for start in starts]
    left, windows = sorted(set(starts)), 0
    while left:  # the oracle: a window begins at the first span that is not yet held
        windows += 1
        left = [start for start in left if start + 10 - left[0] > size]
    assert places(spans, size) == windows


# -- balance


def test_evidence_spreads_over_documents_although_most_questions_are_about_beginnings() -> None:
    def positions(balance: bool) -> list[float]:
        found = []
        for seed in range(120):
            names = [f"Xylo{seed}x{n}" for n in range(60)]
            text = "\n\n".join(f"The keeper of {name} counted the boats and went home in the rain." for name in names)
            document = make_document(text, origin="d")
            rng = np.random.default_rng(seed)
            places = [*rng.integers(0, 12, size=3), *rng.integers(0, 60, size=2)]
            asked = [f"What did the keeper of {names[place]} do?" for place in dict.fromkeys(places)]
            settings = DataSettings()
            attempt = Attempt(document, "general", "en")
            passages = Passages(text)
            first = order_of(asked, attempt, passages if balance else None, settings, 0, 0)[0]
            found.append(text.index(first.split("keeper of ")[1].split(" ")[0]) / len(text))
        return found

    random, even = (imbalance(list(position_balance(positions(balance)).values())) for balance in (False, True))
    assert random is not None
    assert even is not None
    assert random > 0.35
    assert even < 0.75 * random


@settings_of_test(max_examples=25)
@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 20))
def test_passes_over_one_list_take_different_questions(count: int, turns: int, seed: int) -> None:
    document = two_places()
    asked = [f"{sentence.text} Why?" for sentence in Passages(document.text).sentences[: count * 2 : 2]]
    asked = list(dict.fromkeys(asked))
    attempt = Attempt(document, "general", "en")
    settings = DataSettings(turns=turns, seed=seed)
    passages = Passages(document.text)
    taken = [order_of(asked, attempt, passages, settings, 0, used)[:turns] for used in range(len(asked) // turns)]
    flat = [question for some in taken for question in some]
    assert len(set(flat)) == len(flat) == len(asked) // turns * turns
    assert sorted(order_of(asked, attempt, passages, settings, 0, 0)) == sorted(asked)


# -- distractors


class Words:
    """Counts words for tokens."""

    def counts(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]


@settings_of_test(max_examples=25)
@given(st.integers(0, 30), st.integers(0, 9), st.integers(1500, 9000))
def test_evidence_stands_where_the_row_says_among_other_documents(seed: int, most: int, room: int) -> None:
    settings = reasoning(distractors=most, max_length_tokens=room, seed=seed)
    document = two_places()
    others = [make_document(prose(50 + n, 6), origin=f"o{n}", title=f"Other {n}") for n in range(12)]
    attempt, asked = run(make_row(document, 0, settings), script())
    attempt.length_tokens = len(document.text.split())
    before = attempt.length_tokens
    companions = tuple(Companion(other, len(other.text.split())) for other in others)
    surround(attempt, companions, settings, 0, Words())  # type: ignore[arg-type]
    row = row_of(attempt, settings)
    text, shift = shown_text(attempt)
    assert row["messages"][0]["content"] == f"{text}\n\n{QUESTION}"
    assert text[shift : shift + len(document.text)] == document.text
    assert row["evidence"]
    assert all(text[e["start"] : e["end"]] == e["text"] for e in row["evidence"])
    assert all(abs(e["position"] - (e["start"] + e["end"]) / 2 / len(text)) < 1e-3 for e in row["evidence"])
    assert len(attempt.companions) <= most
    assert len(asked) == 2  # distractors cost no call, and no request shows them
    if attempt.companions:
        assert attempt.length_tokens == len(text.split()) <= room
        assert row["documents"].index(document.id) == len(attempt.before)
    else:
        assert attempt.length_tokens == before


def test_a_document_that_answers_as_well_is_no_distractor() -> None:
    settings = reasoning(distractors=9, max_length_tokens=100_000)
    copy = make_document(" ".join(FACTS) + paragraphs(9, 3), origin="copy")
    for number in range(5):
        attempt, _ = run(make_row(two_places(), number, settings), script())
        surround(attempt, (Companion(copy, 100),), settings, number, Words())  # type: ignore[arg-type]
        assert attempt.companions == ()


def test_neighbours_are_about_the_same_thing_and_in_the_same_language() -> None:
    topics = ("telescope mirror astronomer", "harpsichord string maker", "barometer mercury weather")
    texts = {
        f"{t}{n}": " ".join(f"{word} {word}s" for word in topic.split()) + " " + prose(10 * t + n, 2)
        for t, topic in enumerate(topics)
        for n in range(4)
    }
    index = Neighbours((id, "en", text) for id, text in sorted(texts.items()))
    assert all({other[0] for other in index.of(id, text, 3)} == {id[0]} for id, text in texts.items())
    chosen = DataSettings(distractors=2, distractors_by="random", unanswerable_share=0)
    documents = {id: replace(make_document(text, origin=id), id=id) for id, text in texts.items()}
    summaries = [DocumentSummary(id, "zh" if id.endswith("0") else "en", 100) for id in documents]
    library = Library(summaries, documents.__getitem__, chosen)
    drawn = library.for_distractors(documents["01"], 0)
    assert len(drawn) >= 2
    assert {c.document.id[-1] for c in drawn} <= {"1", "2", "3"}
    assert "01" not in [c.document.id for c in drawn]
    assert drawn == Library(summaries[::-1], documents.__getitem__, chosen).for_distractors(documents["01"], 0)


# -- several documents


@given(st.integers(0, 12))
def test_questions_about_several_documents_see_and_quote_all_of_them(seed: int) -> None:
    halves = [make_document(f"{fact}\n\n{prose(n, 4)}", origin=f"o{n}", title=f"T{n}") for n, fact in enumerate(FACTS)]
    settings = reasoning(documents_per_row=2, seed=seed, check_answers=True, multi_hop="reject")
    attempt, asked = run(
        make_row(halves[0], 0, settings, None, (Companion(halves[1], 9),)),
        script(part="Agnes Thorne.", check="supported: yes\ncomplete: yes\ncorrect: yes"),
    )
    row = row_of(attempt, settings)
    text = row["messages"][0]["content"].removesuffix(f"\n\n{QUESTION}")
    assert sorted(row["documents"]) == sorted(half.id for half in halves)
    assert (row["document"], row["hops"]) == (halves[0].id, [2])
    assert all(half.text in text and half.title in text for half in halves)
    assert [e["text"] for e in row["evidence"]] == sorted(FACTS, key=text.index)
    assert all(text[e["start"] : e["end"]] == e["text"] for e in row["evidence"])
    assert all(r.messages[0]["content"].startswith(text) for r in asked if section_of(r) != "part")
    assert asked[0].messages[0]["content"].endswith(write("compare", "en", documents="2"))


def test_documents_are_either_compared_or_distractors() -> None:
    with pytest.raises(ConfigError, match="do not go together"):
        settings_from(DataSettings, {"distractors": 1, "documents_per_row": 2}, "command line")


# -- what the document does not say


def unanswerable(**changes: Any) -> DataSettings:
    return DataSettings(**{"preset": "paper", "unanswerable_share": 1.0, **changes})


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"answerable": "answerable: no", "refuse": "The document does not state who built the mill."}, None),
        ({"answerable": "answerable: yes"}, "answerable after all"),
        ({"answerable": "Hard to say."}, "answerable after all"),
        ({"answerable": "no", "refuse": "Agnes Thorne built it."}, "no refusal"),
        ({"answerable": "no", "refuse": "It does not say. " + "But this much can be said. " * 30}, "no refusal"),
    ],
)
def test_a_question_of_another_document_gets_the_right_refusal(replies: dict[str, str], reason: str | None) -> None:
    other = two_places()
    document = make_document(prose(7, 12), origin="mine")
    attempt, asked = run(make_row(document, 0, unanswerable(), Companion(other, 10)), script(**replies))
    assert asked[0].messages[0]["content"].startswith(other.text)
    assert (attempt.rejection.reason if attempt.rejection else None) == reason
    if reason is None:
        row = row_of(attempt, unanswerable())
        assert row["answerable"] is False
        assert row["evidence"] == []
        assert row["support"] == [None]
        assert row["messages"][0]["content"] == f"{document.text}\n\n{QUESTION}"
        assert row["messages"][1]["content"] == replies["refuse"]


# -- other questions


def test_intents_and_readers_stand_behind_the_call_for_questions_only(tmp_path: Path) -> None:
    lines = ["can u sum this up for my boss??", json.dumps({"messages": [{"role": "user", "content": "why tho"}]})]
    (tmp_path / "plain.txt").write_text(lines[0] + "\n\n")
    (tmp_path / "chat.jsonl").write_text(lines[1] + "\n")
    for file, wish in (("plain.txt", lines[0]), ("chat.jsonl", "why tho")):
        settings = DataSettings(preset="paper", readers=True, intents=str(tmp_path / file))
        attempt, asked = run(make_row(two_places(), 0, settings))
        assert attempt.rejection is None  # the stand-in still finds the document in it
        assert asked[0].messages[0]["content"].endswith(write("intent", "en", intent=wish))
        assert not any(wish in text for request in asked[1:] for text in map(str, request.messages))
    (tmp_path / "bad.jsonl").write_text('{"intent": "a"}\n{"topic": "b"}\n')
    with pytest.raises(DataError, match=r"bad.jsonl:2: no request in it"):
        run(make_row(two_places(), 0, DataSettings(intents=str(tmp_path / "bad.jsonl"))))


def test_much_the_same_question_is_asked_once_of_a_document_and_one_wording_not_of_all() -> None:
    seen = QuestionVariety()
    seen.add("d", ["When was the long bridge at Selby built?"])
    again = ["When was the bridge at Selby built?"]
    assert seen.fault("d", again, overlap=0.8, rows=100) == "much the same question again"
    assert seen.fault("d", again, overlap=1.0, rows=100) is None
    assert seen.fault("other", again, overlap=0.8, rows=100) is None
    for number in range(5):
        assert seen.fault(f"d{number}", ["What is the main point?"], overlap=0.8, rows=100) is None
        seen.add(f"d{number}", ["What is the main point?"])
    assert seen.fault("d9", ["What is the main point?"], overlap=0.8, rows=100) == "asked of too many documents"


def test_a_follow_up_is_asked_after_the_conversation_and_not_what_was_answered() -> None:
    settings = DataSettings(preset="paper", turns=2, follow_up_questions=True, tasks=("reasoning",))
    next_one = "When was the bridge at Selby built?"

    def reply(request: Request) -> str | None:
        if section_of(request) == "follow_up":
            assert [message["role"] for message in request.messages] == ["user", "assistant", "user"]
            return f"1: {QUESTION}\n2: {next_one}"
        if request.messages[-1]["content"].startswith(next_one):
            return "The bridge at Selby was built by Oswin Marlowe in 1764."
        return script()(request)  # type: ignore[no-any-return]

    attempt, _ = run(make_row(two_places(), 0, settings), reply)
    assert [turn.question for turn in attempt.turns] == [QUESTION, next_one]


# -- a whole build


def test_several_documents_of_a_build_fit_their_rows(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    chosen = DataSettings(
        documents=(str(corpus_dir),), tokenizer=str(tokenizer_dir), rows=6, min_length_tokens=100,
        max_length_tokens=6000, documents_per_row=3, unanswerable_share=0,
    )  # fmt: skip
    report = build(chosen, tmp_path / "rows.jsonl")
    assert "row too long" not in report["rejected_by_reason"]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert max(len(row["documents"]) for row in rows) == 3
    assert all(row["length_tokens"] <= 6000 for row in rows)
    for row in rows:
        text = row["messages"][0]["content"]
        assert all(text[e["start"] : e["end"]] == e["text"] for e in row["evidence"])


def test_best_runs_offline_and_its_report_counts_what_each_ingredient_did(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    chosen = DataSettings(
        documents=(str(corpus_dir),), tokenizer=str(tokenizer_dir), rows=16, min_length_tokens=100,
        max_length_tokens=8192, distractors=3, unanswerable_share=0.2, checker="offline",
    )  # fmt: skip
    report = build(chosen, tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 16
    found = report["ingredients"]
    assert found["on"] == rows[0]["ingredients"]
    assert sum(found["calls"].values()) == report["spend"]["calls"]
    assert found["unanswerable_rows"] == sum(not row["answerable"] for row in rows) > 0
    assert Counter(len(row["documents"]) for row in rows) == {int(n): k for n, k in found["documents_per_row"].items()}
    assert found["answers_checked"] == sum(row["checks"] != [None] for row in rows) > 0
    assert all(row["length_tokens"] <= 8192 for row in rows)
    assert report["tried"] == report["rows"] + report["rejected"]
    for row in rows:
        text = row["messages"][0]["content"]
        assert all(text[e["start"] : e["end"]] == e["text"] for e in row["evidence"])
        assert bool(row["evidence"]) == row["answerable"]


def test_the_checker_of_a_build_gets_all_checks_and_nothing_else_under_one_cap(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    def judge(body: dict[str, object], times: int) -> Answer:
        reply = stand_in(body, times)  # type: ignore[arg-type]
        return Answer("not a verdict") if "supported" in reply.text else reply

    with ChatServer() as writer, ChatServer(judge) as checker:
        chosen = DataSettings(
            documents=(str(corpus_dir),), tokenizer=str(tokenizer_dir), llm=writer.spec, checker=checker.spec, rows=4,
            min_length_tokens=100, max_length_tokens=8192, price_usd_per_million=(1, 1),
            checker_price_usd_per_million=(0, 0),
        )  # fmt: skip
        report = build(chosen, tmp_path / "rows.jsonl")
        paid = len(writer.bodies), len(checker.bodies)
        build(chosen.model_copy(update={"checker_concurrency": 1}), tmp_path / "rows.jsonl")
        assert (len(writer.bodies), len(checker.bodies)) == paid  # concurrency restarts nothing
    sections_asked = {
        asked.section if (asked := read_check(body["messages"][-1]["content"])) else "" for body in checker.bodies
    }
    assert sections_asked <= {"check_scores", "check_again", "answerable"}
    assert {"check_scores", "check_again"} <= sections_asked
    calls = report["ingredients"]["calls"]
    assert calls["checker"] == calls["checker again"]
    assert sum(paid) == report["spend"]["calls"] == sum(calls.values())
    assert report["ingredients"]["answers_unscored"] == report["rows"] == 4  # kept: missing is not zero
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["checked_by"] for row in rows} == {ChatServer.model}
