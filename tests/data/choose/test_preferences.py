"""Preference rows: worse answers from a real endpoint, exact lengths, every row accounted for, nothing paid twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from longalign.base.tokenizers import open_tokenizer
from longalign.config import PreferenceSettings
from longalign.data.choose.preferences import TOO_LONG, preferences
from longalign.data.choose.rejected_answer import ALIKE, NO_DOCUMENT, NO_GAP
from longalign.data.source import read_rows
from longalign.data.tokenize import tokenize_conversation
from longalign.errors import DataError
from tests.data.choose.rows import Row, read, row, write
from tests.llm.chat_server import Answer, Body, ChatServer

INVENTED = "Perhaps the gardener planted violet tulips beside an old railway."


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def replies(body: Body, times: int) -> Answer:
    asked = body["messages"][-1]["content"]
    for mark, text in (
        ("house 1 ", "House 1 has 4 chairs."),
        ("house 2 ", "I'm sorry, I cannot say."),
        ("house 3 ", ""),
    ):
        if mark in asked:
            return Answer(text or "The ledger of house 3 lists 6 chairs.")
    return Answer(INVENTED * (40 if "house 4 " in asked else 1))


def rows_of(folder: Path) -> tuple[Path, list[Row]]:
    evidence = {"turn": 0, "text": "The ledger of house 6 lists 9 chairs.", "start": 0, "end": 37, "position": 0.3}
    rows = [row(n, task="general") for n in range(6)]
    rows += [row(6, evidence=[evidence]), {"id": "chat", "messages": row(0)["messages"][1:], "source": "x"}]
    rows[-1]["messages"] = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    return write(folder / "rows.jsonl", rows), rows


def test_pairs_differ_in_support_and_every_other_row_has_its_reason(tmp_path: Path) -> None:
    file, rows = rows_of(tmp_path)
    out = tmp_path / "pairs.jsonl"
    with ChatServer(replies) as server:
        settings = PreferenceSettings(llm=server.spec, max_length_tokens=256, temperature=0)
        report = preferences(str(file), settings, out)
        asked = {body["messages"][0]["content"] for body in server.bodies}
        calls = len(server.bodies)
        first = out.read_bytes()
        again = preferences(str(file), settings, out)
        assert len(server.bodies) == calls  # the ledger answers
    assert out.read_bytes() == first
    assert again["pairs"] == report["pairs"] == 3
    pairs, left = read(out), read(tmp_path / "pairs.left_out.jsonl")
    assert [each["id"] for each in pairs] == ["row-0", "row-5", "row-6"]
    assert {each["id"]: each["reason"] for each in left} == {
        "row-1": ALIKE, "row-2": "rejected answer: refused", "row-3": NO_GAP, "row-4": TOO_LONG, "chat": NO_DOCUMENT,
    }  # fmt: skip
    assert report["left_out"] == dict(Counter(each["reason"] for each in left))
    assert rows[0]["messages"][0]["content"] in asked  # no evidence is known: the window holds all of it
    assert "[...] Nobody counted the lamps.\n\nHow many chairs does house 6 have?" in asked
    tokenizer = open_tokenizer("builtin:tiny-base")
    for pair in pairs:
        original = next(each for each in rows if each["id"] == pair["id"])
        assert pair["prompt"] + pair["chosen"] == original["messages"]
        assert pair["chosen_support"] - pair["rejected_support"] >= 0.1
        for side in ("chosen", "rejected"):
            whole = tokenize_conversation(tokenizer, pair["prompt"] + pair[side])
            assert whole.length_tokens == pair[f"{side}_tokens"] <= 256
    with pytest.raises(DataError, match="preference"):  # training refuses them still
        list(read_rows(out))


@pytest.mark.parametrize(("rejected", "shown"), [("question", False), ("sample", True)])
def test_what_the_model_sees_and_of_several_samples_the_worst(rejected: str, shown: bool, tmp_path: Path) -> None:
    def behave(body: Body, times: int) -> Answer:
        return Answer(["House 0 lists lamps.", INVENTED][body["seed"] % 2])

    file = write(tmp_path / "rows.jsonl", [row(n) for n in range(2)])
    with ChatServer(behave) as server:
        settings = PreferenceSettings(llm=server.spec, rejected=rejected, samples=6)
        preferences(str(file), settings, tmp_path / "pairs.jsonl")
        assert all(("ledger" in body["messages"][0]["content"]) is shown for body in server.bodies)
        assert len(server.bodies) == 12
    assert {pair["rejected"][0]["content"] for pair in read(tmp_path / "pairs.jsonl")} == {INVENTED}


def test_a_cap_on_money_ends_it_and_it_goes_on(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.jsonl",
        [row(n, document=f"House {n} has {n + 3} chairs. " + "It rains. " * 50) for n in range(9)],
    )
    out = tmp_path / "pairs.jsonl"
    with ChatServer(lambda body, times: Answer(INVENTED)) as server:
        capped = PreferenceSettings(
            llm=server.spec, price_usd_per_million=(1000, 1000), max_cost_usd=0.8, max_new_tokens=64, concurrency=1
        )
        found = preferences(str(file), capped, out)
        assert not found["finished"]
        assert 0 < found["pairs"] < 9
        assert found["pairs"] + found["left_out"]["rejected answer: over_budget"] == 9
        full = preferences(str(file), capped.model_copy(update={"max_cost_usd": 100.0}), out)
        assert full["finished"]
        assert full["pairs"] == 9
        assert len(server.bodies) == 9
