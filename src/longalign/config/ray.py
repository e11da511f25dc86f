"""Where a Ray cluster is, and how many copies of a local model it holds."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.base import Settings


class RaySettings(Settings):
    """Part of `ExecutorSettings`. None of these changes a row, and all may change between runs of one build."""

    ray_address: str | None = Field(
        None,
        description="`executor: ray`: HOST:PORT of a running cluster, or `auto` on a node of it; default: start Ray "
        "on this machine",
        json_schema_extra=EXECUTION,
    )
    ray_copies: int = Field(
        1,
        gt=0,
        description="`executor: ray`: copies of a local model as `llm`, each with one CPU and `ray_gpus_per_copy`",
        json_schema_extra=EXECUTION,
    )
    ray_checker_copies: int | None = Field(
        None,
        gt=0,
        description="the same for a local model as `checker`; default: `ray_copies`",
        json_schema_extra=EXECUTION,
    )
    ray_gpus_per_copy: int | None = Field(
        None,
        ge=0,
        description="GPUs of one copy: 0 or 1, with `vllm:` also more; default: 1 if the cluster has GPUs, else 0",
        json_schema_extra=EXECUTION,
    )
    vllm_engine: dict[str, Any] = Field(
        {},
        description="further arguments of vLLM's engine for a `vllm:` model: `'{\"max_model_len\": 80000}'`",
        json_schema_extra=EXECUTION,
    )
