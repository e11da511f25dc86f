"""What is asked about a document, and which answers are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.config.base import Settings


class QuestionSettings(Settings):
    """Part of `DataSettings`."""

    tasks: tuple[Literal["general", "summary", "reasoning", "extraction"], ...] = Field(
        ("general", "summary", "reasoning", "extraction"), description="kinds of questions, drawn evenly per document"
    )
    questions_per_call: int = Field(5, gt=0, le=50, description="questions written per call (paper: 5)")
    turns: int = Field(1, gt=0, description="question-answer pairs kept in one row (paper: 1)")
    min_support: float = Field(
        0.3, ge=0, le=1, description="share of an answer's words that its evidence in the document must cover"
    )
    register_entries: int = Field(
        0, ge=0, description="entries planted per document, for answers that can be checked exactly (the demo's)"
    )
    closed_book: bool = Field(False, description="reject answers that the model also gives without the document")
    question_temperature: float = Field(0.7, ge=0, description="temperature of the call for questions")
    answer_temperature: float = Field(0.0, ge=0, description="temperature of the call for the answer")
    max_new_tokens: int = Field(
        2048, gt=0, description="longest answer in tokens, thoughts included; an answer that is cut is rejected"
    )
    max_question_tokens: int | None = Field(
        None, gt=0, description="longest reply to the call for questions, thoughts included; default: 128 a question"
    )
