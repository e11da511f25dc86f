"""The paper's nine source kinds, recognised by a `source` field or a path."""

from __future__ import annotations

import re
from pathlib import PurePath

# Kind -> words by which a field of the Pile, RedPajama, or a folder name says so; whole words of lower-case text.
NAMES: dict[str, tuple[str, ...]] = {
    "arxiv": ("arxiv",),
    "books": ("books", "book", "books3", "bookcorpus", "bookcorpus2", "gutenberg", "pg19", "pg-19"),
    "c4": ("c4",),
    "clue": ("clue", "cluecorpus", "cluecorpus2020"),
    "commoncrawl": ("commoncrawl", "common_crawl", "common-crawl", "cc", "pile-cc", "cc-net", "fineweb"),
    "github": ("github", "starcoder", "the-stack"),
    "stackexchange": ("stackexchange", "stack_exchange", "stack-exchange", "stackoverflow"),
    "wikipedia": ("wikipedia", "wiki", "enwiki", "zhwiki"),
    "wudao": ("wudao", "wudaocorpora"),
}
KINDS = tuple(NAMES)
LONGEST_LABEL = 60


def source_kind(label: str, origin: str = "") -> str:
    """The kind a label (field or path) names, else the label's first folder or file stem, shortened."""
    text = label.lower()
    for kind, names in NAMES.items():
        for name in names:
            if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text):
                return kind
    if not label:
        return PurePath(origin).stem or "unknown"
    if label.startswith("builtin:"):
        return label.removeprefix("builtin:")
    parts = PurePath(label).parts
    return (parts[0] if len(parts) > 1 else PurePath(label).stem)[:LONGEST_LABEL]
