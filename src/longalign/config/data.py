"""Settings of stage `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.documents import DocumentSettings
from longalign.config.executor import ExecutorSettings
from longalign.config.questions import QuestionSettings
from longalign.config.request import RequestSettings

FailureKind = Literal[
    "failed",
    "truncated",
    "thinking_truncated",
    "only_thinking",
    "empty",
    "incomplete",
    "prompt_cut",
    "moderated",
    "too_long",
    "rejected",
    "unavailable",
    "malformed",
]
"""`failed`: every kind."""


class DataSettings(ExecutorSettings, RequestSettings, QuestionSettings, DocumentSettings):
    """Stage `data`: long instructions by Self-Instruct from documents (paper section 3.1)."""

    llm: str = Field(
        "offline",
        description="`offline`, `openai:MODEL@BASE_URL`, `anthropic:MODEL`, a local model directory, or `vllm:DIR`",
    )
    keep_reasoning: bool = Field(False, description="keep what the model thought, as `reasoning_content` of answers")
    rows: int = Field(10_000, gt=0, description="accepted rows to build (paper: 10,000)")
    concurrency: int = Field(8, gt=0, description="calls in flight at once", json_schema_extra=EXECUTION)
    timeout_s: float = Field(
        600.0,
        gt=0,
        description="longest wait for one whole reply, from sending to its last byte",
        json_schema_extra=EXECUTION,
    )
    retry: tuple[FailureKind, ...] = Field(
        (),
        description="ask failed calls of these kinds again, also of a finished build; `failed`: all kinds",
        json_schema_extra=EXECUTION,
    )
    max_cost_usd: float | None = Field(
        None, ge=0, description="stop before spending more, all runs counted", json_schema_extra=EXECUTION
    )
    give_up_after: int = Field(
        50,
        ge=0,
        description="stop when not one of the first N documents gave a row, and say why (0: go on)",
        json_schema_extra=EXECUTION,
    )
    price_usd_per_million: tuple[float, float] | None = Field(
        None, description="price of input, output tokens", json_schema_extra=EXECUTION
    )
    seed: int = Field(0, ge=0, description="random seed of the stage")
