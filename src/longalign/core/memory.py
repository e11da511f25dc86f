"""Memory of a rank, part by part, and the largest window that fits: an estimate, with its parts shown."""

from __future__ import annotations

from dataclasses import dataclass

from longalign.core.hardware import Execution, Machine
from longalign.core.shapes import ModelShape
from longalign.core.timing import lora_parameters

RESERVE_BYTES = 3e9  # CUDA context, communication buffers, fragmentation


@dataclass(frozen=True)
class RankMemory:
    """Bytes on one rank at the peak of a step."""

    states: float
    gathered_weights: float
    checkpoints: float
    layer: float
    head: float
    reserve: float

    @property
    def total(self) -> float:
        return self.states + self.gathered_weights + self.checkpoints + self.layer + self.head + self.reserve


def rank_memory(shape: ModelShape, execution: Execution, *, ranks: int, tokens: int) -> RankMemory:
    """Memory of one rank that runs microbatches of `tokens` tokens (its own share under sequence parallelism).

    states: bf16 weight and gradient, float32 master weight and two Adam moments: 16 bytes a trained weight; frozen
        weights 2. Sharded over all ranks with "full"; on the CPU with `cpu_offload`.
    gathered_weights: two layers whole (one running, one on its way), with the gradient of one; head and embedding.
    checkpoints: the input of every layer; without gradient checkpointing what every layer keeps.
    layer: what one layer keeps between its forward and backward pass, and the gradients of the widest part.
    head: float32 logits, their gradient and the gradient of the head, for a chunk of targets at a time.
    """
    trained = shape.parameters if execution.lora_rank is None else lora_parameters(shape, execution.lora_rank)
    frozen = 0 if execution.lora_rank is None else shape.parameters
    shards = ranks if execution.sharding == "full" else 1
    states = (16.0 * trained + 2.0 * frozen) / shards
    gathered = 0.0
    if (execution.sharding == "full" and ranks > 1) or execution.cpu_offload:
        copies = 3 if execution.lora_rank is None else 2
        gathered = 2.0 * copies * max(shape.layer_parameters(), shape.head_parameters)
    experts = shape.experts_per_token * shape.intermediate + shape.shared_intermediate
    kept_a_token = 2.0 * (5 * shape.hidden + 2 * shape.attention_width + 2 * shape.kv_width + 3 * experts)
    boundary = 0.0 if execution.activation_offload else 2.0 * shape.hidden * tokens * shape.layers
    if not execution.gradient_checkpointing:
        boundary = kept_a_token * tokens * shape.layers
    working = tokens * (kept_a_token + 2.0 * (2 * experts + 2 * shape.hidden) + 4.0 * 2 * shape.hidden)
    chunk = min(execution.loss_chunk_tokens, tokens)
    head = 2 * 4.0 * chunk * shape.vocabulary + 4.0 * shape.head_parameters + 2 * 4.0 * chunk * shape.hidden
    return RankMemory(
        states=0.0 if execution.cpu_offload else states,
        gathered_weights=gathered,
        checkpoints=boundary,
        layer=working,
        head=head,
        reserve=RESERVE_BYTES,
    )


def largest_microbatch(shape: ModelShape, execution: Execution, machine: Machine, *, ranks: int) -> int:
    """Most tokens a rank's microbatch can have within the machine's memory; 0 if not even one token fits."""
    low, high = 0, 1 << 30
    while low < high:
        middle = (low + high + 1) // 2
        if rank_memory(shape, execution, ranks=ranks, tokens=middle).total <= machine.memory_bytes:
            low = middle
        else:
            high = middle - 1
    return low
