"""The machine a plan is timed on, and how the training is carried out on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Ranks of one kind. FLOP/s and bytes/s are per rank; bandwidths count one direction.

    efficiency: share of peak_flops that large matrix products and attention reach.
    """

    name: str
    ranks_per_node: int
    peak_flops: float
    memory_bytes: float
    node_bandwidth: float
    network_bandwidth: float
    efficiency: float = 0.5

    def bandwidth(self, group_ranks: int) -> float:
        """Bytes/s a rank can send to the others of a group of neighbouring ranks."""
        return self.node_bandwidth if group_ranks <= self.ranks_per_node else self.network_bandwidth


MACHINES: Mapping[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine(name="a100-80g", ranks_per_node=8, peak_flops=312e12, memory_bytes=80e9, node_bandwidth=300e9,
                network_bandwidth=25e9),
        Machine(name="h100-80g", ranks_per_node=8, peak_flops=989e12, memory_bytes=80e9, node_bandwidth=450e9,
                network_bandwidth=50e9),
        Machine(name="h200", ranks_per_node=8, peak_flops=989e12, memory_bytes=141e9, node_bandwidth=450e9,
                network_bandwidth=50e9),
        Machine(name="cpu", ranks_per_node=4, peak_flops=1e11, memory_bytes=16e9, node_bandwidth=5e9,
                network_bandwidth=1e9),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How training runs. `sharding`: "full" splits weights, gradients and optimizer over all ranks (FSDP2, ZeRO-3);
    "none" keeps them whole on each rank (DDP). Attention is exact and never stores a square of scores.
    """

    sharding: Literal["full", "none"] = "full"
    gradient_checkpointing: bool = True
    activation_offload: bool = False
    cpu_offload: bool = False
    lora_rank: int | None = None
    loss_chunk_tokens: int = 1024

    @property
    def sync(self) -> Literal["microbatch", "step"]:
        """Where ranks wait for each other: gathering sharded weights meets in every microbatch."""
        return "microbatch" if self.sharding == "full" else "step"
