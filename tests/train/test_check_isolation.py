"""The start-up check passes on a sound model and catches planted leaks, in every precision."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, MistralConfig, MixtralConfig

from longalign.errors import ModelError
from longalign.train.attention import NAME, no_mask, packed_attention
from longalign.train.check_isolation import TOLERANCES, Tolerance, check_isolation, check_rows
from tests.makers.models import tiny_config
from tests.train.tiny import tiny_model

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
LOOSE = Tolerance(equal=1e-1, isolated=float("inf"), loss=float("inf"))


@pytest.fixture
def planted() -> Iterator[Any]:
    """Registers a broken attention under a name of its own, and takes it away again."""
    names: list[str] = []

    def plant(function: Any) -> str:
        name = f"planted_{function.__name__}"
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, no_mask)
        names.append(name)
        return name

    yield plant
    for name in names:
        AttentionInterface._global_mapping.pop(name)
        AttentionMaskInterface._global_mapping.pop(name)


def no_boundaries(module: nn.Module, *qkv_mask: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
    return packed_attention(module, *qkv_mask, **{k: v for k, v in kwargs.items() if "cu_seq" not in k})


def late_boundaries(module: nn.Module, *qkv_mask: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
    """Each inner boundary one token late: the first token of a segment sees the one before, in one layer only."""
    if module.layer_idx == 1:
        late = kwargs["cu_seq_lens_q"].clone()
        late[-2] += 1
        kwargs["cu_seq_lens_q"] = late
    return packed_attention(module, *qkv_mask, **kwargs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("config_class", [LlamaConfig, MixtralConfig])
def test_a_sound_model_passes(config_class: type, dtype: torch.dtype) -> None:
    model = tiny_model(tiny_config(config_class), dtype=dtype)
    if dtype != torch.float64:
        model.set_experts_implementation("eager")
    model.train()
    report = check_isolation(model)
    assert report.equal_error <= TOLERANCES[dtype].equal / 2
    assert report.isolated_error <= TOLERANCES[dtype].isolated / 2
    assert report.loss_error is not None
    assert report.loss_error <= TOLERANCES[dtype].loss / 2
    assert model.training
    assert model.config._attn_implementation == NAME


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("leak", [no_boundaries, late_boundaries])
def test_a_planted_leak_is_caught(planted: Any, leak: Any, dtype: torch.dtype) -> None:
    model = tiny_model(dtype=dtype)
    model.set_attn_implementation(planted(leak))
    with pytest.raises(ModelError, match="segments leak"):
        check_isolation(model)


def test_a_leak_is_also_caught_by_the_comparison_with_separate_segments(planted: Any) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    model.set_attn_implementation(planted(no_boundaries))
    with pytest.raises(ModelError, match="differ from those of its segments alone"):
        check_isolation(model, tolerance=LOOSE)


def test_an_ignored_sliding_window_is_caught(planted: Any) -> None:
    def no_window(module: nn.Module, *qkv_mask: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        return packed_attention(module, *qkv_mask, **{**kwargs, "sliding_window": None})

    model = tiny_model(tiny_config(MistralConfig, sliding_window=16), dtype=torch.float32)
    check_isolation(model)
    model.set_attn_implementation(planted(no_window))
    with pytest.raises(ModelError, match="differ from those of its segments alone"):
        check_isolation(model)


def test_a_head_that_does_more_than_we_know_is_caught() -> None:
    model = tiny_model(dtype=torch.float32)
    plain_forward = type(model.lm_head).forward
    kind = type("Linear", (type(model.lm_head),), {})
    kind.forward = lambda self, hidden, **kw: (
        plain_forward(self, hidden, **kw) if kw else 2 * plain_forward(self, hidden)
    )
    model.lm_head.__class__ = kind
    with pytest.raises(ModelError, match="its head does more"):
        check_isolation(model)


@pytest.mark.filterwarnings("ignore:`.*gradient_checkpointing.*` is deprecated:FutureWarning")  # inside PEFT
def test_lora_models_are_checked_as_wrapped() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    assert check_isolation(model).isolated_error == 0.0


def test_the_check_leaves_the_global_random_state_alone() -> None:
    model = tiny_model(dtype=torch.float32)
    before = torch.get_rng_state()
    first = check_isolation(model, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert check_isolation(model, seed=3) == first


def reads_padding(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2), None


def test_a_model_that_reads_padding_or_later_tokens_is_caught_in_rows_too(planted: Any) -> None:
    model: Any = tiny_model()
    assert check_rows(model).layout == "rows"
    assert not model.one_sequence_a_row
    model.set_attn_implementation(planted(reads_padding))
    with pytest.raises(ModelError, match="changing one row or padding moves the logits of others"):
        check_rows(model)
    with pytest.raises(ModelError, match="differ from those of its segments alone"):
        check_rows(model, tolerance=Tolerance(equal=1e-6, isolated=float("inf"), loss=float("inf")))
