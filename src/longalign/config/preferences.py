"""Settings of `data preferences`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.base import Settings


class PreferenceSettings(Settings):
    """Two answers to one question: the row's own, and a worse one that a model gives."""

    llm: str = Field(
        description="who gives the rejected answer: `openai:MODEL@BASE_URL`, `anthropic:MODEL`, or a model directory"
    )
    rejected: Literal["window", "question", "sample"] = Field(
        "window",
        description="what the model sees: the document's last `short_window` tokens without the evidence, the question "
        "alone, or the whole document at `temperature`",
    )
    short_window: int = Field(1024, gt=0, description="tokens of the document that `rejected: window` leaves")
    samples: int = Field(1, gt=0, le=16, description="answers asked for a row; the least supported one is taken")
    temperature: float = Field(0.7, ge=0, description="temperature of the rejected answer")
    min_gap: float = Field(
        0.1, ge=0, le=1, description="by how much the document must support the chosen answer more than the rejected"
    )
    tokenizer: str = Field("builtin:tiny-base", description="tokenizer with chat template that counts lengths")
    max_length_tokens: int = Field(
        65536, gt=0, description="longest conversation, prompt and either answer; longer pairs are left out and counted"
    )
    max_new_tokens: int = Field(2048, gt=0, description="longest rejected answer in tokens; a cut one is no answer")
    concurrency: int = Field(8, gt=0, description="calls in flight at once", json_schema_extra=EXECUTION)
    timeout_s: float = Field(600.0, gt=0, description="longest wait for one reply", json_schema_extra=EXECUTION)
    max_cost_usd: float | None = Field(
        None, ge=0, description="stop before spending more, all runs counted", json_schema_extra=EXECUTION
    )
    price_usd_per_million: tuple[float, float] | None = Field(
        None, description="price of input, output tokens", json_schema_extra=EXECUTION
    )
    seed: int = Field(0, ge=0, description="random seed of the samples")
