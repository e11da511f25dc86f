"""The machines of a plan (`MACHINES`), and how training is executed on one (`Execution`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Ranks of one kind. FLOP/s and bytes/s are per rank; bandwidths count one direction.

    host_link: between accelerator and host. host_memory_bandwidth: a rank's share of the host's.
    efficiency: share of peak_flops that large matrix products and attention reach.
    """

    name: str
    ranks_per_node: int
    peak_flops: float
    memory_bytes: float
    node_bandwidth: float
    network_bandwidth: float
    host_link: float = float("inf")
    host_memory_bandwidth: float = float("inf")
    efficiency: float = 0.5

    def bandwidth(self, group_ranks: int) -> float:
        """Bytes/s a rank can send to the others of a group of neighbouring ranks."""
        return self.node_bandwidth if group_ranks <= self.ranks_per_node else self.network_bandwidth


MACHINES: Mapping[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine(name="a100-80g", ranks_per_node=8, peak_flops=312e12, memory_bytes=80e9, node_bandwidth=300e9,
                network_bandwidth=25e9, host_link=25e9, host_memory_bandwidth=40e9),
        Machine(name="h100-80g", ranks_per_node=8, peak_flops=989e12, memory_bytes=80e9, node_bandwidth=450e9,
                network_bandwidth=50e9, host_link=50e9, host_memory_bandwidth=60e9),
        Machine(name="h200", ranks_per_node=8, peak_flops=989e12, memory_bytes=141e9, node_bandwidth=450e9,
                network_bandwidth=50e9, host_link=50e9, host_memory_bandwidth=60e9),
        Machine(name="cpu", ranks_per_node=4, peak_flops=1e11, memory_bytes=16e9, node_bandwidth=5e9,
                network_bandwidth=1e9),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How training runs. `sharding`: "full" splits weights, gradients and optimizer over all ranks (FSDP2, ZeRO-3);
    "none" keeps them whole on each rank (DDP). Attention is exact and never stores a square of scores.
    half: matrix products in 16 bits; weights that train are float32 in any case.
    """

    sharding: Literal["full", "none"] = "full"
    half: bool = True
    gradient_checkpointing: bool = True
    activation_offload: bool = False
    mlp_tile_tokens: int | None = None
    cpu_offload: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"
    lora_rank: int | None = None
    lora_modules_to_save: tuple[str, ...] = ()
    quantize: Literal["4bit"] | None = None
    loss_chunk_tokens: int | None = None

    @property
    def sync(self) -> Literal["microbatch", "step"]:
        """Where ranks wait for each other: gathering sharded weights meets in every microbatch."""
        return "microbatch" if self.sharding == "full" else "step"

    @property
    def compute_bytes(self) -> int:
        """Of an element in matrix products."""
        return 2 if self.half else 4

    def sharded(self, ranks: int) -> bool:
        """Whether layers are gathered before use: from other ranks, or from the host alone."""
        return self.sharding == "full" and (ranks > 1 or self.cpu_offload)

    def stream_bytes(self, ranks: int) -> int:
        """Of an element of the residual stream: autocast adds half-precision results to a float32 embedding, while
        sharded and frozen embeddings are in the precision of compute.
        """
        return self.compute_bytes if self.sharded(ranks) or self.lora_rank is not None else 4
