"""Stretched RoPE has the frequencies transformers computes, and coverage says what a window really meets."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.core.rope import METHODS, coverage, frequencies, stretch, sufficient_base, wavelengths_tokens

PLAIN = {"rope_theta": 10_000.0, "rope_type": "default"}


def test_the_papers_base_is_200_times_the_old_one() -> None:
    stretched = stretch(PLAIN, method="base", rotary_dim=128, trained_window=4096, window=65536)
    assert stretched.parameters == {"rope_theta": 2_000_000.0, "rope_type": "default"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_frequencies_are_those_of_transformers(method: str, share: float) -> None:
    transformers = pytest.importorskip("transformers")
    rope_utils = pytest.importorskip("transformers.modeling_rope_utils")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    dim = 64
    parameters = stretch(PLAIN, method=method, rotary_dim=int(dim * share), trained_window=512, window=4096).parameters
    config = transformers.LlamaConfig(
        hidden_size=4 * dim, num_attention_heads=4, head_dim=dim, max_position_embeddings=4096
    )
    config.rope_parameters = {**parameters, "partial_rotary_factor": share}
    kind = parameters["rope_type"]
    if kind == "default":
        config.head_dim = int(dim * share)  # Llama's own default ignores partial rotation
        theirs, _ = llama.LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        theirs, _ = rope_utils.ROPE_INIT_FUNCTIONS[kind](config)
    np.testing.assert_allclose(frequencies(parameters, int(dim * share)), theirs.numpy(), rtol=2e-6)


@settings(deadline=None)
@given(ratio=st.integers(1, 64), dim=st.sampled_from([16, 64, 128]))
def test_ntk_stretches_the_slowest_pair_by_the_ratio_and_keeps_the_fastest(ratio: int, dim: int) -> None:
    new = stretch(PLAIN, method="ntk", rotary_dim=dim, trained_window=1000, window=1000 * ratio).parameters
    change = wavelengths_tokens(new, dim) / wavelengths_tokens(PLAIN, dim)
    assert change[0] == pytest.approx(1.0)
    assert change[-1] == pytest.approx(ratio)
    assert np.all(np.diff(change) >= 0)


@pytest.mark.parametrize("method", ["yarn", "llama3"])
def test_slow_pairs_slow_down_and_fast_pairs_keep_their_speed(method: str) -> None:
    new = stretch(PLAIN, method=method, rotary_dim=128, trained_window=4096, window=32768).parameters
    change = frequencies(PLAIN, 128) / frequencies(new, 128)
    assert change[0] == pytest.approx(1.0)
    assert change[-1] == pytest.approx(8.0)
    assert np.all(np.diff(change) >= -1e-9)


@pytest.mark.parametrize(("window", "published"), [(4096, 2.7e4), (8192, 8.4e4), (32768, 6.4e5), (65536, 2.1e6)])
def test_the_sufficient_base_is_the_published_bound(window: int, published: float) -> None:
    assert sufficient_base(128, window) == pytest.approx(published, rel=0.1)


@settings(deadline=None, max_examples=40)
@given(window=st.integers(64, 3000), dim=st.sampled_from([16, 32, 64]))
def test_a_sufficient_base_keeps_the_score_positive_and_the_next_smaller_does_not(window: int, dim: int) -> None:
    def lowest(base: float) -> float:
        return min(sum(math.cos(m * base ** (-2 * i / dim)) for i in range(dim // 2)) for m in range(window))

    base = sufficient_base(dim, window)
    assert lowest(base) > -1e-3  # float32 inside
    if base > 100:
        unit = 10 ** math.floor(math.log10(base) - 1)
        smaller = base - unit if base / unit > 10 else base - unit / 10
        assert lowest(smaller) < 1e-3


def test_auto_never_lowers_a_base() -> None:
    large = {"rope_theta": 5e6, "rope_type": "default"}
    kept = stretch(large, method="auto", rotary_dim=128, trained_window=32768, window=65536)
    assert kept.parameters == large
    assert "already suffices" in kept.reason
    raised = stretch(PLAIN, method="auto", rotary_dim=128, trained_window=4096, window=65536)
    assert raised.parameters["rope_theta"] == 2.1e6


def test_changing_the_base_keeps_a_scaling_and_a_second_scaling_is_refused() -> None:
    scaled = stretch(PLAIN, method="llama3", rotary_dim=128, trained_window=4096, window=32768).parameters
    again = stretch(scaled, method="base", rotary_dim=128, trained_window=32768, window=65536, base_factor=4).parameters
    assert again == {**scaled, "rope_theta": 40_000.0}
    with pytest.raises(ValueError, match="already scales RoPE"):
        stretch(scaled, method="yarn", rotary_dim=128, trained_window=32768, window=65536)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter than the trained"):
        stretch(PLAIN, method="linear", rotary_dim=128, trained_window=4096, window=2048)
    with pytest.raises(ValueError, match="unknown RoPE method"):
        stretch(PLAIN, method="spline", rotary_dim=128, trained_window=4096, window=8192)
    with pytest.raises(ValueError, match="no fixed frequencies"):
        frequencies({"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2.0}, 128)


def test_coverage_counts_pairs_by_what_training_showed_them() -> None:
    unchanged = coverage(PLAIN, PLAIN, rotary_dim=128, trained_window=4096, window=65536)
    turns = 4096 / wavelengths_tokens(PLAIN, 128)
    assert unchanged.full_turn == int((turns >= 1).sum()) == 46
    assert unchanged.within_met_angles == 0
    assert unchanged.unmet_angles == 18
    stretched = stretch(PLAIN, method="base", rotary_dim=128, trained_window=4096, window=65536).parameters
    covered = coverage(PLAIN, stretched, rotary_dim=128, trained_window=4096, window=65536)
    assert (covered.full_turn, covered.within_met_angles, covered.unmet_angles) == (46, 18, 0)
    assert covered.lines()[-1] == "slowest pair: 10,017,429 tokens a turn"
    assert "training has to teach them" in unchanged.lines()[2]
