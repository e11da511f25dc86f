"""`data select`: every row is accounted for, the kept ones are the best of their groups, and nothing else decides."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from longalign.data.choose.keep import ALIKE, RANK, SAME, parse_keep, quotas
from longalign.data.choose.ranks import combined, parse_weights
from longalign.data.choose.select import SelectHow, select
from longalign.errors import ConfigError, RunError
from tests.data.choose.rows import read, row, write

SOME = st.floats(0, 1) | st.none()


@given(
    st.lists(st.tuples(SOME, SOME, st.sampled_from("abc")), min_size=1, max_size=25),
    st.integers(1, 30),
    st.randoms(use_true_random=False),
)
@hypothesis_settings(max_examples=25)
def test_rows_are_kept_or_left_out_with_a_reason_whatever_their_order(
    given_rows: list[tuple[float | None, float | None, str]], keep: int, random: Any
) -> None:
    rows = [
        row(n, source=source, **({} if support is None else {"support": [support]}), scores={"faithful": score})
        for n, (support, score, source) in enumerate(given_rows)
    ]
    rows.append({"id": "mute", "messages": [{"role": "user", "content": "Nobody answers."}]})
    kept: list[set[str]] = []
    with TemporaryDirectory() as folder:
        for name in ("as written", "shuffled"):
            found = write(Path(folder, f"{name}.jsonl"), rows)
            out = Path(folder, f"{name}.best.jsonl")
            how = SelectHow(keep=str(keep), weights="support=1,length=0.5", per=("source",))
            if not any(each.get("support") for each in rows):
                how = SelectHow(keep=str(keep), weights="length=1", per=("source",))
            report = select(str(found), out, how)
            chosen, others = read(out), read(out.with_name(out.stem + ".left_out.jsonl"))
            ids = [each["id"] for each in chosen] + [each["id"] or "mute" for each in others]
            assert sorted(ids) == sorted(each["id"] for each in rows)
            assert report["kept"] == len(chosen) == min(keep, len(given_rows))
            assert all(each["reason"] for each in others)
            originals = {each["id"]: each for each in rows}
            assert all({k: v for k, v in each.items() if k != "selection"} == originals[each["id"]] for each in chosen)
            shares = Counter(each["source"] for each in rows if "source" in each)
            for source, count in Counter(each["source"] for each in chosen).items():
                assert abs(count - shares[source] * min(keep, len(given_rows)) / len(given_rows)) < 1
            best = {each["selection"]["rank"]: each["source"] for each in chosen}
            for left in others:
                if left["reason"] == RANK:
                    source = originals[left["id"]]["source"]
                    assert all(rank < left["selection"]["rank"] for rank, group in best.items() if group == source)
            kept.append({each["id"] for each in chosen})
            random.shuffle(rows)
    assert kept[0] == kept[1]


def test_of_two_like_questions_about_one_document_the_better_row_stays(tmp_path: Path) -> None:
    document = "The mill stands by the river. It was built in 1702 by two brothers."
    rows = [
        row(1, document=document, question="Who built the mill by the river?", answer="Nobody.", support=[0.4]),
        row(2, document=document, question="Who built the mill by the river then?", answer="Brothers.", support=[0.9]),
        row(3, document=document, question="When was it built?", answer="In 1702.", support=[0.6]),
        row(4, document="Another mill.", question="Who built the mill by the river?", answer="No.", support=[0.5]),
        row(5, document="Another mill.", question="Who built the mill by the river?", answer="No.", support=[0.1]),
    ]
    for each in rows:
        each.pop("document")  # the document is then told by its text
    out = tmp_path / "best.jsonl"
    report = select(str(write(tmp_path / "rows.jsonl", rows)), out, SelectHow(keep="100%"))
    assert [each["id"] for each in read(out)] == ["row-2", "row-3", "row-4"]
    left = {each["id"]: (each["reason"], each.get("like")) for each in read(tmp_path / "best.left_out.jsonl")}
    assert left == {"row-1": (ALIKE, "row-2"), "row-5": (SAME, "row-4")}
    assert report["left_out"] == {ALIKE: 1, SAME: 1}


def test_ranks_and_not_sizes_decide_and_what_is_unknown_is_in_the_middle() -> None:
    found = combined({"a": [1.0, 1e9, 2.0], "b": [None, 1.0, 3.0]}, {"a": 1.0, "b": -1.0}, 3)
    assert found.tolist() == pytest.approx([(1 / 6 + 1 / 2) / 2, (5 / 6 + 3 / 4) / 2, (1 / 2 + 1 / 4) / 2])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (SelectHow(keep="none"), "--keep none"),
        (SelectHow(keep="1.5"), "--keep 1.5"),
        (SelectHow(keep="2", weights="gain=1"), "needs --model DIR"),
        (SelectHow(keep="2", weights="suport=1"), "suport"),
        (SelectHow(keep="2", weights="support=much"), "NAME=NUMBER"),
        (SelectHow(keep="2", per=("colour",)), "--per colour"),
    ],
)
def test_what_means_nothing_is_refused_and_nothing_is_written(how: SelectHow, words: str, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [row(n, support=[0.5]) for n in range(3)])
    with pytest.raises(ConfigError, match=words):
        select(str(file), tmp_path / "best.jsonl", how)
    assert list(tmp_path.iterdir()) == [file]


def test_shares_and_quotas() -> None:
    assert [parse_keep(text, 250) for text in ("7", "0.1", "10%", "0.0001")] == [7, 25, 25, 1]
    assert quotas(Counter({("a",): 5, ("b",): 3, ("c",): 2}), 5) == {("a",): 3, ("b",): 1, ("c",): 1}
    assert parse_weights("gain, spread=-0.5") == {"gain": 1.0, "spread": -0.5}


def test_a_selection_is_trained_without_a_word_about_its_own_field(tmp_path: Path) -> None:
    from longalign.data.row_fields import KNOWN

    out = tmp_path / "best.parquet"
    select(str(write(tmp_path / "rows.jsonl", [row(n, support=[n / 4]) for n in range(4)])), out, SelectHow(keep="2"))
    from longalign.data.source import read_rows

    rows = list(read_rows(out))
    assert [each["id"] for each in rows] == ["row-2", "row-3"]
    assert set(rows[0]) <= KNOWN
    assert json.loads((tmp_path / "best.selection.json").read_text())["kept"] == 2
    select(str(tmp_path / "rows.jsonl"), out, SelectHow(keep="3"))  # of the same rows it may be written again
    with pytest.raises(RunError, match="exists already"):
        select(str(write(tmp_path / "others.jsonl", [row(1, support=[1])])), out, SelectHow(keep="2"))
