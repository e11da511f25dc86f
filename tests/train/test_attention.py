"""Packed attention equals attention of each segment by itself, and says no to what it cannot do exactly."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from longalign.errors import ModelError
from longalign.train import attention_scores
from longalign.train.attention import no_mask, pack_kwargs, packed_attention, register
from longalign.train.attention_kernels import BAND_ROWS, attend


class Layer(nn.Module):
    layer_idx = 3
    is_causal = True
    config: Any = None


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: list[int],
    window: int | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Scores, mask and softmax written out over the whole pack: [1, T, H, D]."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    total = query.shape[2]
    position = torch.arange(total)
    segment = torch.bucketize(position, torch.tensor(bounds[1:]), right=True)
    seen = (segment[:, None] == segment[None, :]) & (position[None, :] <= position[:, None])
    if window is not None:
        seen &= position[None, :] > position[:, None] - window
    scores = (query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    scores = scores.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(1, -1, total, 1)], dim=-1)
    probability = scores.softmax(-1)[..., :total]
    return (probability @ value).transpose(1, 2)


def heads(total: int, count: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, total, dim, dtype=dtype, generator=generator).requires_grad_()


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    kv_heads=st.sampled_from([1, 2, 4]),
    window=st.none() | st.integers(1, 45),
    softcap=st.sampled_from([None, 0.7]),
    with_sinks=st.booleans(),
    at_once=st.sampled_from([1, 300, 2**24]),
)
def test_a_pack_attends_like_a_block_diagonal_mask(
    lengths: list[int], kv_heads: int, window: int | None, softcap: float | None, with_sinks: bool, at_once: int
) -> None:
    """Also in blocks of a single query, and with scores that are capped or share their softmax with a sink."""
    bounds = [0, *torch.tensor(lengths).cumsum(0).tolist()]
    query, key, value = heads(bounds[-1], 4, 8, 1), heads(bounds[-1], kv_heads, 8, 2), heads(bounds[-1], kv_heads, 8, 3)
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True) if with_sinks else None
    wanted = [query, key, value] + ([] if sinks is None else [sinks])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_scores, "SCORES_AT_ONCE", at_once)
        found, _ = packed_attention(
            Layer(),
            query,
            key,
            value,
            None,
            sliding_window=window,
            softcap=softcap,
            s_aux=sinks,
            **pack_kwargs(bounds),
        )
    expected = plain_attention(query, key, value, bounds, window, softcap, sinks)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(4))
    for a, b in zip(
        torch.autograd.grad((found * direction).sum(), wanted),
        torch.autograd.grad((expected * direction).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("window", [5, BAND_ROWS, BAND_ROWS + 77])
def test_a_sliding_window_is_exact_across_band_edges(window: int) -> None:
    bounds = [0, 2 * BAND_ROWS + 31, 3 * BAND_ROWS]
    query, key, value = (heads(bounds[-1], 1, 4, seed) for seed in (1, 2, 3))
    found, _ = packed_attention(Layer(), query, key, value, None, sliding_window=window, **pack_kwargs(bounds))
    torch.testing.assert_close(found, plain_attention(query, key, value, bounds, window), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("window", [None, 6])
def test_the_kernel_of_cuda_for_caps_and_sinks_is_the_definition(window: int | None, softcap: float | None) -> None:
    """FlexAttention uncompiled: what it is asked to compute, gradient of the sinks included."""
    from torch.nn.attention.flex_attention import flex_attention

    bounds = [0, 9, 10, 31]
    query, key, value = (x.detach() for x in (heads(31, 4, 8, 1), heads(31, 2, 8, 2), heads(31, 2, 8, 3)))
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        patch.setattr(attention_scores, "compiled_flex", lambda: flex_attention)
        rows = [x.squeeze(0).transpose(0, 1) for x in (query, key, value)]
        cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
        found = attention_scores.flex(*rows, cu_seqlens, 8**-0.5, window, softcap, sinks)[None]
        expected = plain_attention(query, key, value, bounds, window, softcap, sinks)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        direction = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(4))
        slopes = [torch.autograd.grad((x * direction).sum(), sinks)[0] for x in (found, expected)]
        torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_chunks_are_cut_inside_every_segment(rows: int) -> None:
    layer = Layer()
    layer.layer_idx = 0
    layer.config = SimpleNamespace(layer_types=["chunked_attention"], attention_chunk_size=4)
    query, key, value = (torch.cat([heads(13, 2, 8, seed + r) for r in range(rows)]) for seed in (1, 2, 3))
    found, _ = packed_attention(layer, query, key, value, None, **(pack_kwargs([0, 6, 13]) if rows == 1 else {}))
    chunks = [0, 4, 6, 10, 13] if rows == 1 else [0, 4, 8, 12, 13]
    for row in range(rows):
        expected = plain_attention(query[row, None], key[row, None], value[row, None], chunks, None)
        torch.testing.assert_close(found[row, None], expected)


def test_a_layer_that_attends_by_a_rule_of_its_own_is_refused() -> None:
    layer, x = Layer(), heads(4, 2, 8, 1)
    for kind, reason in (("indexed_attention", "a rule of its own"), ("sliding_attention", "how long its sliding")):
        layer.config = SimpleNamespace(layer_types=[kind] * 4)
        with pytest.raises(ModelError, match=reason):
            packed_attention(layer, x, x, x, None)


def test_rows_without_boundaries_are_ordinary_causal_rows() -> None:
    rows = torch.randn(3, 2, 11, 8, dtype=torch.float64)
    found, _ = packed_attention(Layer(), rows, rows, rows, None)
    for row in range(3):
        one = rows[row : row + 1]
        torch.testing.assert_close(found[row : row + 1], plain_attention(one, one, one, [0, 11], None))


def test_values_may_be_narrower_than_keys() -> None:
    bounds = [0, 4, 9]
    query, key, value = heads(9, 2, 8, 1), heads(9, 2, 8, 2), heads(9, 2, 6, 3)
    found, _ = packed_attention(Layer(), query, key, value, None, **pack_kwargs(bounds))
    torch.testing.assert_close(found, plain_attention(query, key, value, bounds, None))


def test_a_shifted_boundary_changes_the_result() -> None:
    query, key, value = heads(9, 2, 8, 1), heads(9, 2, 8, 2), heads(9, 2, 8, 3)
    found, _ = packed_attention(Layer(), query, key, value, None, **pack_kwargs([0, 5, 9]))
    assert (found - plain_attention(query, key, value, [0, 4, 9], None)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dropout": 0.1}, "attention_dropout is 0.1"),
        ({"is_causal": False}, "not causal"),
        ({"attention_mask": torch.ones(1, 1, 4, 4)}, "mask of its own"),
        ({"position_bias": torch.zeros(1)}, "position_bias"),
    ],
)
def test_unsupported_attention_is_refused_by_name(options: dict[str, Any], reason: str) -> None:
    x = heads(4, 2, 8, 1)
    arguments = {"attention_mask": None} | options
    with pytest.raises(ModelError, match=reason) as raised:
        packed_attention(Layer(), x, x, x, **arguments)
    assert "Layer (layer 3)" in str(raised.value)


def test_a_key_value_cache_is_refused() -> None:
    with pytest.raises(ModelError, match="sdpa"):
        packed_attention(Layer(), heads(1, 2, 8, 1), heads(4, 2, 8, 1), heads(4, 2, 8, 1), None)
    with pytest.raises(ModelError, match="sdpa"):
        no_mask(1, 1, 4)


def test_gpu_backends_are_refused_on_cpu_and_unknown_ones_everywhere() -> None:
    x = heads(4, 2, 8, 1)
    with pytest.raises(ModelError, match="needs a CUDA device"):
        packed_attention(Layer(), x, x, x, None, **pack_kwargs([0, 4], backend="varlen"))
    with pytest.raises(ModelError, match="'warp' is unknown"):
        packed_attention(Layer(), x, x, x, None, **pack_kwargs([0, 4], backend="warp"))


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_cuda_kernel_is_called_with_arguments_it_takes(window: int | None, kv_heads: int) -> None:
    """Shapes and signature only, on tensors without data; `test_on_gpu.py` compares numbers where there is a GPU."""
    with FakeTensorMode():
        query, key, value = (
            torch.empty(1, count, 9, dim, device="cuda", dtype=torch.bfloat16)
            for count, dim in ((4, 20), (kv_heads, 20), (kv_heads, 12))
        )
        cu_seqlens = torch.empty(3, dtype=torch.int32, device="cuda")
        output = attend(
            query,
            key,
            value,
            cu_seqlens_S1=cu_seqlens,
            longest_tokens=5,
            scale=0.2,
            window_tokens=window,
            backend="auto",
        )
        assert output.shape == (1, 9, 4, 12)
        assert output.dtype == torch.bfloat16


def test_a_pack_is_one_row() -> None:
    x = torch.zeros(2, 2, 4, 8)
    with pytest.raises(ModelError, match="one row"):
        packed_attention(Layer(), x, x, x, None, **pack_kwargs([0, 4]))


@pytest.mark.parametrize("bounds", [[0], [1, 4], [0, 3, 3], [0, 3, 2]])
def test_boundaries_must_rise_from_zero(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="cu_seqlens"):
        pack_kwargs(bounds)


def test_right_padding_needs_no_mask_and_left_padding_is_refused() -> None:
    right = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    assert no_mask(2, 4, 4, attention_mask=right) is None
    with pytest.raises(ModelError, match="padded on the right"):
        no_mask(2, 4, 4, attention_mask=right.flip(1))
    with pytest.raises(ModelError, match="own rule"):
        no_mask(1, 4, 4, use_vmap=True)


def test_registration_is_public_and_repeatable() -> None:
    from transformers import AttentionInterface

    register()
    register()
    assert AttentionInterface()["longalign_packed"] is packed_attention
