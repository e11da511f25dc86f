"""What turns a causal language model's hidden states into logits, found without knowing the model by name."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from longalign.errors import ModelError
from longalign.train.wrapper import text_decoder, without_peft

SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Names of the soft cap of logits in configs."""


class Head(NamedTuple):
    """What turns hidden states into logits: a linear layer, then `scale`, then the soft cap."""

    linear: nn.Linear
    scale: float
    softcap: float | None


def backbone_and_head(model: nn.Module) -> tuple[nn.Module, Head]:
    """The decoder without its head, and the head, of a transformers causal LM, wrapped by PEFT or not.

    Raises `ModelError` when the head is not one plain linear layer (for instance LoRA on `lm_head`).
    """
    plain = without_peft(model)
    backbone = text_decoder(plain)
    if backbone is plain:
        raise ModelError(
            f"{type(plain).__name__} has no decoder of its own below the head; use a causal language model"
        )
    linear = plain.get_output_embeddings()
    if hasattr(linear, "modules_to_save"):  # PEFT keeps a trainable copy of a fully tuned head beside the original
        linear = linear.modules_to_save[linear.active_adapters[0]]
    plain_linear = isinstance(linear, nn.Linear) and not hasattr(linear, "base_layer")
    if not plain_linear or not linear.weight.is_floating_point():
        raise ModelError(
            f"the head of {type(plain).__name__} is {type(linear).__name__}, not a linear layer: "
            "leave `lm_head` out of the LoRA targets and unquantised (PEFT's modules_to_save may hold it)"
        )
    config = plain.config.get_text_config()
    scale = 1.0
    if getattr(config, "logit_scale", None) is not None:  # Cohere
        scale = float(config.logit_scale)
    if getattr(config, "logits_scaling", None) is not None:  # Granite
        scale = 1.0 / float(config.logits_scaling)
    if getattr(config, "lm_head_multiplier", None) is not None:  # Falcon-H1
        scale = float(config.lm_head_multiplier)
    caps = (getattr(config, name, None) for name in SOFT_CAPS)
    return backbone, Head(linear, scale, next((cap for cap in caps if cap), None))
