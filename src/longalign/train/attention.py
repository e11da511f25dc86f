"""Packed attention for any transformers decoder: registered, never patched.

A pack is several segments laid end to end in one row. A segment must not see another, and its positions restart
at zero. Instead of a T x T mask, attention receives `cu_seqlens_S1`: where each segment starts, and the end of
the last one. Section 3.2 of the LongAlign paper (arXiv 2401.18058) trains this way.

    register()
    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation=NAME)
    model(input_ids_1T, position_ids=position_ids_1T, **pack_kwargs(cu_seqlens_S1))

Called without `cu_seqlens` (the padded strategy) every row of the batch is ordinary causal attention. Padding must
then be on the right, where a causal mask already hides it from real tokens; padding elsewhere is refused.

Sliding windows, chunks, soft caps and attention sinks are honoured. Whatever cannot be (dropout, non-causal layers,
layers of other kinds, a key-value cache) raises `ModelError`. For generation use `attn_implementation="sdpa"`, or
"eager" where a model has none.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from longalign.errors import ModelError
from longalign.train import attention_kernels

NAME = "longalign_packed"
KINDS = {None, "full_attention", "sliding_attention", "chunked_attention", "hybrid", "hybrid_sliding"}
"""Values of `layer_types` in configs whose attention this module knows; the others bring rules of their own."""


class HeadExchange(Protocol):
    """What attention needs from sequence parallelism (`train.parallel.ulysses.SequenceParallel`)."""

    def to_heads(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, H, T/P, D] of every head to [B, H/P, T, D] of this rank's heads."""

    def to_sequence(self, output_BTHD: Tensor) -> Tensor:
        """[B, T, H/P, D] back to [B, T/P, H, D]."""

    def own_heads(self, per_head_H: Tensor) -> Tensor:
        """[H] to the [H/P] of this rank's heads."""


def register() -> None:
    """Make `attn_implementation="longalign_packed"` known to transformers. Calling it again does nothing new."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, no_mask)


def pack_kwargs(
    cu_seqlens_S1: Tensor | Sequence[int],
    *,
    device: torch.device | str | None = None,
    backend: str = "auto",
    sequence_parallel: HeadExchange | None = None,
) -> dict[str, Any]:
    """Keyword arguments that carry the segment boundaries through `model(...)` to every attention layer.

    `cu_seqlens_S1` are S + 1 increasing integers from 0 to the total length in tokens; with sequence parallelism the
    total over all ranks. Pass them from host memory: reading their maximum from a GPU would stall it.
    `backend` is one of `attention_kernels.BACKENDS`. `seq_idx` [1, T], the number of each token's segment, is for
    kernels of convolutions and state spaces.
    """
    cu = torch.as_tensor(cu_seqlens_S1, dtype=torch.int32)
    lengths = cu.diff()
    if cu.ndim != 1 or cu.numel() < 2 or int(cu[0]) != 0 or bool((lengths <= 0).any()):
        raise ValueError(f"cu_seqlens must rise from 0 in steps of at least 1, got {cu.tolist()[:8]}")
    longest_tokens = int(lengths.max())
    on_device = cu if device is None else cu.to(device, non_blocking=True)
    kwargs: dict[str, Any] = {
        "cu_seq_lens_q": on_device,
        "cu_seq_lens_k": on_device,
        "max_length_q": longest_tokens,
        "max_length_k": longest_tokens,
    }
    if backend != "auto":
        kwargs["attention_backend"] = backend
    if sequence_parallel is not None:
        kwargs["sequence_parallel"] = sequence_parallel
    else:
        numbers = torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(lengths)[None]
        kwargs["seq_idx"] = numbers if device is None else numbers.to(device, non_blocking=True)
    return kwargs


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    attention_backend: str = "auto",
    sequence_parallel: HeadExchange | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function of transformers' interface: query [B, Hq, T, D], key and value [B, Hkv, T, D], post-RoPE.

    Returns ([B, T, Hq, Dv], None). With `cu_seq_lens_q` B must be 1. Raises `ModelError` for what is not supported.
    """
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    layer = f"{type(module).__name__} (layer {getattr(module, 'layer_idx', '?')})"
    if not causal:
        raise _refused(layer, "it is not causal")
    kind, chunk_tokens = _kind_of(module)
    if kind not in KINDS:
        raise _refused(layer, f"its layer type {kind!r} attends by a rule of its own")
    if kind == "sliding_attention" and not sliding_window:
        raise _refused(layer, "it does not say how long its sliding window is")
    if dropout:
        raise _refused(layer, f"attention_dropout is {dropout}; set it to 0.0 in config.json")
    if attention_mask is not None:
        raise _refused(layer, "it was given a mask of its own")
    extra = sorted(
        name for name in ("position_bias", "head_mask", "cache", "block_table") if kwargs.get(name) is not None
    )
    if extra:
        raise _refused(layer, f"it uses {', '.join(extra)}")

    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
    else:
        dtype = value.dtype
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if sequence_parallel is not None:
        query, key, value = sequence_parallel.to_heads(query, key, value)
        s_aux = None if s_aux is None else sequence_parallel.own_heads(s_aux)
    if key.shape[2] != query.shape[2]:
        raise _refused(layer, "it reads a key-value cache; generate with attn_implementation='sdpa' or 'eager'")

    if cu_seq_lens_q is None:
        lengths_S, longest_tokens = None, query.shape[2]
    else:
        if query.shape[0] != 1:
            raise ModelError(f"a pack is one row, got a batch of {query.shape[0]} rows with cu_seqlens")
        if max_length_q is None:
            raise ModelError("max_length_q is missing beside cu_seq_lens_q; build both with pack_kwargs()")
        lengths_S, longest_tokens = cu_seq_lens_q, int(max_length_q)
    if kind == "chunked_attention" and chunk_tokens and longest_tokens > chunk_tokens:
        lengths_S, longest_tokens = _cut_at_chunks(lengths_S, query, chunk_tokens), chunk_tokens
        query_BHTD, key, value = (_one_row(x) for x in (query, key, value))
    else:
        query_BHTD = query
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    output_BTHD = attention_kernels.attend(
        query_BHTD,
        key,
        value,
        cu_seqlens_S1=lengths_S,
        longest_tokens=longest_tokens,
        scale=scale,
        window_tokens=sliding_window or None,
        softcap=softcap or None,
        sinks_H=s_aux,
        backend=attention_backend,
    ).reshape(query.shape[0], query.shape[2], query.shape[1], -1)
    if sequence_parallel is not None:
        output_BTHD = sequence_parallel.to_sequence(output_BTHD)
    return output_BTHD, None


