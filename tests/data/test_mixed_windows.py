"""Text cut at several windows: shares are of tokens, nothing is invented, a kill or a second call changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longalign.base.files import atomic_write_text
from longalign.data import store as stores
from longalign.data.mixed_windows import tokenize_in_windows
from longalign.data.store import TokenStore
from longalign.data.to_tokens import DocumentEncoder, MixedEncoder, RowEncoder, tokenize_texts
from longalign.errors import DataError
from tests.makers.models import make_model
from tests.makers.rows import make_rows
from tests.makers.text import prose

WINDOW = 256


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    make_model(folder / "model")
    make_rows(folder / "rows.jsonl", 6)
    for number in range(30):
        atomic_write_text(folder / "books" / f"{number}.txt", prose(number, 2 + 3 * number))
    return folder


def made(place: Path, out: Path, shares: dict[int, float], *, rows: bool = True) -> TokenStore:
    model = str(place / "model")
    encoder = MixedEncoder(DocumentEncoder(model, WINDOW), RowEncoder(model, WINDOW))
    files = {str(place / "rows.jsonl"): None} if rows else {}
    folders = (out / "tokens", out / "heldout-tokens")
    tokenize_in_windows([str(place / "books")], files, folders, encoder, shares=shares, stamp="s", seed=3)
    return TokenStore.open(folders[0])


def whole(place: Path, out: Path) -> TokenStore:
    model = str(place / "model")
    encoder = MixedEncoder(DocumentEncoder(model, WINDOW), RowEncoder(model, WINDOW))
    tokenize_texts([str(place / "books")], {}, (out / "tokens", out / "held"), encoder, stamp="s", seed=3)
    return TokenStore.open(out / "tokens")


def test_each_window_has_its_share_and_rows_stay_whole(place: Path, tmp_path: Path) -> None:
    store = made(place, tmp_path, {32: 0.3, WINDOW: 0.7})
    texts = store.source_N == store.sources.index("books")
    short = store.lengths[texts & (store.lengths <= 32)].sum()
    total = store.lengths[texts].sum()
    assert abs(short / total - 0.3) * total <= WINDOW
    counted = {window: store.counts[f"tokens_in_windows_of_{window}"] for window in (32, WINDOW)}
    assert counted == {32: short, WINDOW: total - short}
    source = whole(place, tmp_path / "whole")
    assert total + store.counts.get("tokens_left_out", 0) >= source.lengths.sum() - len(source)
    assert (~texts).sum() == 6
    kept = b"".join(source[i].ids_T.tobytes() for i in range(len(source)))
    for i in np.flatnonzero(texts):
        assert store[i].ids_T.tobytes() in kept
        assert store[i].target_T[1:].all()
        assert not store[i].target_T[0], "a first token is predicted from nothing"
    assert (tmp_path / "heldout-tokens").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_killed_or_called_again_it_makes_the_same_bytes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {32: 0.5, 64: 0.2, WINDOW: 0.3}
    straight = made(place, tmp_path / "straight", shares)

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stores, "_join", full)
        with pytest.raises(OSError, match="no space"):
            made(place, tmp_path / "again", shares)
    again = made(place, tmp_path / "again", shares)
    stamp = (again.folder / "ids.npy").stat().st_mtime_ns
    assert again.fingerprint == straight.fingerprint
    made(place, tmp_path / "again", shares)
    assert (again.folder / "ids.npy").stat().st_mtime_ns == stamp


def test_shares_that_no_text_can_have_are_named(place: Path, tmp_path: Path) -> None:
    for number in range(12):
        atomic_write_text(tmp_path / "books" / f"{number}.txt", prose(number, 1)[:60])
    (tmp_path / "model").symlink_to(place / "model")
    with pytest.raises(DataError, match=r"windows: no sequence is longer than 128 tokens, so none has 256 \(.*books\)"):
        made(tmp_path, tmp_path / "out", {128: 0.5, WINDOW: 0.5}, rows=False)
