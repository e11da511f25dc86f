"""The chunked loss is the weighted cross-entropy of full logits, for every kind of head, in every precision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from longalign.errors import ModelError
from longalign.train.attention import pack_kwargs
from longalign.train.head import backbone_and_head
from longalign.train.loss import attach_loss, weighted_nll
from tests.makers.models import tiny_config
from tests.oracles.plain_loss import plain_gradients, relative_error
from tests.train.tiny import gradients_of, packed_inputs, sequences_of, tiny_model

through_peft = pytest.mark.filterwarnings(
    "ignore:`.*gradient_checkpointing.*` is deprecated:FutureWarning"
)  # inside PEFT


def full_logits_loss(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, bias: Tensor | None, softcap: float | None
) -> tuple[Tensor, Tensor]:
    logits = hidden @ head.t()
    if bias is not None:
        logits = logits + bias
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    nll = nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=-100)
    return (nll * weights).sum(), nll


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 12),
    chunk_rows=st.integers(1, 13),
    with_bias=st.booleans(),
    softcap=st.sampled_from([None, 2.5]),
    seed=st.integers(0, 10_000),
)
def test_loss_and_gradients_equal_those_of_full_logits(
    rows: int, chunk_rows: int, with_bias: bool, softcap: float | None, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    hidden, head = (torch.randn(n, 5, dtype=torch.float64, generator=g).requires_grad_() for n in (rows, 7))
    bias = torch.randn(7, dtype=torch.float64, generator=g).requires_grad_() if with_bias else None
    targets = torch.randint(-1, 7, (rows,), generator=g)
    targets[targets == -1] = -100
    weights = torch.rand(rows, dtype=torch.float64, generator=g)
    leaves = [x for x in (hidden, head, bias) if x is not None]
    loss, nll = weighted_nll(hidden, head, targets, weights, chunk_rows=chunk_rows, bias=bias, softcap=softcap)
    expected, expected_nll = full_logits_loss(hidden, head, targets, weights, bias, softcap)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(nll, expected_nll.detach(), rtol=1e-12, atol=1e-12)
    assert not nll.requires_grad
    for found, wanted in zip(
        torch.autograd.grad(3 * loss, leaves), torch.autograd.grad(3 * expected, leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


def test_gradients_pass_the_finite_difference_check() -> None:
    g = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 3, dtype=torch.float64, generator=g).requires_grad_() for n in (4, 5))
    targets, weights = torch.tensor([1, -100, 4, 0]), torch.rand(4, dtype=torch.float64, generator=g)
    assert torch.autograd.gradcheck(
        lambda h, w: weighted_nll(h, w, targets, weights, chunk_rows=2, softcap=3.0)[0], (hidden, head)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_inputs_lose_nothing_beyond_their_own_rounding(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 64, generator=g).to(dtype).requires_grad_() for n in (300, 50))
    targets, weights = torch.randint(0, 50, (300,), generator=g), torch.rand(300, generator=g)
    loss, nll = weighted_nll(hidden, head, targets, weights, chunk_rows=7)
    assert loss.dtype == nll.dtype == torch.float32
    wide = [x.detach().double().requires_grad_() for x in (hidden, head)]
    expected, _ = full_logits_loss(*wide, targets, weights.double(), None, None)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    found = torch.autograd.grad(loss, (hidden, head))
    for a, b in zip(found, torch.autograd.grad(expected, wide), strict=True):
        assert a.dtype == dtype
        assert (a.double() - b).norm() / b.norm() < max(1e-6, torch.finfo(dtype).eps)


def test_autocast_projects_in_the_autocast_precision() -> None:
    hidden, head = torch.randn(6, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    targets, weights = torch.arange(6), torch.ones(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = weighted_nll(hidden, head, targets, weights)
    expected, _ = full_logits_loss(hidden.bfloat16().float(), head.bfloat16().float(), targets, weights, None, None)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32


def test_a_frozen_head_gets_no_gradient_and_hidden_states_the_same() -> None:
    hidden, head = torch.randn(6, 8, dtype=torch.float64, requires_grad=True), torch.randn(9, 8, dtype=torch.float64)
    targets, weights = torch.arange(6), torch.ones(6, dtype=torch.float64)
    weighted_nll(hidden, head, targets, weights, chunk_rows=4)[0].backward()
    expected = torch.autograd.grad(full_logits_loss(hidden, head, targets, weights, None, None)[0], hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert head.grad is None


def test_without_gradients_only_the_loss_is_computed() -> None:
    hidden, head = torch.randn(6, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    with torch.no_grad():
        loss, nll = weighted_nll(hidden, head, torch.arange(6), torch.ones(6))
    assert not loss.requires_grad
    torch.testing.assert_close(nll.sum(), loss)


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes do not agree"):
        weighted_nll(torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(2, dtype=torch.long), torch.zeros(2))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk_rows", [None, 3])
def test_a_packed_model_has_the_loss_and_gradients_of_the_plain_definition(tied: bool, chunk_rows: int | None) -> None:
    model = tiny_model(tiny_config(tie_word_embeddings=tied))
    model.loss_chunk_rows = chunk_rows
    sequences = sequences_of([9, 1, 23, 14, 6])
    expected_loss, expected = plain_gradients(model, sequences)
    loss, found = gradients_of(model, packed_inputs(sequences))
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-12)
    assert relative_error(found, expected) < 1e-10


def test_a_pack_without_targets_has_zero_loss_and_zero_gradients_for_every_parameter() -> None:
    """A rank without work runs one such token, so that it takes part in the exchange of gradients."""
    model = tiny_model()
    empty = torch.zeros(1, 1, dtype=torch.long)
    inputs = {"input_ids": empty, "position_ids": empty, "target_ids": empty - 100, "loss_weights": empty.double()}
    loss, found = gradients_of(model, inputs | pack_kwargs([0, 1]))
    assert loss == 0.0
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(not gradient.any() for gradient in found.values())


def test_mutations_of_weight_target_and_boundary_are_noticed() -> None:
    """What the equality above is worth: each of these mistakes breaks it by far more than its tolerance."""
    model = tiny_model()
    sequences = sequences_of([9, 23, 14, 6])
    expected = plain_gradients(model, sequences)[1]
    inputs = packed_inputs(sequences)
    weights, targets = inputs["loss_weights"], inputs["target_ids"]
    kept = targets != -100
    mean = torch.where(kept, weights[kept].mean(), weights)
    mutants = {
        "token weighting instead of the sequence's": inputs | {"loss_weights": mean},
        "one target weighs 1% more": inputs | {"loss_weights": weights * (1 + 0.01 * (kept.cumsum(1) == 1))},
        "targets not shifted": inputs | {"target_ids": torch.where(kept, inputs["input_ids"], -100)},
        "one target lost": inputs | {"target_ids": torch.where(kept.cumsum(1) == 1, -100, targets)},
        "two segments merged": inputs | pack_kwargs([0, 32, 46, 52]),
        "a boundary off by one": inputs | pack_kwargs([0, 10, 32, 46, 52]),
        "positions run on": inputs | {"position_ids": torch.arange(52)[None] % 40},
    }
    for mistake, mutant in mutants.items():
        assert relative_error(gradients_of(model, mutant)[1], expected) > 1e-4, mistake


def test_a_padded_batch_has_the_same_gradients() -> None:
    model = tiny_model()
    sequences = sequences_of([9, 1, 23, 14])
    expected = plain_gradients(model, sequences)[1]
    width = 23
    packed = [packed_inputs([s]) for s in sequences]

    def rows(name: str, fill: float) -> Tensor:
        return torch.cat([nn.functional.pad(p[name], (0, width - p[name].shape[1]), value=fill) for p in packed])

    inputs = {
        "input_ids": rows("input_ids", 0),
        "attention_mask": torch.tensor([[int(t < len(s.ids_T)) for t in range(width)] for s in sequences]),
        "target_ids": rows("target_ids", -100),
        "loss_weights": rows("loss_weights", 0.0),
    }
    assert relative_error(gradients_of(model, inputs)[1], expected) < 1e-10


def test_gradient_checkpointing_changes_nothing() -> None:
    model = tiny_model()
    inputs = packed_inputs(sequences_of([9, 23, 14]))
    expected = gradients_of(model, inputs)[1]
    model.train()
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()  # renamed in transformers 5.2x; not reentrant by default in both
    assert relative_error(gradients_of(model, inputs)[1], expected) < 1e-12


@through_peft
def test_lora_trains_adapters_only_and_matches_the_plain_definition() -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny_model()
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    sequences = sequences_of([9, 23, 14])
    inputs = packed_inputs(sequences)
    expected = plain_gradients(tuned.get_base_model(), sequences)[1]
    loss, found = gradients_of(tuned, inputs)
    found = {name.removeprefix("base_model.model."): g for name, g in found.items()}
    assert loss > 0
    assert len(found) == 2 * 7 * 2
    assert relative_error(found, expected) < 1e-10


@through_peft
def test_a_fully_tuned_head_beside_adapters_is_the_one_that_learns() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    tuned = get_peft_model(tiny_model(), config)
    found = gradients_of(tuned, packed_inputs(sequences_of([9, 23])))[1]
    assert any("modules_to_save" in name and g.abs().sum() > 0 for name, g in found.items())


@through_peft
def test_adapters_on_the_head_are_refused() -> None:
    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["lm_head"]))
    with pytest.raises(ModelError, match="lm_head"):
        backbone_and_head(tuned)


def test_a_model_without_head_is_refused() -> None:
    from transformers import LlamaModel

    with pytest.raises(ModelError, match="no decoder of its own"):
        attach_loss(LlamaModel(tiny_config()))


def test_attaching_twice_and_asking_for_plain_logits_changes_nothing() -> None:
    model = tiny_model()
    assert attach_loss(model) is model
    assert type(model).__name__ == "LlamaForCausalLM"
    assert type(model.lm_head).__name__ == "Linear"
    ids = torch.arange(5)[None]
    assert model(input_ids=ids, use_cache=False).logits.shape == (1, 5, 89)
    with pytest.raises(ValueError, match="loss_weights"):
        model(input_ids=ids, target_ids=ids)


def test_an_attached_model_saves_generates_and_reloads_as_plain_transformers(tmp_path) -> None:
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    model = tiny_model(dtype=torch.float32)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is LlamaForCausalLM
    ids = torch.arange(5)[None]
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(model(input_ids=ids).logits, again(input_ids=ids).logits)
    assert torch.equal(
        model.generate(ids, max_new_tokens=4, do_sample=False), again.generate(ids, max_new_tokens=4, do_sample=False)
    )
