"""The balance loss of experts: transformers' value for one sequence, and the same gradient in every layout."""

from typing import Any

import pytest
import torch
from torch import nn

from longalign.errors import ModelError
from longalign.train.admit import admit
from longalign.train.prepare import enable_checkpointing
from longalign.train.router_loss import router_loss_of, router_notes
from tests.makers.other_families import FAMILIES
from tests.oracles.plain_loss import loss_and_gradients, plain_loss, plain_router_loss, relative_error
from tests.train.tiny import DoubleThroughout, gradients_of, packed_inputs, padded_inputs, sequences_of, tiny_model

COEFFICIENT = 0.7
NAMES = ("Mixtral", "Qwen3-MoE", "gpt-oss", "OLMoE", "Granite MoE")


def model_with_router_loss(name: str) -> nn.Module:
    config = FAMILIES[name].build()
    config.output_router_logits, config.router_aux_loss_coef = True, COEFFICIENT
    return tiny_model(config)


@pytest.mark.parametrize("name", NAMES)
def test_packed_and_padded_have_the_gradient_of_the_definition(name: str) -> None:
    model = model_with_router_loss(name)
    admit(model, "balanced")
    model.train()
    sequences = sequences_of([13, 1, 22, 9])
    with DoubleThroughout():
        loss, expected = loss_and_gradients(model, lambda: plain_router_loss(model, sequences, COEFFICIENT))
        packed_loss, packed = gradients_of(model, packed_inputs(sequences))
        padded_loss, padded = gradients_of(model, padded_inputs(sequences))
        assert packed_loss.item() == pytest.approx(loss.item(), rel=1e-6)  # transformers counts in float32
        assert relative_error(packed, expected) < 1e-6
        assert padded_loss.item() == pytest.approx(packed_loss.item(), rel=1e-12)
        assert relative_error(padded, packed) < 1e-10
        without = loss_and_gradients(model, lambda: plain_loss(model, sequences))[1]
        assert relative_error(packed, without) > 1e-3, "what the equality notices"
        forgotten = {k: v for k, v in padded_inputs(sequences).items() if k != "segment_lengths"}
        assert relative_error(gradients_of(model, forgotten)[1], expected) > 1e-3, "padding counted"


def test_it_trains_under_checkpointing_and_is_left_out_of_held_out_losses() -> None:
    model = model_with_router_loss("Mixtral")
    inputs = packed_inputs(sequences_of([13, 22]))
    model.train()
    loss, expected = gradients_of(model, inputs)
    with torch.no_grad():
        measured = model(**inputs)
    assert measured.loss < loss
    torch.testing.assert_close(measured.loss, (measured.nll * inputs["loss_weights"]).sum())
    enable_checkpointing(model, offload=False)
    again, found = gradients_of(model, inputs)
    torch.testing.assert_close(again, loss)
    assert relative_error(found, expected) < 1e-10


def test_what_balances_experts_is_said_and_never_silent() -> None:
    assert router_notes(tiny_model()) == ()
    assert "no balance loss is trained" in router_notes(tiny_model(FAMILIES["Mixtral"].build()))[0]
    assert "weighted 0.7" in router_notes(model_with_router_loss("Mixtral"))[0]
    assert "stay as they are" in router_notes(tiny_model(FAMILIES["DeepSeek-V3"].build()))[-1]
    silent = FAMILIES["Mixtral"].build()
    silent.output_router_logits, silent.router_aux_loss_coef = True, 0.0
    assert router_loss_of(tiny_model(silent)) is None


def test_a_balance_loss_unlike_that_of_transformers_is_refused() -> None:
    model = model_with_router_loss("Mixtral")
    whole = type(model).forward

    def doubled(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = whole(self, *args, **kwargs)
        if kwargs.get("output_router_logits"):
            output.aux_loss = output.aux_loss * 2
        return output

    model.__class__ = type("Doubled", (type(model),), {"forward": doubled})
    with pytest.raises(ModelError, match="balance loss of its experts differs"):
        admit(model, "balanced")
