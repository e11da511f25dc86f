"""Rows or documents to a token store, a chunk at a time, with progress and as many processes as pay."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from longalign.base.progress import Progress
from longalign.core.text import CHARACTERS_PER_TOKEN
from longalign.data.store import Encoder, Item, TokenStore, build_store

CHUNK_ROWS = 128
CHUNK_CHARACTERS = 4_000_000
CHARACTERS_FOR_WORKERS = 20_000_000
"""Below this, starting processes takes longer than tokenising."""


def tokenize(
    folder: Path, items: Iterable[Item], encoder: Encoder, *, key: str, total: int, characters: int, unit: str,
    about: Mapping[str, Any] | None = None,
) -> TokenStore:  # fmt: skip
    """`build_store` of `total` items with progress, in several processes where `characters` (about) pay for them."""
    workers = 1 if characters < CHARACTERS_FOR_WORKERS else min(os.cpu_count() or 1, 16)
    with Progress("tokenise", total=total, unit=unit) as bar:
        chunks = _chunks(items)
        return build_store(folder, chunks, encoder, key=key, workers=workers, on_chunk=bar.advance, about=about)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Bounded in rows, so that progress shows, and in characters, so that memory does not depend on their length."""
    chunk: list[Item] = []
    characters = 0
    for item in items:
        chunk.append(item)
        characters += _characters(item.value)
        if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(value: Any) -> int:
    if isinstance(value, tuple):  # encoded already
        return int(CHARACTERS_PER_TOKEN * sum(part.length_tokens for part, _ in value[0]))
    if "messages" in value:
        return sum(len(str(message.get("content") or "")) for message in value["messages"])
    return len(value["text"])
