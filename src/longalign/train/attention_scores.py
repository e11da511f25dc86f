"""Attention that changes its scores: soft caps (Gemma 2) and sinks (gpt-oss), which fused kernels do not have.

`written_out` follows the definition, on any device and in any dtype; `flex` is one compiled kernel for CUDA.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SCORES_AT_ONCE = 2**24
"""Scores that `written_out` holds at once, of all heads."""


def seen_keys(start: int, end: int, first_key: int, window_tokens: int | None, device: torch.device) -> Tensor:
    """[queries start..end, keys first_key..end]: which key each query sees."""
    i = torch.arange(start, end, device=device)[:, None]
    j = torch.arange(first_key, end, device=device)[None, :]
    return (j <= i) if window_tokens is None else (j <= i) & (j > i - window_tokens)


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window_tokens: int | None,
    softcap: float | None,
    sinks_H: Tensor | None,
) -> Tensor:
    """Scores, cap, softmax and sinks by the definition, [B, H, L, D] to [B, H, L, Dv], in float32 at least.

    Scores exist for one block of queries at a time, in the backward pass too, where they are computed again.
    """
    rows, heads, length, _ = query.shape
    reach = length if window_tokens is None else min(length, 2 * window_tokens + 256)
    step = max(1, min(length, SCORES_AT_ONCE // (rows * heads * reach)))
    if window_tokens is not None:
        step = min(step, window_tokens + 256)

    def block(part: Tensor, keys: Tensor, values: Tensor, sinks: Tensor | None, start: int, first_key: int) -> Tensor:
        scores = (part @ keys.transpose(2, 3)) * scale
        scores = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        seen = seen_keys(start, start + part.shape[2], first_key, window_tokens, part.device)
        scores = scores.masked_fill(~seen, float("-inf"))
        if sinks is not None:
            column = sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, column], dim=-1)
        return scores.softmax(-1)[..., : keys.shape[2]].to(values.dtype) @ values

    blocks = []
    for start in range(0, length, step):
        end, first_key = min(start + step, length), 0 if window_tokens is None else max(0, start - window_tokens + 1)
        inputs = (query[:, :, start:end], key[:, :, first_key:end], value[:, :, first_key:end], sinks_H)
        if step == length:
            return block(*inputs, start, first_key)
        blocks.append(checkpoint(block, *inputs, start, first_key, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(blocks, dim=2)


def flex(
    query_THD: Tensor,
    key_THD: Tensor,
    value_THD: Tensor,
    cu_seqlens_S1: Tensor,
    scale: float,
    window_tokens: int | None,
    softcap: float | None = None,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """FlexAttention with a block mask of segments: an independent kernel to compare the others with.

    A sink s beside scores with log-sum-exp l leaves the values a share of sigmoid(l - s).
    """

    def capped(score: Tensor, batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return cast(float, softcap) * torch.tanh(score / cast(float, softcap))

    options: dict[str, Any] = {
        "block_mask": _segment_mask(cu_seqlens_S1, query_THD.shape[0], window_tokens),
        "scale": scale,
        "enable_gqa": True,
    }
    if softcap is not None:
        options["score_mod"] = capped
    query, key, value = (x.transpose(0, 1).unsqueeze(0) for x in (query_THD, key_THD, value_THD))
    if sinks_H is None:
        output: Tensor = compiled_flex()(query, key, value, **options)
    else:
        from torch.nn.attention.flex_attention import AuxRequest

        plain, aux = compiled_flex()(query, key, value, return_aux=AuxRequest(lse=True), **options)
        share_BHT = torch.sigmoid(aux.lse - sinks_H.to(aux.lse.dtype).view(1, -1, 1))
        output = (plain * share_BHT[..., None]).to(plain.dtype)
    return output.squeeze(0).transpose(0, 1)


@functools.lru_cache(maxsize=4)  # all layers of one kind share a pack's mask; a tensor is found by its identity
def _segment_mask(cu_seqlens_S1: Tensor, length: int, window_tokens: int | None) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    device = cu_seqlens_S1.device
    segment_T = torch.bucketize(torch.arange(length, device=device, dtype=torch.int32), cu_seqlens_S1[1:], right=True)

    def seen(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        inside = (segment_T[i] == segment_T[j]) & (j <= i)
        return inside if window_tokens is None else inside & (j > i - window_tokens)

    return create_block_mask(seen, None, None, length, length, device=str(device), _compile=cu_seqlens_S1.is_cuda)


@functools.cache
def compiled_flex() -> Callable[..., Any]:
    """The attention as one kernel; uncompiled it would build all T x T scores."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
