"""The token store: what goes in comes out, in any number of processes, after any kill, and errors name the row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longalign.data.store import Encoded, Item, TokenStore, build_store
from longalign.data.tokenize import TokenSequence
from longalign.errors import DataError

ROWS = 40


def encode(number: int) -> Encoded:
    """`number` decides everything: no sequence, one, or two."""
    if number == 13:
        raise ValueError("bad row")
    rng = np.random.default_rng(number)
    made = []
    for part in range(number % 3):
        length = int(rng.integers(1, 50))
        made.append((TokenSequence(rng.integers(0, 99, length).astype(np.int32), rng.random(length) < 0.5),
                     {"id": f"{number}-{part}"} | ({"source": "odd"} if number % 2 else {})))  # fmt: skip
    return made, Counter({"empty": int(number % 3 == 0)})


def slow_encode(number: int) -> Encoded:
    time.sleep(0.05)
    return encode(number)


def chunks(numbers: list[int], size: int = 7) -> Any:
    items = [Item(f"rows.jsonl:{n}", n) for n in numbers]
    return [items[i : i + size] for i in range(0, len(items), size)]


GOOD = [n for n in range(ROWS) if n != 13]


def contents(store: TokenStore) -> list[tuple[list[int], list[bool], str]]:
    notes = store.notes(range(len(store)))
    return [(s.ids_T.tolist(), s.target_T.tolist(), note["id"]) for s, note in zip(store, notes, strict=True)]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    store = build_store(tmp_path / "tokens", chunks(GOOD), encode, key="k")
    expected = [(s.ids_T.tolist(), s.target_T.tolist(), note["id"]) for n in GOOD for s, note in encode(n)[0]]
    assert contents(store) == expected
    assert store.lengths.tolist() == [len(ids) for ids, _, _ in expected]
    assert store.target_counts.tolist() == [sum(target) for _, target, _ in expected]
    assert store.counts == {"rows": len(GOOD), "empty": sum(n % 3 == 0 for n in GOOD)}
    assert [p.name for p in tmp_path.iterdir()] == ["tokens"], "no temporary files stay"


def test_a_store_opens_without_reading_what_its_sequences_are_called(tmp_path: Path) -> None:
    store = build_store(tmp_path / "tokens", chunks(GOOD), encode, key="k")
    ids = [note["id"] for note in store.notes(range(len(store)))]
    assert store.names([7, 2, 7]) == [ids[7], ids[2], ids[7]]
    assert [store.sources[code] for code in store.source_N] == [
        "odd" if int(name.split("-")[0]) % 2 else "unknown" for name in ids
    ]
    (tmp_path / "tokens" / "rows.jsonl").unlink()
    again = TokenStore.open(tmp_path / "tokens")
    assert again.target_counts.tolist() == [again[i].target_count for i in range(len(again))]


def test_a_store_of_another_format_is_built_anew(tmp_path: Path) -> None:
    store = build_store(tmp_path / "tokens", chunks(GOOD), encode, key="k")
    described = tmp_path / "tokens" / "store.json"
    described.write_text(described.read_text().replace('"format": 2', '"format": 1'), encoding="utf-8")
    with pytest.raises(DataError, match=r"format 1, this version reads 2.*tokenise again"):
        TokenStore.open(tmp_path / "tokens")
    assert build_store(tmp_path / "tokens", chunks(GOOD), encode, key="k").fingerprint == store.fingerprint


def test_any_process_count_gives_the_same_bytes(tmp_path: Path) -> None:
    one = build_store(tmp_path / "one", chunks(GOOD), encode, key="k")
    two = build_store(tmp_path / "two", chunks(GOOD), encode, key="k", workers=2)
    assert one.fingerprint == two.fingerprint
    for name in ("ids.npy", "targets.npy", "offsets.npy", "target_counts.npy", "sources.npy", "rows.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_names_the_row_and_is_not_lost(workers: int, tmp_path: Path) -> None:
    """Regression: a worker's exception lost its whole shard silently in the published code."""
    with pytest.raises(DataError, match=r"rows\.jsonl:13: cannot be tokenised \(ValueError: bad row\)"):
        build_store(tmp_path / "tokens", chunks(list(range(ROWS))), encode, key="k", workers=workers)
    assert not (tmp_path / "tokens").exists()


def test_another_key_builds_anew_and_the_same_key_opens(tmp_path: Path) -> None:
    build_store(tmp_path / "tokens", chunks(GOOD), encode, key="k")
    again = build_store(tmp_path / "tokens", chunks([13]), encode, key="k")  # would raise if it encoded
    assert len(again) > 0
    other = build_store(tmp_path / "tokens", chunks([1, 2]), encode, key="other")
    assert len(other) == 3


def test_an_empty_store_and_a_missing_one(tmp_path: Path) -> None:
    store = build_store(tmp_path / "tokens", chunks([0, 3]), encode, key="k")
    assert len(store) == 0
    assert store.lengths.tolist() == store.target_counts.tolist() == []
    with pytest.raises(DataError, match="no readable token store"):
        TokenStore.open(tmp_path / "nothing")


def test_a_killed_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from tests.data.test_store import *\n"
        "build_store(Path(sys.argv[1]) / 'tokens', chunks(GOOD), slow_encode, key='k')"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=root)
    parts = tmp_path / ".tokens.parts"
    while not list(parts.glob("*.npz")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(parts.glob("*.npz")))
    assert 0 < done < 6
    encoded: list[int] = []

    def counting(number: int) -> Encoded:
        encoded.append(number)
        return encode(number)

    store = build_store(tmp_path / "tokens", chunks(GOOD), counting, key="k")
    assert len(encoded) <= len(GOOD) - 7 * done
    assert store.fingerprint == build_store(tmp_path / "whole", chunks(GOOD), encode, key="k").fingerprint
