"""Sequences on disk: three flat arrays, memory-mapped, written once.

    ids.npy      int32 [all tokens]      targets.npy  bool [all tokens]      offsets.npy  int64 [sequences + 1]
    rows.jsonl   what each sequence is: id, source, ...                      store.json   key, counts, fingerprint

`build_store` tokenises chunks of rows, in this process or in several; each finished chunk is a file of its own, so
a killed build goes on where it stopped, and two builds with the same rows give the same bytes in any process count.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from longalign.data.tokenize import TokenSequence
from longalign.errors import DataError, LongAlignError
from longalign.run import atomic_path, atomic_write_json, fingerprint

Encoded = tuple[list[tuple[TokenSequence, dict[str, Any]]], Counter[str]]
Encoder = Callable[[Any], Encoded]
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Item:
    """One row to tokenise, and where it came from (`rows.jsonl:17`), for messages."""

    where: str
    value: Any


@dataclass(frozen=True)
class TokenStore:
    """An open store; `store[i]` reads sequence i from the map."""

    folder: Path
    ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    description: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Raises `DataError` if the folder holds no whole store."""
        try:
            description = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "targets", "offsets")]
        except (OSError, ValueError) as error:
            raise DataError(f"{folder}: no readable token store ({error}); tokenise again") from None
        return cls(folder, arrays[0], arrays[1], np.asarray(arrays[2]), description)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> TokenSequence:
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return TokenSequence(np.asarray(self.ids[part]), np.asarray(self.targets[part]))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence."""
        return np.diff(self.offsets)

    @cached_property
    def target_counts(self) -> NDArray[np.int64]:
        """Targets of each sequence (N_i)."""
        if len(self) == 0:
            return np.zeros(0, dtype=np.int64)
        return np.add.reduceat(self.targets, self.offsets[:-1], dtype=np.int64)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """What each sequence is: `id`, `source` and whatever the encoder noted."""
        with (self.folder / "rows.jsonl").open(encoding="utf-8") as stream:
            return [json.loads(line) for line in stream]

    @property
    def fingerprint(self) -> str:
        """Of the content: ids, targets, offsets."""
        return str(self.description["fingerprint"])

    @property
    def counts(self) -> dict[str, int]:
        """What happened to rows on the way in (`overlong`, `dropped_without_targets`, ...)."""
        return cast(dict[str, int], self.description["counts"])


def build_store(
    folder: Path,
    chunks: Iterable[Sequence[Item]],
    encode: Encoder,
    *,
    key: str,
    workers: int = 1,
    on_chunk: Callable[[int], None] = lambda rows: None,
) -> TokenStore:
    """Tokenise `chunks` with `encode` (picklable when `workers` > 1) into `folder`, or open what is there.

    `key` names the content (rows, tokenizer, settings); a store or chunk of another key is replaced. Row by row,
    `encode` returns sequences with their notes, and counts. Its errors come back as `DataError` naming the row.
    """
    if (folder / "store.json").exists():
        store = TokenStore.open(folder)
        if store.description["key"] == key:
            return store
    parts = folder.parent / f".{folder.name}.parts"
    if parts.exists() and (parts / "key").read_text(encoding="utf-8") != key:
        shutil.rmtree(parts)
    if not parts.exists():
        with atomic_path(parts) as temporary:
            temporary.mkdir()
            (temporary / "key").write_text(key, encoding="utf-8")
    count = 0
    for number, rows in _run(_todo(chunks, parts), encode, parts, workers):
        on_chunk(rows)
        count = max(count, number + 1)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _join([_part_path(parts, number) for number in range(count)], temporary, key)
    shutil.rmtree(parts)
    return TokenStore.open(folder)


def _todo(chunks: Iterable[Sequence[Item]], parts: Path) -> Iterator[tuple[int, Sequence[Item], bool]]:
    for number, chunk in enumerate(chunks):
        yield number, chunk, _part_path(parts, number).exists()


def _run(
    todo: Iterable[tuple[int, Sequence[Item], bool]], encode: Encoder, parts: Path, workers: int
) -> Iterator[tuple[int, int]]:
    """Encode what is missing; yields (chunk number, rows) as chunks finish."""
    if workers <= 1:
        for number, chunk, finished in todo:
            if not finished:
                _encode_chunk(chunk, encode, _part_path(parts, number))
            yield number, len(chunk)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: dict[Future[None], tuple[int, int]] = {}
        try:
            for number, chunk, finished in todo:
                if finished:
                    yield number, len(chunk)
                    continue
                running[pool.submit(_encode_chunk, chunk, encode, _part_path(parts, number))] = (number, len(chunk))
                while len(running) >= 2 * workers:
                    yield from _collect(running)
            while running:
                yield from _collect(running)
        finally:
            for future in running:
                future.cancel()


def _collect(running: dict[Future[None], tuple[int, int]]) -> Iterator[tuple[int, int]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        number, rows = running.pop(future)
        future.result()  # a worker's error surfaces here
        yield number, rows


def _part_path(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npz"


def _encode_chunk(chunk: Sequence[Item], encode: Encoder, path: Path) -> None:
    sequences: list[tuple[TokenSequence, dict[str, Any]]] = []
    counts: Counter[str] = Counter()
    for item in chunk:
        try:
            found, noted = encode(item.value)
        except LongAlignError as error:
            raise type(error)(f"{item.where}: {error}") from None
        except Exception as error:
            raise DataError(f"{item.where}: cannot be tokenised ({type(error).__name__}: {error})") from None
        sequences += found
        counts += noted
        counts["rows"] += 1
    arrays = [sequence for sequence, _ in sequences]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            ids=np.concatenate([s.ids_T for s in arrays] or [np.zeros(0, np.int32)]).astype(np.int32),
            targets=np.concatenate([s.target_T for s in arrays] or [np.zeros(0, bool)]),
            lengths=np.array([s.length_tokens for s in arrays], dtype=np.int64),
            notes=np.frombuffer(
                json.dumps({"rows": [note for _, note in sequences], "counts": counts}, ensure_ascii=False).encode(),
                dtype=np.uint8,
            ),
        )


def _join(paths: Sequence[Path], folder: Path, key: str) -> None:
    """Lay all chunks end to end; one chunk in memory at a time."""
    lengths_parts, counts, digest = [], Counter[str](), sha256()
    for path in paths:
        with np.load(path) as part:
            lengths_parts.append(part["lengths"])
    lengths = np.concatenate(lengths_parts or [np.zeros(0, np.int64)])
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    total = int(offsets[-1])
    ids = open_memmap(folder / "ids.npy", mode="w+", dtype=np.int32, shape=(total,)) if total else None
    targets = open_memmap(folder / "targets.npy", mode="w+", dtype=np.bool_, shape=(total,)) if total else None
    place = 0
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for path in paths:
            with np.load(path) as part:
                part_ids, part_targets = part["ids"], part["targets"]
                notes = json.loads(part["notes"].tobytes())
            if ids is not None and targets is not None:
                ids[place : place + len(part_ids)] = part_ids
                targets[place : place + len(part_ids)] = part_targets
            place += len(part_ids)
            digest.update(part_ids.tobytes() + part_targets.tobytes())
            counts += Counter(notes["counts"])
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in notes["rows"])
    if ids is None or targets is None:
        np.save(folder / "ids.npy", np.zeros(0, np.int32))
        np.save(folder / "targets.npy", np.zeros(0, bool))
    else:
        ids.flush()
        targets.flush()
    np.save(folder / "offsets.npy", offsets)
    atomic_write_json(
        folder / "store.json",
        {
            "format": FORMAT_VERSION,
            "key": key,
            "sequences": len(lengths),
            "tokens": total,
            "counts": dict(counts),
            "fingerprint": fingerprint(digest.hexdigest(), sha256(offsets.tobytes()).hexdigest()),
        },
    )
    for path in folder.iterdir():
        with path.open("rb") as stream_b:
            os.fsync(stream_b.fileno())
