"""Where the work of a build is done: in this process, or on a Ray cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.ray import RaySettings

Executor = Literal["local", "ray"]


class ExecutorSettings(RaySettings):
    """Part of `DataSettings`. None of these changes a row, and all may change between runs of one build."""

    executor: Executor = Field(
        "local",
        description="`local`: this process; `ray`: documents are read, and local models answer, on a Ray cluster",
        json_schema_extra=EXECUTION,
    )
