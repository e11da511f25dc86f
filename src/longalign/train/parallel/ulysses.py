"""Sequence parallelism (Ulysses, arXiv 2309.14509): several ranks share one pack.

Every rank of a group holds T / P consecutive positions of the pack. All layers but attention treat tokens one by one,
so they need nothing. Around attention an all-to-all trades positions for heads: each rank then has all T positions of
Hq / P heads, runs the ordinary packed attention with the *global* segment boundaries, and trades back.

    sp = SequenceParallel.start(degree)           # consecutive ranks form a group; data rank = rank // degree
    sp.check(model.config)
    out = model(**shard_inputs(inputs, sp))       # inputs: the whole pack, the same on every rank of the group
    out.loss.backward()

The rule for gradients: a rank's loss is the sum over its own positions, and the group's loss is the sum over its ranks.
DDP and FSDP average over *all* ranks, so weights are multiplied by the number of all ranks (sequence-parallel ones
included), exactly as without sequence parallelism.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

from longalign.errors import ModelError
from longalign.train.attention import pack_kwargs
from longalign.train.collate import Microbatch

PER_TOKEN = {"input_ids": 0, "position_ids": 0, "target_ids": -100, "loss_weights": 0.0}
"""Inputs that are cut along the sequence, and what fills them up: a pad token predicts nothing and weighs nothing."""


class SequenceParallel:
    """One group of ranks that share packs. Pass it to `pack_kwargs(..., sequence_parallel=self)`; it holds no state."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self.degree = dist.get_world_size(group)
        self.rank = dist.get_rank(group)

    @classmethod
    def start(cls, degree: int) -> "SequenceParallel":
        """Split all ranks into groups of `degree` consecutive ones. Every rank must call this, once."""
        world = dist.get_world_size()
        if degree < 1 or world % degree:
            raise ModelError(
                f"{world} ranks cannot form sequence-parallel groups of {degree}; use a divisor of {world}"
            )
        group, _ = dist.new_subgroups(group_size=degree)  # type: ignore[no-untyped-call]
        return cls(group)

    def check(self, config: Any) -> None:
        """Raise `ModelError` unless the model's query heads can be dealt out evenly."""
        heads = int(config.get_text_config().num_attention_heads)
        if heads % self.degree:
            possible = [d for d in range(2, heads + 1) if heads % d == 0]
            raise ModelError(
                f"sequence_parallel={self.degree} does not divide the model's {heads} attention heads; "
                f"possible degrees: {', '.join(map(str, possible)) or 'none'}"
            )

    def to_heads(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, H, T/P, D] of every head to [B, H/P, T, D] of this rank's. Key and value heads that are fewer than P, or
        cannot be dealt out evenly, are repeated first, so that each rank has those its query heads read."""
        query_heads, kv_heads = query.shape[1], key.shape[1]
        wanted = math.lcm(kv_heads, self.degree)
        if query_heads % wanted:
            wanted = query_heads
        if wanted > kv_heads:
            key, value = (x.repeat_interleave(wanted // kv_heads, dim=1) for x in (key, value))
        query, key, value = (self._trade(x, give=1, take=2) for x in (query, key, value))
        return query, key, value

    def to_sequence(self, output_BTHD: Tensor) -> Tensor:
        """[B, T, H/P, D] of this rank's heads back to [B, T/P, H, D]."""
        return self._trade(output_BTHD, give=1, take=2)

    def own_heads(self, per_head_H: Tensor) -> Tensor:
        """[H] of every head to the [H/P] that `to_heads` gives this rank."""
        return per_head_H.chunk(self.degree)[self.rank]

    def gather(self, local_1t: Tensor) -> Tensor:
        """Every rank's positions of a per-token tensor, in order: [1, T/P] to [1, T], without gradient."""
        parts = [torch.empty_like(local_1t) for _ in range(self.degree)]
        dist.all_gather(parts, local_1t.detach().contiguous(), group=self.group)
        return torch.cat(parts, dim=1)

    def _trade(self, x: Tensor, *, give: int, take: int) -> Tensor:
        traded: Tensor = _Trade.apply(x, give, take, self.group)  # type: ignore[no-untyped-call]
        return traded


class _Trade(torch.autograd.Function):
    """Cut dimension `give` into P parts, send part r to rank r, join what arrives along `take`, in rank order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, give: int, take: int, group: dist.ProcessGroup) -> Tensor:
        ctx.give, ctx.take, ctx.group = give, take, group
        return _trade(x, give, take, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _trade(grad, ctx.take, ctx.give, ctx.group), None, None, None


def _trade(x: Tensor, give: int, take: int, group: dist.ProcessGroup) -> Tensor:
    parts = torch.stack(x.chunk(dist.get_world_size(group), dim=give))
    arrived = torch.empty_like(parts)
    dist.all_to_all_single(arrived, parts, group=group)
    return torch.cat(arrived.unbind(0), dim=take)


def model_inputs(
    microbatch: Microbatch, device: torch.device, sequence_parallel: SequenceParallel | None = None
) -> dict[str, Any]:
    """Keyword arguments of a model for one microbatch, on its device; this rank's part of it under sequence
    parallelism."""
    inputs: dict[str, Any] = {
        "input_ids": microbatch.input_ids_1T,
        "position_ids": microbatch.position_ids_1T,
        "target_ids": microbatch.target_ids_1T,
        "loss_weights": microbatch.weights_1T,
        "segment_lengths": microbatch.lengths_S,
        **pack_kwargs(microbatch.cu_seqlens_S1),
    }
    if sequence_parallel:
        inputs = shard_inputs(inputs, sequence_parallel)

    def moved(value: Tensor) -> Tensor:  # from pageable memory a copy would wait for everything queued on the GPU
        return (value.pin_memory() if device.type == "cuda" else value).to(device, non_blocking=True)

    return {name: moved(value) if isinstance(value, Tensor) else value for name, value in inputs.items()}


def shard_inputs(inputs: Mapping[str, Any], sp: SequenceParallel) -> dict[str, Any]:
    """This rank's part of a pack's model inputs.

    `inputs` are those of the whole pack: the tensors named in `PER_TOKEN` as [1, T], with the result of
    `pack_kwargs`. A pack whose T is no multiple of the degree gets one more segment of pad tokens.
    """
    total = inputs["input_ids"].shape[1]
    short = -total % sp.degree
    part = (total + short) // sp.degree
    mine = slice(sp.rank * part, (sp.rank + 1) * part)
    sharded: dict[str, Any] = {}
    for name, fill in PER_TOKEN.items():
        if name in inputs:
            sharded[name] = pad(inputs[name], (0, short), value=fill)[:, mine].contiguous()
    bounds: Tensor = inputs["cu_seq_lens_q"]
    lengths: Tensor | None = inputs.get("segment_lengths")
    if short:
        bounds = torch.cat([bounds, bounds[-1:] + short])
        lengths = None if lengths is None else torch.cat([lengths, lengths.new_tensor([short])])
    if lengths is not None:
        sharded["segment_lengths"] = lengths
    sharded |= pack_kwargs(
        bounds.cpu(),
        device=bounds.device,
        backend=inputs.get("attention_backend", "auto"),
        sequence_parallel=sp,
    )
    return sharded
