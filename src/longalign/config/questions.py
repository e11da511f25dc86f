"""What is asked about a document, and which answers are kept.

`preset: best` (the default) has every ingredient on that was shown to help and needs nothing from the user; `paper` is
LongAlign's plain Self-Instruct. A preset gives defaults only: a setting that is given counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from longalign.base.decides import EXECUTION
from longalign.config.base import Settings

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "best": {},  # the defaults of the fields below
    "paper": {
        "closed_book": False,
        "multi_hop": "off",
        "check_answers": False,
        "scores": False,
        "balance_evidence": False,
        "readers": False,
        "follow_up_questions": False,
        "unanswerable_share": 0.0,
        "question_overlap": 1.0,
        "quality": "off",
    },
}
"""What a preset has instead of the default of a field."""


TASKS = ("general", "summary", "reasoning", "extraction")
"""Kinds of questions that there are built-in prompts for."""


class QuestionSettings(Settings):
    """Part of `DataSettings`."""

    preset: Literal["paper", "best"] = Field(
        "best",
        description="defaults of the settings about questions: plain Self-Instruct as in the paper, or everything that "
        "makes rows better",
        json_schema_extra=EXECUTION,  # the settings that it fills decide the result
    )

    tasks: tuple[str, ...] = Field(
        TASKS,
        description="kinds of questions, drawn evenly per document; more by a section `## task NAME` in `prompts`",
    )
    prompts: str | None = Field(
        None,
        description="folder of prompt files of one's own, such as en.md: `longalign data prompts init FOLDER`",
        json_schema_extra=EXECUTION,  # what the files hold is an input of the stage, wherever they lie
    )
    questions_per_call: int = Field(5, gt=0, le=50, description="questions written per call (paper: 5)")
    turns: int = Field(1, gt=0, description="question-answer pairs kept in one row (paper: 1)")
    min_support: float = Field(
        0.3, ge=0, le=1, description="share of an answer's words that its evidence in the document must cover"
    )
    register_entries: int = Field(
        0, ge=0, description="entries planted per document, for answers that can be checked exactly (the demo's)"
    )
    closed_book: bool = Field(
        True, description="reject answers that the model also gives without the document (paper: false)"
    )
    multi_hop: Literal["off", "relabel", "reject"] = Field(
        "relabel",
        description="ask reasoning questions of single parts too; one that a part alone answers becomes an extraction "
        "row, or gives none (paper: off)",
    )
    multi_hop_calls: int = Field(3, gt=0, description="parts asked at most about one reasoning question")
    check_answers: bool = Field(
        True, description="let the checker judge whether an answer is supported, complete and correct (paper: false)"
    )
    scores: bool = Field(
        True, description="the same call also scores helpfulness, logicality, faithfulness, completeness (paper: false)"
    )
    unchecked: Literal["keep", "reject"] = Field(
        "keep", description="what becomes of an answer whose verdict cannot be read, asked twice"
    )
    checker: str | None = Field(
        None, description="model that judges answers, as `llm`; best of another family. Default: the model itself"
    )
    checker_concurrency: int | None = Field(
        None, gt=0, description="calls to the checker at once; default: `concurrency`", json_schema_extra=EXECUTION
    )
    checker_price_usd_per_million: tuple[float, float] | None = Field(
        None, description="price of the checker's input, output tokens", json_schema_extra=EXECUTION
    )
    balance_evidence: bool = Field(
        True, description="draw questions so that evidence spreads evenly over the document (paper: false)"
    )
    readers: bool = Field(True, description="name a reader, drawn by seed, in each call for questions (paper: false)")
    intents: str | None = Field(
        None, description="real requests to take as models, drawn by seed: a text file of lines, or .jsonl"
    )
    question_overlap: float = Field(
        0.8, gt=0, le=1,
        description="reject a question that shares this much of its words with one about the same document (1: only "
        "the very same)",
    )  # fmt: skip
    follow_up_questions: bool = Field(
        True, description="with several turns: ask for each next question after the conversation so far (paper: false)"
    )
    unanswerable_share: float = Field(
        0.05, ge=0, le=1, description="share of candidates asked what the document does not say (paper: 0)"
    )
    documents_per_row: int = Field(
        1, ge=1, le=5,
        description="documents that questions are about, together: similar ones, as many as fit. Questions need two of "
        "them at least",
    )  # fmt: skip
    distractors: int = Field(
        0, ge=0, le=9, description="other documents put around the right one, at most; a row has 0 to this many"
    )
    distractors_by: Literal["similarity", "random"] = Field(
        "similarity", description="which other documents: the most similar ones, or any"
    )
    question_temperature: float = Field(0.7, ge=0, description="temperature of the call for questions")
    answer_temperature: float = Field(0.0, ge=0, description="temperature of the call for the answer")
    max_new_tokens: int = Field(
        2048, gt=0, description="longest answer in tokens, thoughts included; an answer that is cut is rejected"
    )
    max_question_tokens: int | None = Field(
        None, gt=0, description="longest reply to the call for questions, thoughts included; default: 128 a question"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        """Settings that are not given take the preset's value."""
        if not isinstance(values, dict):
            return values
        return {**PRESETS.get(str(values.get("preset", "best")), {}), **values}

    @model_validator(mode="after")
    def _tasks_that_have_a_prompt(self) -> Self:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown and self.prompts is None:
            raise ValueError(
                f"tasks: `{unknown[0]}` has no prompt; there are {', '.join(TASKS)}. For one of your own write a "
                f"section `## task {unknown[0]}` into a prompt file (`longalign data prompts init FOLDER`) and give "
                "--prompts FOLDER"
            )
        if not self.tasks:
            raise ValueError("tasks: at least one is needed")
        return self

    @model_validator(mode="after")
    def _one_way_to_put_documents_together(self) -> Self:
        if self.distractors and self.documents_per_row > 1:
            raise ValueError(
                "distractors and documents_per_row do not go together: questions are about one document of several, "
                "or about all; set distractors to 0 or documents_per_row to 1"
            )
        return self

    @classmethod
    def as_written(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Settings of an earlier build: without a preset it was the paper's, and no text was checked."""
        return {"preset": "paper", "quality": "off", **values}

    @property
    def ingredients(self) -> tuple[str, ...]:
        """The ingredients that are on, beyond the paper's plain Self-Instruct."""
        on = {
            "closed_book": self.closed_book,
            "multi_hop": self.multi_hop != "off",
            "check_answers": self.check_answers,
            "scores": self.check_answers and self.scores,
            "balance_evidence": self.balance_evidence,
            "readers": self.readers,
            "intents": self.intents is not None,
            "question_overlap": self.question_overlap < 1,
            "follow_up_questions": self.follow_up_questions and self.turns > 1,
            "unanswerable": self.unanswerable_share > 0,
            "documents_per_row": self.documents_per_row > 1,
            "distractors": self.distractors > 0,
        }
        return tuple(name for name, is_on in on.items() if is_on)

    @property
    def plain(self) -> bool:
        """Whether rows are made as they were before there were presets (the closed-book filter is that old)."""
        return set(self.ingredients) <= {"closed_book"}
