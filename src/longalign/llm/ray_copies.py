"""How many copies of a model a Ray cluster is to hold, and the place for them: all of it at once, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from longalign.base.ray_cluster import amounts
from longalign.errors import ConfigError, RunError

PLACING_S = 30.0
"""Longest wait for the place of copies."""


@dataclass(frozen=True)
class Copies:
    """Copies of one model on a cluster. `gpus_each`: None is one where the cluster has GPUs.

    `beside`: copies of the build's other model, which needs its place at the same time.
    """

    address: str | None
    count: int
    gpus_each: int | None = None
    beside: int = 0


def resources_of(copies: Copies, cluster: Mapping[str, float]) -> dict[str, float]:
    """What one copy takes."""
    gpus = min(1, int(cluster.get("GPU", 0))) if copies.gpus_each is None else copies.gpus_each
    return {"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1}


def room(nodes: Iterable[Mapping[str, float]], each: Mapping[str, float]) -> int:
    """How many copies that take `each` the nodes could hold; a copy lies on one node."""
    return sum(min(int(node.get(kind, 0) // need) for kind, need in each.items()) for node in nodes)


def place(ray: Any, copies: Copies, each: Mapping[str, float], spec: str) -> Any:
    """A placement group with a bundle a copy.

    Raises `ConfigError` where the cluster could never hold the copies, `RunError` where others use it.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = room(nodes, each)
    wanted = f"{copies.count} copies of {spec}" if copies.count > 1 else f"a copy of {spec}"
    if copies.beside:
        wanted += f" and {copies.beside} of the other model"
    wanted += f" ({amounts(each)} each)"
    has, free = ray.cluster_resources(), ray.available_resources()
    if copies.count + copies.beside > most:
        raise ConfigError(
            f"executor ray: no place for {wanted}: the cluster has {amounts(has)} on {len(nodes)} "
            f"node{'s' * (len(nodes) != 1)} ({amounts(free)} free), room for {most}; lower --ray_copies, "
            "--ray_checker_copies or --ray_gpus_per_copy, or add nodes"
        )
    group = ray.util.placement_group([dict(each)] * copies.count, strategy="PACK")
    if not group.wait(PLACING_S):
        free = ray.available_resources()
        ray.util.remove_placement_group(group)
        raise RunError(
            f"executor ray: waited {PLACING_S:g} s for the place of {wanted}: {amounts(free)} of {amounts(has)} are "
            "free, others use the rest; wait for them, or lower --ray_copies"
        )
    return group
