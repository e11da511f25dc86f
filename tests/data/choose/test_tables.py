"""`data stats`, `diff`, `merge` and `sample` over files of any form that training reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from longalign.base.files import fingerprint
from longalign.data.choose.diff import _Print, diff, diff_of
from longalign.data.choose.merge import merge
from longalign.data.choose.sample import sample
from longalign.data.choose.stats import stats, token_counter
from longalign.data.source import read_rows
from longalign.errors import ConfigError, RunError
from tests.data.choose.rows import Row, read, row, write


def test_stats_count_what_is_there_and_say_what_is_not(tmp_path: Path) -> None:
    evidence = [{"turn": 0, "text": "x", "position": 0.1}, {"turn": 0, "text": "y", "position": 0.95}]
    rows = [
        row(1, task="summary", language="en", length_tokens=300, support=[0.5], evidence=evidence),
        row(2, task="summary", language="zh", length_tokens=600, support=[0.9, 0.7], scores={"faithful": 4}),
        row(1, task="general"),
        {"instruction": "Say so.", "output": "So."},
        {"messages": [{"role": "user", "content": "Nobody answers."}]},
    ]
    (found,) = stats([str(write(tmp_path / "rows.jsonl", rows))])["files"]
    assert found["read"] == {
        "read": 5,
        "used": 4,
        "left_out": {"no answer in the conversation": 1},
        "cut": {},
    }
    assert (found["rows"], found["estimated_tokens"], found["repeated_rows"], found["documents"]) == (4, 2, 1, 2)
    assert found["groups"]["task"] == {"summary": 2, "general": 1, "not given": 1}
    assert found["groups"]["language"] == {"not given": 2, "en": 1, "zh": 1}
    assert found["evidence_positions"]["0.1-0.2"] == found["evidence_positions"]["0.9-1.0"] == 1
    assert found["quantiles"]["support"]["min"] == 0.5
    assert found["quantiles"]["support"]["max"] == 0.7  # the least of a row's turns
    assert found["quantiles"]["evidence spread"]["max"] == pytest.approx(0.85)
    assert found["quantiles"]["score faithful"]["p50"] == 4
    assert found["first_words"] == {"how many": 3, "say so": 1}
    (exact,) = stats([str(tmp_path / "rows.jsonl")], token_counter("builtin:tiny-base"))["files"]
    assert (exact["estimated_tokens"], exact["rows"]) == (0, 4)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3)),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3)),
)
@hypothesis_settings(max_examples=50)
def test_a_diff_accounts_for_every_row_of_both_files(a: dict[str, int], b: dict[str, int]) -> None:
    prints = [{name: _Print(f"key {key}", {"messages": key}) for name, key in each.items()} for each in (a, b)]
    found = diff_of(*prints)
    shared = found.same + len(found.changed)
    assert shared + len(found.renamed) + len(found.removed) == len(a)
    assert shared + len(found.renamed) + len(found.added) == len(b)
    assert all(a[old] == b[new] for old, new in found.renamed.items())
    assert Counter(a[name] for name in found.removed) & Counter(b[name] for name in found.added) == Counter()


def test_a_diff_names_fields_and_shifts(tmp_path: Path) -> None:
    before = write(tmp_path / "a.jsonl", [row(1, task="x"), row(2, task="x", support=[0.1]), row(3, task="x")])
    renamed = {**row(3, task="y"), "id": "new"}
    after = write(tmp_path / "b.jsonl", [row(1, task="x"), row(2, task="x", support=[0.2]), renamed, row(4, task="y")])
    found = diff(str(before), str(after))
    assert found["rows"] == {
        "same": 1, "added": ["row-4"], "removed": [], "changed": {"row-2": ["support"]}, "renamed": {"row-3": "new"},
    }  # fmt: skip
    assert found["distributions"]["task"] == {"x": [3, 2], "y": [0, 2]}
    assert "row-2 (support)" in found["text"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_merge_keeps_each_conversation_once_and_names_conflicts(suffix: str, tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    first = write(tmp_path / "a.jsonl", [row(1, support=[0.5]), row(2, tools=tools, meta={"page": 1})])
    other = {**row(7), "id": "row-1"}
    second = write(
        tmp_path / "b.jsonl",
        [row(1, support=[0.6]), other, row(5, meta="none"), {"instruction": "Hi?", "output": "Ho."}],
    )
    out = tmp_path / f"all{suffix}"
    found = merge([str(first), str(second)], out)
    rows = list(read_rows(out))
    assert [each["id"].split("~")[0] for each in rows][:4] == ["row-1", "row-2", "row-1", "row-5"]
    assert len({each["id"] for each in rows}) == len(rows) == found["rows"] == 5
    assert [each["merged_from"]["file"] for each in rows] == ["a.jsonl", "a.jsonl", "b.jsonl", "b.jsonl", "b.jsonl"]
    assert rows[2]["merged_from"]["id"] == "row-1"
    assert rows[1]["tools"] == tools
    assert [each["source"] for each in rows] == ["a", "a", "b", "b", "b"]
    same, taken = found["conflicts"]
    assert "a.jsonl:1 and b.jsonl:1" in same
    assert "differ in support" in same
    assert "b.jsonl:2 are different rows with the id row-1" in taken
    for name in (first, second):  # nothing that trains is lost
        kept = {fingerprint(each["messages"], each.get("tools")) for each in rows}
        assert all(fingerprint(each["messages"], each.get("tools")) in kept for each in read_rows(name))
    with pytest.raises(RunError, match="exists already"):
        merge([str(first)], out)
    with pytest.raises(ConfigError, match="is the file that is read"):
        merge([str(first)], first)


def test_a_sample_depends_on_seed_and_content_and_is_even_over_groups(tmp_path: Path) -> None:
    rows: list[Row] = [row(n, task="rare" if n % 10 == 0 else "common") for n in range(60)]
    ahead = str(write(tmp_path / "a.jsonl", rows))
    reverse = str(write(tmp_path / "b.jsonl", rows[::-1]))
    found = sample(ahead, n=8, by=("task",), out=tmp_path / "some.jsonl")
    assert Counter(each["task"] for each in found["rows"]) == {"rare": 4, "common": 4}
    assert found["rows"] == sample(reverse, n=8, by=("task",))["rows"] == read(tmp_path / "some.jsonl")
    assert found["rows"] != sample(ahead, n=8, by=("task",), seed=1)["rows"]
    assert "How many chairs" in sample(ahead, n=1)["text"]
    json.dumps(found)


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    file = str(write(tmp_path / "a.jsonl", [row(1)]))
    with pytest.raises(ConfigError, match="--by colour"):
        sample(file, by=("colour",))
