"""Which rows a mix takes: by number, weight and epochs; by rows and by tokens; and what the store says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.config.mix import MixSettings, Portion
from longalign.data.mix import draw_mix, mix_lines, shares_of
from longalign.data.store import TokenStore
from longalign.data.to_tokens import DocumentEncoder, MixedEncoder, RowEncoder, tokenize_rows, tokenize_texts
from longalign.errors import ConfigError, DataError

TINY = "builtin:tiny-base"
ENCODER = RowEncoder(TINY, 128)


def write(path: Path, rows: int, words: int, *, short: bool = False) -> str:
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            said = " ".join(f"{path.stem}{number}" for _ in range(words + number % 7))
            messages = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": said}]
            file.write(json.dumps({"messages": messages, "source": "kind"}) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    return write(tmp_path / "chats.jsonl", 40, 2), write(tmp_path / "long.jsonl", 12, 30)


def made(folder: Path, data: Any, seed: int = 3, **mix: Any) -> TokenStore:
    wanted = MixSettings(data=data, **mix)
    return tokenize_rows(
        folder, wanted.data, ENCODER, seed=seed, stamp="s", mix_by=wanted.mix_by, mix_total=wanted.mix_total
    )


def rows_used(store: TokenStore) -> list[str]:
    return [json.loads(line)["where"] for line in (store.folder / "rows.jsonl").read_text().splitlines()]


def test_weights_share_rows_and_the_file_that_runs_out_first_is_used_up(files: tuple[str, str], tmp_path: Path) -> None:
    chats, long = files
    store = made(tmp_path / "a", {chats: {"weight": 0.6}, long: {"weight": 0.4}})
    found = {share.file: share for share in shares_of(store)}
    assert (found[chats].rows, found[long].rows) == (18, 12)
    assert (found[chats].held, found[chats].distinct) == (40, 18)
    assert sum(share.sequences for share in found.values()) == len(store) == 30
    assert sum(share.tokens for share in found.values()) == int(store.lengths.sum())
    assert sum(share.targets for share in found.values()) == int(store.target_counts.sum())
    assert mix_lines(shares_of(store))[0].startswith(f"mix: {chats}: 18 of 40 rows, 18 sequences (60.0%), ")
    again = made(tmp_path / "b", {chats: {"weight": 0.6}, long: {"weight": 0.4}})
    assert again.fingerprint == store.fingerprint, "the seed decides"


FILES = st.lists(
    st.tuples(st.integers(2, 60), st.decimals("0.1", "5", places=1).map(float), st.sampled_from([None, 0.5, 1.5, 3])),
    min_size=1,
    max_size=4,
)


@given(FILES, st.sampled_from(["rows", "tokens"]), st.integers(0, 99))
def test_any_mix_keeps_its_shares_within_one_row_and_its_limits(
    given_files: list[tuple[int, float, float | None]], by: Any, seed: int
) -> None:
    """Against the definition in plain floats; tokens of rows are drawn too."""
    names = [f"{number}.jsonl" for number in range(len(given_files))]
    rows = {name: count for name, (count, _, _) in zip(names, given_files, strict=True)}
    tokens = {name: np.random.default_rng([seed, count]).integers(1, 300, count) for name, count in rows.items()}
    files = {name: Portion(weight=w, epochs=e) for name, (_, w, e) in zip(names, given_files, strict=True)}

    def drawn() -> dict[str, Any]:
        return draw_mix(files, rows, by=by, total=None, seed=seed, tokens_of=tokens.__getitem__)

    times, again = drawn(), drawn()
    size = {name: times[name] if by == "rows" else times[name] * tokens[name] for name in names}
    used = {name: float(size[name].sum()) for name in names}
    one = 1.0 if by == "rows" else 300.0
    held = {name: rows[name] if by == "rows" else int(tokens[name].sum()) for name in names}
    most = {name: (portion.epochs or 1) * held[name] for name, portion in files.items()}
    most = {name: amount // 1 if by == "rows" else amount for name, amount in most.items()}
    whole = min(most[name] / (portion.weight or 1) for name, portion in files.items())
    for name, portion in files.items():
        assert (times[name] == again[name]).all(), "the seed decides"
        assert abs(used[name] - whole * (portion.weight or 1)) <= one * (1 if by == "tokens" else 2)
        assert times[name].max() <= -(-(portion.epochs or 1) // 1), "no row more often than allowed"


def test_a_repeated_row_is_as_many_sequences(files: tuple[str, str], tmp_path: Path) -> None:
    chats, long = files
    store = made(tmp_path / "a", {chats: {"epochs": 0.25}, long: {"epochs": 2.5}})
    used = rows_used(store)
    assert len(used) == len(store) == 10 + 30
    often = {name: used.count(name) for name in used}
    assert sorted(often[name] for name in often if "long" in name) == [2] * 6 + [3] * 6
    assert store.counts["repeated"] == 18
    first = [number for number, name in enumerate(used) if name == used[-1]]
    assert len({store[number].ids_T.tobytes() for number in first}) == 1


def test_by_tokens_the_shares_of_tokens_are_as_asked_within_one_row(files: tuple[str, str], tmp_path: Path) -> None:
    chats, long = files
    asked = {chats: {"weight": 0.25, "epochs": 3}, long: {"weight": 0.75}}
    store = made(tmp_path / "a", asked, mix_by="tokens", mix_total=1000)
    longest = int(store.lengths.max())
    found = {share.file: share for share in shares_of(store)}
    assert abs(found[chats].tokens - 250) <= longest
    assert abs(found[long].tokens - 750) <= longest
    assert not list(tmp_path.glob(".*")), "what was tokenised and not chosen is deleted"
    used = rows_used(store)
    plain = made(tmp_path / "plain", [chats, long])
    whole = dict(zip(rows_used(plain), (plain[number].ids_T.tolist() for number in range(len(plain))), strict=True))
    assert [store[number].ids_T.tolist() for number in range(len(store))] == [whole[name] for name in used]


def test_by_tokens_without_a_total_the_scarcer_file_is_used_up(files: tuple[str, str], tmp_path: Path) -> None:
    chats, long = files
    store = made(tmp_path / "a", {chats: {"weight": 1}, long: {"weight": 9}}, mix_by="tokens")
    found = {share.file: share for share in shares_of(store)}
    assert found[long].distinct == 12
    assert abs(found[chats].tokens - found[long].tokens / 9) <= 20


def test_numbers_take_theirs_and_weights_share_the_rest_of_a_total(files: tuple[str, str], tmp_path: Path) -> None:
    chats, long = files
    third = write(tmp_path / "third.jsonl", 30, 3)
    store = made(tmp_path / "a", {chats: 10, long: {"weight": 1}, third: {"weight": 2}}, mix_total=40)
    assert [share.rows for share in shares_of(store)] == [10, 10, 20]
    with pytest.raises(ConfigError, match="leaves nothing of 10"):
        made(tmp_path / "b", {chats: 10, long: {"weight": 1}}, mix_total=10)
    with pytest.raises(DataError, match=r"long\.jsonl: .* 0\.05 times 12 rows is no whole row"):
        made(tmp_path / "b", {long: {"weight": 1, "epochs": 0.05}})
    with pytest.raises(DataError, match=r"41 rows are wanted but it has 40.*\{rows: 41, epochs: 2\}"):
        made(tmp_path / "b", {chats: 41})
    assert len(made(tmp_path / "b", {chats: {"rows": 41, "epochs": 2}})) == 41


def test_numbers_draw_the_rows_that_they_always_drew(files: tuple[str, str], tmp_path: Path) -> None:
    chats, _ = files
    drawn = np.sort(random_for(3, "rows", "chats.jsonl").choice(40, size=9, replace=False))
    assert rows_used(made(tmp_path / "a", {chats: 9})) == [f"chats.jsonl:{number + 1}" for number in drawn]
    stores = [made(tmp_path / name, {chats: amount}) for name, amount in (("a", 9), ("b", {"rows": 9}))]
    assert stores[0].description["key"] == stores[1].description["key"]


def test_a_mix_beside_documents(files: tuple[str, str], tmp_path: Path) -> None:
    """What `extend` mixes into its text; the documents have a line of their own."""
    (tmp_path / "essay.txt").write_text("A word and another. " * 50)
    encoder = MixedEncoder(DocumentEncoder(TINY, 128), ENCODER)
    wanted = MixSettings(data={files[0]: {"weight": 1}, files[1]: {"weight": 1}}, mix_by="tokens")
    folders = (tmp_path / "t", tmp_path / "h")
    tokenize_texts([str(tmp_path / "essay.txt")], wanted.data, folders, encoder, stamp="s", seed=0, mix_by="tokens")
    shares = shares_of(TokenStore.open(folders[0]))
    assert [share.file for share in shares] == ["documents", *files]
    assert shares[1].tokens == pytest.approx(shares[2].tokens, abs=128)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a", {"a": None}),
        (["a", {"b": 3}], {"a": None, "b": 3}),
        ({"a": {"rows": 5}, "b": {"epochs": 1}}, {"a": 5, "b": None}),
        ({"a": {"rows": 5, "epochs": 1}}, {"a": 5}),
        ({"a": {"weight": 2, "epochs": 1}}, {"a": {"weight": 2.0}}),
    ],
)
def test_several_ways_to_say_the_same(given: Any, meant: dict[str, Any]) -> None:
    assert MixSettings(data=given).model_dump(mode="json")["data"] == meant


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"a": {"wieght": 0.3}}, r"a: unknown key `wieght` \(did you mean `weight`\?\)"),
        ({"a": {"weight": -1}}, "a: weight = -1: input should be greater than 0"),
        ({"a": {"weight": 1, "rows": 3}}, "a: rows and weight exclude each other"),
        ({"a": {}}, "a: empty; give rows, weight or epochs"),
        ({"a": "some"}, "a = 'some': give a number of rows, null for all, or a mapping"),
        ({"a": True}, "a = True: give a number of rows"),
        (["a", "a"], r"a is named twice; \{a: \{epochs: 2\}\} uses it twice"),
        ([3], "3 is no file"),
    ],
)
def test_what_cannot_be_read_says_why(given: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MixSettings(data=given)


def test_a_total_needs_a_weight() -> None:
    with pytest.raises(ValueError, match="mix_total is shared by files with a weight, and none has one"):
        MixSettings(data={"a": 5}, mix_total=3)
    assert MixSettings(mix_total=3).mix_total == 3, "the arms of a recipe name their files"
