"""Which documents a build reads, and how long they may be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.base import Settings


class DocumentSettings(Settings):
    """Part of `DataSettings`."""

    documents: tuple[str, ...] = Field((), description="files, folders, .jsonl, .parquet, or `builtin:` corpora")
    text_field: str | None = Field(
        None, min_length=1, description="field of rows that holds the text, `outer.inner` inside another"
    )
    repositories: Literal["join", "files"] = Field(
        "join", description="code of a repository: one document per folder of it, or one per file"
    )
    languages: tuple[str, ...] = Field(
        (), description="languages of documents that are wanted, as ISO 639-1 codes such as `en`; default: all"
    )
    quality: Literal["check", "off"] = Field(
        "check",
        description="cut contents pages, link lists and navigation out of documents, and leave out documents that are "
        "no text (paper: off)",
    )
    file_timeout_s: float = Field(
        60.0, gt=0, description="longest time that reading one file may take", json_schema_extra=EXECUTION
    )
    file_memory_gib: float = Field(
        4.0, gt=0, description="most memory that reading one file may take", json_schema_extra=EXECUTION
    )
    file_workers: int | None = Field(
        None,
        gt=0,
        description="files read at once, of formats that have a parser; default: one a core, at most 8",
        json_schema_extra=EXECUTION,
    )
    tokenizer: str = Field("builtin:tiny-base", description="tokenizer that counts lengths")
    min_length_tokens: int | None = Field(
        None,
        gt=0,
        description="shortest document; default: 8192 (paper), and shorter ones only if there are too few",
    )
    max_length_tokens: int = Field(65536, gt=31, description="longest row (paper: 64k)")
    reserve_tokens: int | None = Field(
        None,
        gt=0,
        description="tokens of a row kept free for questions and answers; default: a sixteenth of the row, "
        "in short rows more (40 a turn and 12 a register entry, at most half)",
    )
    longer_documents: Literal["cut", "skip"] = Field(
        "cut", description="documents above the limit: cut into parts of evenly drawn length, or leave out"
    )
    length_exponent: float = Field(
        1.0, description="the chance of drawing a document is proportional to length ** this (0: equal chances)"
    )
    chinese_share: float | None = Field(
        None, ge=0, le=1, description="share of Chinese rows; default: 0.1 (paper) if documents are in both languages"
    )
    max_rows_per_document: int = Field(
        4, gt=0, description="passes over the documents if one is not enough, each with another kind of question"
    )
    duplicate_share: float = Field(
        0.8, gt=0, le=1, description="leave out a document if this share of its 13-grams occurs in longer ones"
    )
    decontaminate: tuple[str, ...] = Field((), description="evaluation files whose texts must not be in documents")
    contaminated_share: float = Field(
        0.5, gt=0, le=1, description="leave out a document that has this share of an evaluation text's 13-grams"
    )
