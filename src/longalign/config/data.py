"""Settings of stage `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.base import Settings


class DataSettings(Settings):
    """Stage `data`: long instructions by Self-Instruct from documents (paper section 3.1)."""

    documents: tuple[str, ...] = Field((), description="files, folders, .jsonl, .parquet, or `builtin:` corpora")
    llm: str = Field(
        "offline", description="`offline`, `openai:MODEL@BASE_URL`, `anthropic:MODEL`, or a local model directory"
    )
    rows: int = Field(10_000, gt=0, description="accepted rows to build (paper: 10,000)")
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
    tasks: tuple[Literal["general", "summary", "reasoning", "extraction"], ...] = Field(
        ("general", "summary", "reasoning", "extraction"), description="kinds of questions, drawn evenly per document"
    )
    questions_per_call: int = Field(5, gt=0, le=50, description="questions written per call (paper: 5)")
    turns: int = Field(1, gt=0, description="question-answer pairs kept in one row (paper: 1)")
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
    min_support: float = Field(
        0.3, ge=0, le=1, description="share of an answer's words that its evidence in the document must cover"
    )
    register_entries: int = Field(
        0, ge=0, description="entries planted per document, for answers that can be checked exactly (the demo's)"
    )
    closed_book: bool = Field(False, description="reject answers that the model also gives without the document")
    question_temperature: float = Field(0.7, ge=0, description="temperature of the call for questions")
    answer_temperature: float = Field(0.0, ge=0, description="temperature of the call for the answer")
    max_new_tokens: int = Field(2048, gt=0, description="longest answer in tokens; an answer that is cut is rejected")
    concurrency: int = Field(8, gt=0, description="calls in flight at once", json_schema_extra=EXECUTION)
    timeout_s: float = Field(600.0, gt=0, description="longest wait for one reply", json_schema_extra=EXECUTION)
    max_cost_usd: float | None = Field(
        None, ge=0, description="stop before spending more, all runs counted", json_schema_extra=EXECUTION
    )
    price_usd_per_million: tuple[float, float] | None = Field(
        None, description="price of input, output tokens", json_schema_extra=EXECUTION
    )
    seed: int = Field(0, ge=0, description="random seed of the stage")
