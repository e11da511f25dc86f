"""Causal attention over segments, one implementation a backend; all give the same numbers up to rounding.

| backend             | where                     | how                                                             |
|---------------------|---------------------------|-----------------------------------------------------------------|
| `documents`         | any device, any dtype     | one fused SDPA call a segment; banded for a sliding window,     |
|                     |                           | written out in blocks of queries for a soft cap or sinks        |
| `varlen`            | CUDA, bf16 and fp16       | `torch.nn.attention.varlen.varlen_attn` (FlashAttention 2)      |
| `flash_attention_3` | CUDA, bf16 and fp16       | the same op after torch activated an installed FlashAttention 3 |
| `flash_attention_4` | CUDA, bf16 and fp16       | likewise FlashAttention 4                                       |
| `flash_attention_2` | CUDA, bf16 and fp16       | the `flash-attn` package                                        |
| `flex`              | CUDA                      | FlexAttention with a block mask; for caps and sinks             |

`documents` and `flex` also compute soft caps and attention sinks, and `auto` then chooses between these two.

`auto` takes `varlen` for half precision on CUDA and `documents` otherwise. FlashAttention 3 and 4 change the whole
process (torch keeps them once activated), so they are never chosen silently.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from longalign.errors import ModelError
from longalign.train.attention_scores import flex, seen_keys, written_out

BACKENDS = ("auto", "documents", "varlen", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex")
BAND_ROWS = 256
"""Query rows of one banded block at least; smaller blocks waste time in calls, larger ones in masked scores."""


def attend(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    *,
    cu_seqlens_S1: Tensor | None,
    longest_tokens: int,
    scale: float,
    window_tokens: int | None,
    softcap: float | None = None,
    sinks_H: Tensor | None = None,
    backend: str,
) -> Tensor:
    """Causal attention inside each segment (or each row when `cu_seqlens_S1` is None); returns [B, T, Hq, Dv].

    A token sees itself and the `window_tokens - 1` tokens before it, all earlier ones when that is None. Key and value
    may have fewer heads than the query (grouped-query attention). `softcap` c turns scores s into c * tanh(s / c).
    `sinks_H`: a score of each query head that takes part in the softmax and has no value.
    Raises `ModelError` for an unusable backend.
    """
    if backend not in BACKENDS:
        raise ModelError(f"attention backend {backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    half = query_BHTD.dtype in (torch.bfloat16, torch.float16)
    plain = softcap is None and sinks_H is None
    if backend == "auto":
        backend = ("varlen" if plain else "flex") if query_BHTD.is_cuda and half else "documents"
    if backend == "documents":
        lengths = None if cu_seqlens_S1 is None else cu_seqlens_S1.diff().tolist()
        return documents(query_BHTD, key_BHTD, value_BHTD, lengths, scale, window_tokens, softcap, sinks_H)
    if not plain and backend != "flex":
        raise ModelError(f"attention backend {backend!r} computes no soft caps and no sinks; use 'auto'")
    if not query_BHTD.is_cuda:
        raise ModelError(f"attention backend {backend!r} needs a CUDA device, tensors are on {query_BHTD.device}")

    rows, _, length_tokens, _ = query_BHTD.shape
    if cu_seqlens_S1 is None:
        cu_seqlens_S1 = torch.arange(rows + 1, dtype=torch.int32, device=query_BHTD.device) * length_tokens
        longest_tokens = length_tokens
    if window_tokens is not None and window_tokens >= longest_tokens:
        window_tokens = None
    query_THD, key_THD, value_THD = (x.transpose(1, 2).flatten(0, 1) for x in (query_BHTD, key_BHTD, value_BHTD))
    if backend == "flex":
        output_THD = flex(query_THD, key_THD, value_THD, cu_seqlens_S1, scale, window_tokens, softcap, sinks_H)
    else:
        if not half:
            raise ModelError(f"attention backend {backend!r} computes in bf16 or fp16 only, got {query_BHTD.dtype}")
        kernel = _flash_2 if backend == "flash_attention_2" else _varlen
        if backend in ("flash_attention_3", "flash_attention_4"):
            _activate(backend)
        output_THD = _with_equal_head_dims(
            kernel, query_THD, key_THD, value_THD, cu_seqlens_S1, longest_tokens, scale, window_tokens
        )
    return output_THD.view(rows, length_tokens, *output_THD.shape[1:])


def documents(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    lengths: list[int] | None,
    scale: float,
    window_tokens: int | None,
    softcap: float | None = None,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """One fused call a segment: exact in every dtype, memory linear in T. `lengths` None: whole rows."""
    groups = query_BHTD.shape[1] // key_BHTD.shape[1]
    if groups > 1:  # the fused kernels of some devices take equal head counts only
        key_BHTD, value_BHTD = (x.repeat_interleave(groups, dim=1) for x in (key_BHTD, value_BHTD))

    def one(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if softcap is None and sinks_H is None:
            return _one_document(query, key, value, scale, window_tokens)
        return written_out(query, key, value, scale, window_tokens, softcap, sinks_H)

    if lengths is None or len(lengths) == 1:
        return one(query_BHTD, key_BHTD, value_BHTD).transpose(1, 2)
    # split, not slices: the gradient of a slice is a zero tensor of the full length, once a segment
    pieces = zip(*(torch.split(x, lengths, dim=2) for x in (query_BHTD, key_BHTD, value_BHTD)), strict=True)
    return torch.cat([one(q, k, v).transpose(1, 2) for q, k, v in pieces], dim=1)


def _one_document(query: Tensor, key: Tensor, value: Tensor, scale: float, window_tokens: int | None) -> Tensor:
    length = query.shape[2]
    if window_tokens is None or window_tokens >= length:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    rows = max(window_tokens, BAND_ROWS)
    blocks = []
    for start in range(0, length, rows):
        end, first_key = min(start + rows, length), max(0, start - window_tokens + 1)
        seen = seen_keys(start, end, first_key, window_tokens, query.device)
        keys, values = key[:, :, first_key:end], value[:, :, first_key:end]
        blocks.append(scaled_dot_product_attention(query[:, :, start:end], keys, values, attn_mask=seen, scale=scale))
    return torch.cat(blocks, dim=2)


def _with_equal_head_dims(
    kernel: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *rest: Any
) -> Tensor:
    """Pad heads with zeros to one width, a multiple of 8, as flash kernels want; zeros change no score and no sum."""
    value_dim = value.shape[-1]
    width = -(-max(query.shape[-1], value_dim) // 8) * 8
    if width > 256:
        raise ModelError(f"flash attention kernels take heads of at most 256, this model has {width}")
    query, key, value = (pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x for x in (query, key, value))
    return kernel(query, key, value, *rest).narrow(-1, 0, value_dim)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, cu: Tensor, longest: int, scale: float, window: int | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    options: dict[str, Any] = {"scale": scale, "window_size": (-1 if window is None else window - 1, 0)}
    if query.shape[1] != key.shape[1]:
        if _has_grouped_queries(varlen_attn):
            options["enable_gqa"] = True
        else:
            groups = query.shape[1] // key.shape[1]
            key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return cast(Tensor, varlen_attn(query, key, value, cu, cu, longest, longest, **options))


@functools.cache
def _has_grouped_queries(function: Callable[..., Any]) -> bool:
    return "enable_gqa" in inspect.signature(function).parameters


def _flash_2(
    query: Tensor, key: Tensor, value: Tensor, cu: Tensor, longest: int, scale: float, window: int | None
) -> Tensor:
    try:
        flash = importlib.import_module("flash_attn")
    except ImportError as error:
        raise ModelError("backend 'flash_attention_2' needs the package flash-attn; 'varlen' needs none") from error
    output: Tensor = flash.flash_attn_varlen_func(
        query,
        key,
        value,
        cu,
        cu,
        longest,
        longest,
        softmax_scale=scale,
        causal=True,
        window_size=(-1 if window is None else window - 1, 0),
    )
    return output


@functools.cache
def _activate(backend: str) -> None:
    from torch.nn.attention import activate_flash_attention_impl

    name = {"flash_attention_3": "FA3", "flash_attention_4": "FA4"}[backend]
    try:
        activate_flash_attention_impl(name)
    except (ImportError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"backend {backend!r} cannot be activated here ({error}); install it or use 'varlen'"
        ) from error
