"""On CUDA: every kernel agrees with the float32 document loop, and the loss with full logits, within half precision.

Bounds: bfloat16 keeps 8 bits, so one rounding is 2^-9 = 0.2%; attention and its gradients add up a few of them.
"""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, MistralConfig, MixtralConfig, Qwen3Config

from longalign.errors import ModelError
from longalign.train.admit import admit_any
from longalign.train.attention import pack_kwargs
from longalign.train.attention_kernels import attend
from longalign.train.check_isolation import check_isolation
from longalign.train.liger import use_liger_kernels
from longalign.train.loss import weighted_nll
from tests.makers.models import tiny_config
from tests.makers.other_families import FAMILIES
from tests.oracles.plain_loss import plain_gradients, relative_error
from tests.train.tiny import gradients_of, packed_inputs, padded_inputs, sequences_of, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # compilers talk
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
LENGTHS = (1, 130, 37, 700, 256)
BOUNDS = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]


def heads(count: int, dim: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, BOUNDS[-1], dim, generator=generator).to("cuda", dtype).requires_grad_()


def attention_and_gradients(
    backend: str, dtype: torch.dtype, kv_heads: int, dim: int, window: int | None, *, scores: bool = False
) -> list[Tensor]:
    qkv = [heads(count, dim, seed, dtype) for seed, count in enumerate((8, kv_heads, kv_heads))]
    if dtype == torch.float32:  # the reference starts from the same rounded inputs
        qkv = [x.detach().bfloat16().float().requires_grad_() for x in qkv]
    kwargs = pack_kwargs(BOUNDS, device="cuda")
    sinks = torch.linspace(-1, 2, 8, device="cuda", dtype=dtype).requires_grad_() if scores else None
    output = attend(
        *qkv,
        cu_seqlens_S1=kwargs["cu_seq_lens_q"],
        longest_tokens=kwargs["max_length_q"],
        scale=dim**-0.5,
        window_tokens=window,
        softcap=2.0 if scores else None,
        sinks_H=sinks,
        backend=backend,
    )
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(9)).to("cuda", dtype)
    wanted = qkv if sinks is None else [*qkv, sinks]
    return [output.detach(), *torch.autograd.grad((output * direction).sum(), wanted)]


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("dim", [64, 128, 36])
@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize("backend", ["documents", "varlen", "flex", "flash_attention_2", "flash_attention_3"])
def test_a_kernel_agrees_with_the_float32_document_loop(
    backend: str, kv_heads: int, dim: int, window: int | None
) -> None:
    if backend == "flex" and dim == 36:
        pytest.skip("FlexAttention wants heads of a power of two or a multiple of 16")
    try:
        found = attention_and_gradients(backend, torch.bfloat16, kv_heads, dim, window)
    except ModelError as error:
        if "flash_attention" not in backend:  # those packages are optional
            raise
        pytest.skip(str(error))
    expected = attention_and_gradients("documents", torch.float32, kv_heads, dim, window)
    for a, b in zip(found, expected, strict=True):
        assert (a.float() - b).norm() / b.norm() < 0.01


@pytest.mark.parametrize("window", [None, 64])
def test_caps_and_sinks_agree_with_the_float32_definition(window: int | None) -> None:
    found = attention_and_gradients("auto", torch.bfloat16, 2, 64, window, scores=True)
    expected = attention_and_gradients("documents", torch.float32, 2, 64, window, scores=True)
    for a, b in zip(found, expected, strict=True):
        assert (a.float() - b).norm() / b.norm() < 0.015


def test_rows_without_boundaries_use_the_same_kernel() -> None:
    x = torch.randn(3, 4, 50, 64, device="cuda", dtype=torch.bfloat16)
    options: dict[str, Any] = {"cu_seqlens_S1": None, "longest_tokens": 50, "scale": 0.125, "window_tokens": None}
    found = attend(x, x, x, **options, backend="auto")
    expected = attend(x.float(), x.float(), x.float(), **options, backend="documents")
    assert (found.float() - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("config_class", [LlamaConfig, Qwen3Config, MistralConfig, MixtralConfig])
def test_segments_are_isolated_in_half_precision(config_class: type, autocast: bool) -> None:
    fields = {"sliding_window": 32} if config_class is MistralConfig else {}
    config = tiny_config(config_class, hidden_size=128, num_attention_heads=4, head_dim=32, **fields)
    model = tiny_model(config, dtype=torch.float32 if autocast else torch.bfloat16).to("cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
        check_isolation(model)
        leaky = dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"))
        ids = torch.arange(64, device="cuda")[None]
        with torch.no_grad():
            packed = model(input_ids=ids, **pack_kwargs([0, 32, 64], device="cuda")).logits
            leaked = model(input_ids=ids, **leaky).logits
    assert (packed - leaked)[0, 32:].abs().max() > 0.1 * packed.std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_the_loss_accumulates_in_float32(dtype: torch.dtype, softcap: float | None) -> None:
    g = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 128, generator=g).to("cuda", dtype).requires_grad_() for n in (777, 1001))
    bias = torch.randn(1001, generator=g).to("cuda", dtype).requires_grad_()
    targets, weights = torch.randint(0, 1001, (777,), generator=g).cuda(), torch.rand(777, generator=g).cuda()
    leaves = (hidden, head, bias)
    loss, nll = weighted_nll(hidden, head, targets, weights, bias=bias, softcap=softcap, chunk_rows=100)
    assert loss.dtype == nll.dtype == torch.float32
    wide = [x.detach().double().requires_grad_() for x in leaves]
    expected, _ = weighted_nll(wide[0], wide[1], targets, weights.double(), bias=wide[2], softcap=softcap)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    allowed = max(1e-5, 2 * torch.finfo(dtype).eps)
    for a, b in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, wide), strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() / b.norm() < allowed