def no_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    attention_mask: Tensor | None = None,
    use_vmap: bool = False,
    **kwargs: Any,
) -> None:
    """The mask function of transformers' interface: never builds a mask, but refuses one that would be needed.

    `attention_mask` [B, T] is True on real tokens; right padding needs no mask under causal attention.
    """
    if use_vmap:
        raise ModelError("this model adds its own rule to the causal mask, which packed attention cannot honour")
    if kv_length != q_length:
        raise ModelError("packed attention has no key-value cache; generate with attn_implementation='sdpa' or 'eager'")
    if attention_mask is not None:
        real_BT = attention_mask.bool()
        if bool((real_BT[:, 1:] & ~real_BT[:, :-1]).any()):
            raise ModelError("rows must be padded on the right; this attention_mask has padding before a real token")


def _kind_of(module: nn.Module) -> tuple[str | None, int | None]:
    """The layer's type in its config, and the chunk size there."""
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    kinds = getattr(config, "layer_types", None)
    kind = kinds[index] if kinds and index is not None and index < len(kinds) else None
    return kind, getattr(config, "attention_chunk_size", None)


def _cut_at_chunks(cu_seqlens_S1: Tensor | None, query_BHTD: Tensor, chunk_tokens: int) -> Tensor:
    """Segment boundaries, and one more every `chunk_tokens` inside each segment (each row, without boundaries)."""
    rows, length = query_BHTD.shape[0], query_BHTD.shape[2]
    bounds = [row * length for row in range(rows + 1)] if cu_seqlens_S1 is None else cu_seqlens_S1.tolist()
    cuts = [cut for start, stop in pairwise(bounds) for cut in range(start, stop, chunk_tokens)]
    return torch.tensor([*cuts, bounds[-1]], dtype=torch.int32, device=query_BHTD.device)


def _one_row(x_BHTD: Tensor) -> Tensor:
    """[B, H, T, D] to [1, H, B * T, D]."""
    return x_BHTD.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _refused(layer: str, reason: str) -> ModelError:
    return ModelError(f"packed attention cannot run {layer} exactly: {reason}")
