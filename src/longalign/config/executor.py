"""Where the work of a build is done: in this process, through a provider's batch API, or on a Ray cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longalign.base.decides import EXECUTION
from longalign.config.ray import RaySettings

Executor = Literal["local", "batch", "ray"]


class ExecutorSettings(RaySettings):
    """Part of `DataSettings`. None of these changes a row, and all may change between runs of one build."""

    executor: Executor = Field(
        "local",
        description="`local`: this process; `batch`: calls through the provider's batch API, half the price, in 24 h; "
        "`ray`: documents are read, and local models answer, on a Ray cluster",
        json_schema_extra=EXECUTION,
    )
    checker_executor: Literal["local", "batch"] | None = Field(
        None,
        description="how a checker behind an endpoint is asked; default: as `executor` says",
        json_schema_extra=EXECUTION,
    )
    batch_price_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="what a call in a batch costs, as a share of its plain price (`price_usd_per_million`)",
        json_schema_extra=EXECUTION,
    )
    batch_requests: int = Field(
        2000,
        gt=0,
        le=50_000,
        description="requests of one batch, and documents worked on (and held in memory) at once",
        json_schema_extra=EXECUTION,
    )
    batch_poll_s: float = Field(
        30.0, gt=0, description="seconds between two questions whether a batch has ended", json_schema_extra=EXECUTION
    )
    lost_batches: Literal["stop", "again"] = Field(
        "stop",
        description="a batch that the provider no longer knows: stop, or count it at its worst case and ask again",
        json_schema_extra=EXECUTION,
    )

    def checker_in_batches(self, endpoint: bool) -> bool:
        """Whether the checker is asked through a batch API. `endpoint`: it is behind one."""
        return (self.checker_executor or (self.executor if endpoint else "local")) == "batch"

    @property
    def in_batches(self) -> bool:
        """Whether any calls may go through a batch API."""
        return "batch" in (self.executor, self.checker_executor)