def test_packed_gradients_equal_the_plain_definition_within_bf16() -> None:
    config = tiny_config(hidden_size=128, num_attention_heads=4, head_dim=32)
    exact = tiny_model(config).to("cuda")
    half = tiny_model(config, dtype=torch.bfloat16).to("cuda")
    exact.load_state_dict({name: value.double() for name, value in half.state_dict().items()})
    sequences = [s.__class__(s.ids_T.cuda(), s.is_target_T.cuda(), s.weight) for s in sequences_of([90, 1, 230, 140])]
    inputs = packed_inputs(sequences_of([90, 1, 230, 140]), device="cuda")
    inputs = {name: value.cuda() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    expected = plain_gradients(exact, sequences)[1]
    assert relative_error(gradients_of(exact, inputs)[1], expected) < 1e-5
    found = {name: gradient.double() for name, gradient in gradients_of(half, inputs)[1].items()}
    assert relative_error(found, expected) < 0.1


def _with_liger(_: int, name: str) -> None:
    """In a process of its own, since Liger replaces classes of transformers' modules."""
    import transformers

    fields = {"sliding_window": 32} if name == "MistralConfig" else {}
    config = tiny_config(
        getattr(transformers, name),
        hidden_size=128,
        intermediate_size=192,
        num_attention_heads=4,
        head_dim=32,
        **fields,
    )
    inputs = packed_inputs(sequences_of([90, 1, 230, 140]), device="cuda")
    inputs = {name: value.cuda() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    plain = tiny_model(config, dtype=torch.float32).to("cuda").train()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss, expected = gradients_of(plain, inputs)
        fused = tiny_model(config, dtype=torch.float32).to("cuda").train()
        use_liger_kernels(fused, tiled_mlp=False)
        check_isolation(fused)
        found_loss, found = gradients_of(fused.train(), inputs)
    assert "Liger" in repr(fused)
    assert found_loss.item() == pytest.approx(loss.item(), rel=1e-2)
    assert relative_error(found, expected) < 0.1
    with pytest.raises(ModelError, match="no kernels for glm models"):
        use_liger_kernels(tiny_model(tiny_config(transformers.GlmConfig, head_dim=8)), tiled_mlp=False)


@pytest.mark.parametrize("name", ["LlamaConfig", "Qwen3Config", "MistralConfig"])
def test_liger_kernels_change_gradients_by_rounding_only(name: str) -> None:
    pytest.importorskip("liger_kernel", reason="the extra `liger` is not installed")
    torch.multiprocessing.spawn(_with_liger, (name,), nprocs=1)


@pytest.mark.parametrize(
    ("family", "kernels"),
    [("Qwen3-Next", "fla causal_conv1d"), ("LFM2", "causal_conv1d"), ("Bamba", "mamba_ssm causal_conv1d")],
)
def test_a_hybrid_with_the_kernels_of_its_layers_is_proven_packed_or_refused(family: str, kernels: str) -> None:
    """Whatever the kernels do, an admitted model has the gradients of one sequence at a time."""
    if missing := [name for name in kernels.split() if find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    model = tiny_model(FAMILIES[family].build(), dtype=torch.bfloat16).to("cuda")
    report = admit_any(model)
    sequences = [
        replace(s, ids_T=s.ids_T.cuda(), is_target_T=s.is_target_T.cuda()) for s in sequences_of([130, 64, 37])
    ]
    inputs = (packed_inputs if report.layout == "packed" else padded_inputs)(sequences_of([130, 64, 37]))
    inputs = {name: value.cuda() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    _, expected = plain_gradients(model, sequences)
    _, found = gradients_of(model, inputs)
    whole, wanted = (torch.cat([g[n].flatten().float() for n in sorted(g)]) for g in (found, expected))
    assert (whole - wanted).norm() / wanted.norm() < 0.05
