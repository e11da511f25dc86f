"""Sequences on disk: flat arrays, memory-mapped, written once.

    ids.npy      int32 [all tokens]       target_counts.npy  int64 [sequences]    rows.jsonl  a line a sequence: id, ...
    targets.npy  bool  [all tokens]       sources.npy        int32 [sequences]    store.json  key, counts, fingerprint,
    offsets.npy  int64 [sequences + 1]                                                        names of the sources

Opening one costs the same for a thousand sequences and for ten million: names of sequences are read from
rows.jsonl only when needed. `build_store` tokenises chunks of rows, in this process or in several, with a few chunks
in memory. Each finished chunk is a file of its own, so a killed build resumes where it stopped. The same rows give
the same bytes with any number of processes.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from longalign.base.files import atomic_path, atomic_write_json, fingerprint, json_line, sync
from longalign.data.tokenize import TokenSequence
from longalign.errors import DataError, LongAlignError

Encoded = tuple[list[tuple[TokenSequence, dict[str, Any]]], Counter[str]]
Encoder = Callable[[Any], Encoded]
FORMAT_VERSION = 2
ARRAYS = ("ids", "targets", "offsets", "target_counts", "sources")


@dataclass(frozen=True)
class Item:
    """One row to tokenise, and where it came from (`rows.jsonl:17`), for messages."""

    where: str
    value: Any


@dataclass(frozen=True)
class TokenStore:
    """An open store; `store[i]` reads sequence i from the map.

    ids, targets: of all tokens. offsets: where each sequence starts, and the end. target_counts_N: N_i of each
    sequence. source_N: which of `sources` each sequence comes from.
    """

    folder: Path
    description: dict[str, Any]
    ids: NDArray[np.int32]
    targets: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    target_counts: NDArray[np.int64]
    source_N: NDArray[np.int32]

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Raises `DataError` if the folder holds no whole store."""
        try:
            description = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            if description["format"] != FORMAT_VERSION:
                raise ValueError(f"format {description['format']}, this version reads {FORMAT_VERSION}")
            arrays = [np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ARRAYS]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: no readable token store ({error}); tokenise again") from None
        return cls(folder, description, *arrays)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> TokenSequence:
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return TokenSequence(self.ids[part], self.targets[part])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence."""
        return np.diff(self.offsets)

    @property
    def sources(self) -> list[str]:
        """Names of the sources, in order of first appearance."""
        return cast(list[str], self.description["sources"])

    def notes(self, sequences: Sequence[int]) -> list[dict[str, Any]]:
        """What these sequences are: `id`, `source` and whatever the encoder noted. Reads the file through, so it is
        for messages and looks, not for every step."""
        wanted = set(sequences)
        found = {}
        with (self.folder / "rows.jsonl").open(encoding="utf-8") as stream:
            for number, line in enumerate(islice(stream, max(wanted, default=-1) + 1)):
                if number in wanted:
                    found[number] = json.loads(line)
        return [found[number] for number in sequences]

    def names(self, sequences: Sequence[int]) -> list[str]:
        """A name a person can find each of these sequences by."""
        notes = zip(sequences, self.notes(sequences), strict=True)
        return [str(note.get("where") or note.get("id") or number) for number, note in notes]

    @property
    def fingerprint(self) -> str:
        """Of the content: ids, targets, offsets."""
        return str(self.description["fingerprint"])

    @property
    def counts(self) -> dict[str, int]:
        """What happened to rows on the way in (`overlong`, `dropped_without_targets`, ...)."""
        return cast(dict[str, int], self.description["counts"])


def finished_store(folder: Path, key: str) -> TokenStore | None:
    """The store in `folder` if it is whole and has this content."""
    try:
        store = TokenStore.open(folder)
    except DataError:
        return None
    return store if store.description["key"] == key else None


def build_store(
    folder: Path,
    chunks: Iterable[Sequence[Item]],
    encode: Encoder,
    *,
    key: str,
    workers: int = 1,
    on_chunk: Callable[[int], None] = lambda rows: None,
    about: Mapping[str, Any] | None = None,
) -> TokenStore:
    """Tokenise `chunks` with `encode` (picklable when `workers` > 1) into `folder`, or open what is there.

    `key` names the content (rows, tokenizer, settings); a store or chunk of another key is replaced. Row by row,
    `encode` returns sequences with their notes, and counts. Its errors come back as `DataError` naming the row.
    `chunks` is read as it is needed: at most two chunks a worker are in memory. `about`: more for store.json.
    """
    if store := finished_store(folder, key):
        return store
    key_of_parts = f"{key} {FORMAT_VERSION}"
    parts = folder.parent / f".{folder.name}.parts"
    if parts.exists() and (parts / "key").read_text(encoding="utf-8") != key_of_parts:
        shutil.rmtree(parts)
    if not parts.exists():
        with atomic_path(parts) as temporary:
            temporary.mkdir()
            (temporary / "key").write_text(key_of_parts, encoding="utf-8")
    count = 0
    for number, rows in _run(_todo(chunks, parts), encode, parts, workers):
        on_chunk(rows)
        count = max(count, number + 1)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _join([_part_path(parts, number) for number in range(count)], temporary, key, about or {})
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
            target_counts=np.array([s.target_count for s in arrays], dtype=np.int64),
            notes=np.frombuffer(
                json.dumps({"rows": [note for _, note in sequences], "counts": counts}, ensure_ascii=False).encode(),
                dtype=np.uint8,
            ),
        )


def _join(paths: Sequence[Path], folder: Path, key: str, about: Mapping[str, Any]) -> None:
    """Lay all chunks end to end; one chunk in memory at a time. Plain writes: dirty pages of a map would stay."""
    lengths, target_counts = (_gathered(paths, name) for name in ("lengths", "target_counts"))
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    counts, digest, numbers = Counter[str](about.get("counts")), sha256(), dict[str, int]()
    files, source_N, place = dict[str, Any](), np.zeros(len(lengths), dtype=np.int32), 0
    with (
        _flat(folder / "ids.npy", np.int32, int(offsets[-1])) as ids,
        _flat(folder / "targets.npy", np.bool_, int(offsets[-1])) as targets,
        (folder / "rows.jsonl").open("w", encoding="utf-8") as stream,
    ):
        for path in paths:
            with np.load(path) as part:
                part_ids, part_targets = part["ids"], part["targets"]
                notes = json.loads(part["notes"].tobytes())
            ids.write(part_ids.data)
            targets.write(part_targets.data)
            digest.update(part_ids.data)
            digest.update(part_targets.data)
            counts += Counter(notes["counts"])
            for note in notes["rows"]:
                source_N[place] = numbers.setdefault(str(note.get("source") or "unknown"), len(numbers))
                file = note.pop("file", "documents")
                files[file] = files.get(file, 0) + np.array((1, lengths[place], target_counts[place]))
                place += 1
                stream.write(json_line(note))
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "target_counts.npy", target_counts)
    np.save(folder / "sources.npy", source_N)
    atomic_write_json(
        folder / "store.json",
        {
            **about,
            "format": FORMAT_VERSION,
            "key": key,
            "sequences": len(lengths),
            "tokens": int(offsets[-1]),
            "counts": dict(counts),
            "sources": list(numbers),
            "files": {file: sums.tolist() for file, sums in files.items()},
            "fingerprint": fingerprint(digest.hexdigest(), sha256(offsets.tobytes()).hexdigest()),
        },
    )
    for path in folder.iterdir():
        sync(path)


def _gathered(paths: Sequence[Path], name: str) -> NDArray[np.int64]:
    found = [np.zeros(0, dtype=np.int64)]
    for path in paths:
        with np.load(path) as part:
            found.append(part[name])
    return np.concatenate(found)


def _flat(path: Path, dtype: type[np.generic], length: int) -> IO[bytes]:
    """A .npy file of that many values, open to write them."""
    stream = path.open("wb")
    header = {"descr": dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (length,)}
    write_array_header_1_0(stream, header)
    return stream
