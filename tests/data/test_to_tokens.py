"""Texts become tokens in memory of a few chunks; held-out documents are chosen by rule; a kill loses no tokens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longalign.base.files import random_for
from longalign.data import to_tokens as texts_to_tokens
from longalign.data.chunks import CHUNK_CHARACTERS, CHUNK_ROWS
from longalign.data.store import Encoded, TokenStore
from longalign.data.to_tokens import (
    DocumentEncoder,
    MixedEncoder,
    RowEncoder,
    held_out,
    tokenize_rows,
    tokenize_texts,
)
from longalign.data.tokenize import TokenSequence
from longalign.errors import DataError


@dataclass(frozen=True)
class Encode:
    """Two tokens a document: its number and its length. `seen` lists the numbers."""

    pause_s: float = field(default=0.0, repr=False)
    seen: list[int] = field(default_factory=list, repr=False)
    key: str = "Encode()"

    def __call__(self, document: Mapping[str, Any]) -> Encoded:
        time.sleep(self.pause_s)
        self.seen.append(int(document["title"]))
        ids_T = np.array([self.seen[-1], len(document["text"])], dtype=np.int32)
        note = {key: document[key] for key in ("id", "source")}
        return [(TokenSequence(ids_T, np.array([False, True])), note)], Counter()


def write_corpus(path: Path, documents: int, characters: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(documents):
            text = f"{number} " + "x" * (characters - number % 100)
            file.write(json.dumps({"text": text, "title": str(number), "source": f"kind {number % 3}"}) + "\n")
    return path


def build(corpus: Path, out: Path, encode: Encode | None = None, *, stamp: str = "s") -> tuple[TokenStore, TokenStore]:
    tokenize_texts([str(corpus)], {}, (out / "tokens", out / "held"), encode or Encode(), stamp=stamp, seed=0)
    return TokenStore.open(out / "tokens"), TokenStore.open(out / "held")


def numbers(store: TokenStore) -> list[int]:
    return [int(store[i].ids_T[0]) for i in range(len(store))]


def peak_bytes(corpus: Path, out: Path) -> int:
    tracemalloc.start()
    try:
        build(corpus, out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("documents", "characters"), [(3 * CHUNK_ROWS, 4_000), (80, CHUNK_CHARACTERS // 40)])
def test_memory_does_not_grow_with_the_corpus(documents: int, characters: int, tmp_path: Path) -> None:
    """Many documents, and few long ones. The first build is not measured: it loads what is loaded once."""
    small = write_corpus(tmp_path / "small.jsonl", documents, characters)
    large = write_corpus(tmp_path / "large.jsonl", 2 * documents, characters)
    build(small, tmp_path / "warm")
    peak, doubled = peak_bytes(small, tmp_path / "a"), peak_bytes(large, tmp_path / "b")
    assert doubled < 1.1 * peak
    assert doubled < 0.7 * 2 * documents * characters, "the texts are never there at once"


def test_documents_are_trained_on_or_held_out(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 200, 150)
    store, held = build(corpus, tmp_path)
    assert numbers(held) == sorted(held_out(np.array([len(t) for t in texts_of(corpus)]), seed=0))
    assert len(held) == 4
    assert numbers(store) == [n for n in range(200) if n not in numbers(held)]
    assert store.sources == ["kind 0", "kind 1", "kind 2"]
    assert [store.sources[s] for s in store.source_N] == [f"kind {n % 3}" for n in numbers(store)]


def texts_of(corpus: Path) -> list[str]:
    return [text.text for text in texts_to_tokens.read_texts([str(corpus)])]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 49, 50, 149, 150, 799, 800, 5000])
def test_held_out_documents_are_of_the_longest_third(count: int) -> None:
    """The definition in plain words: a fiftieth, at least one, at most 16, of the longest third; none of under ten."""
    lengths = np.random.default_rng(count).integers(0, 40, count)
    longest = sorted(range(count), key=lambda n: -lengths[n])[: -(-count // 3)]
    found = held_out(lengths, seed=7)
    assert found <= set(longest)
    assert len(found) == (0 if count < 10 else min(max(count // 50, 1), 16))
    if found:
        drawn = random_for(7, "extend", "heldout").choice(longest, size=len(found), replace=False)
        assert found == set(drawn.tolist())


def test_a_broken_document_shows_before_anything_is_tokenised(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 300, 50)
    lines = corpus.read_text(encoding="utf-8").splitlines()
    lines[149] = '{"words": "no text here"}'
    corpus.write_text("\n".join(lines), encoding="utf-8")

    encode = Encode()
    with pytest.raises(DataError, match=r"corpus\.jsonl:150: field `text` is missing"):
        build(corpus, tmp_path, encode)
    assert encode.seen == []


def test_a_document_that_cannot_be_tokenised_is_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 300, 50)
    corpus.write_text(corpus.read_text().replace('"title": "149"', '"title": "not a number"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"corpus\.jsonl:150: cannot be tokenised \(ValueError"):
        build(corpus, tmp_path)


def test_a_finished_store_is_opened_without_its_texts(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 30, 50)
    store, held = build(corpus, tmp_path)
    corpus.unlink()
    again = build(corpus, tmp_path)
    assert [s.fingerprint for s in again] == [store.fingerprint, held.fingerprint]
    with pytest.raises(DataError, match="no such file"):
        build(corpus, tmp_path, stamp="other contents")


def test_a_killed_build_tokenises_no_document_twice(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", 2000, 300)
    code = (
        "from pathlib import Path; import sys; from tests.data.test_to_tokens import *\n"
        "build(Path(sys.argv[1]), Path(sys.argv[2]), Encode(pause_s=0.001))"
    )
    command = [sys.executable, "-c", code, str(corpus), str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    parts = tmp_path / "out" / ".tokens.parts"
    while len(list(parts.glob("*.npz"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(parts.glob("*.npz")))
    assert 0 < done < 15
    encode = Encode()
    found = build(corpus, tmp_path / "out", encode)
    trained = [number for number in encode.seen if number not in numbers(found[1])]
    assert len(trained) == len(set(trained)) <= 1984 - done * CHUNK_ROWS
    whole = build(corpus, tmp_path / "whole")
    assert [s.fingerprint for s in found] == [s.fingerprint for s in whole]


TINY = "builtin:tiny-base"


def test_stores_keep_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As first written with reading 2. A key that changes without need has everybody's data tokenised anew."""
    monkeypatch.chdir(tmp_path)
    Path("books").mkdir()
    for number in range(12):
        Path(f"books/{number:02}.txt").write_text(f"Document {number}. " * (10 + number))
    encoder = MixedEncoder(DocumentEncoder(TINY, 2048), RowEncoder(TINY, 2048))
    rows: dict[str, int | None] = {"builtin:chat-0-8": 4}
    tokenize_texts(["builtin:chinese", "books"], rows, (Path("t"), Path("h")), encoder, stamp="stamp", seed=1)
    other = RowEncoder(TINY, 256, "split", "last", "strip")
    tokenize_rows(Path("r"), {"builtin:chat-0-8": None}, other, seed=3, stamp="stamp")
    found = [TokenStore.open(Path(name)).description for name in "thr"]
    assert [store["key"] for store in found] == [
        "2323bd51ad78cc550eb60457eef3bfb233100abcfef871b198efc24dcc866c2e",
        "2323bd51ad78cc550eb60457eef3bfb233100abcfef871b198efc24dcc866c2e",
        "e58a5c789143d18e0cc0b582af685c6c0508793921081680c02f3edd5cdc8a36",
    ]


def test_a_key_says_what_decides_the_tokens_and_keeps_its_names() -> None:
    rows = RowEncoder("models/it's", 4096)
    assert rows.key == (
        "RowEncoder(tokenizer=\"models/it's\", window=4096, overlong='truncate_middle_of_document', "
        "train_on='all', thinking='keep', reading=2)"
    )
    documents = DocumentEncoder("m", 2048)
    assert documents.key == "DocumentEncoder(tokenizer='m', window=2048)"
    mixed = MixedEncoder(documents, RowEncoder("m", 2048, "split", "last", "strip"))
    assert mixed.key == (
        "MixedEncoder(documents=DocumentEncoder(tokenizer='m', window=2048), rows=RowEncoder(tokenizer='m', "
        "window=2048, overlong='split', train_on='last', thinking='strip', reading=2))"
    )
