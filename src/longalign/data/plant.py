"""Hides register entries in a document before questions are asked about it.

An answer about such an entry can be checked exactly and cannot be known without reading, at any length. The demo
trains and measures with them; on real data they are an ablation (`register_entries: 0` is the default).
"""

from __future__ import annotations

from dataclasses import replace

from longalign.base.files import random_for
from longalign.bundled.register import Fact, draw_facts, insert_facts
from longalign.config import DataSettings
from longalign.data.documents import Document


def entries_for(document_id: str, language: str, settings: DataSettings) -> list[Fact]:
    """The entries of one document, of the training split; they depend on seed and document only."""
    if not settings.register_entries:
        return []
    rng = random_for(settings.seed, "register", document_id)
    return draw_facts(rng, settings.register_entries, split="train", language="zh" if language == "zh" else "en")


def plant(document: Document, settings: DataSettings) -> Document:
    """The document with its entries at random depths; it keeps the id of the text it was made from."""
    entries = entries_for(document.id, document.language, settings)
    if not entries:
        return document
    depths = random_for(settings.seed, "depths", document.id).random(len(entries))
    return replace(document, text=insert_facts(document.text, entries, depths.tolist()))
