"""Tiny models and packs for the training tests."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from longalign.train.attention import pack_kwargs
from longalign.train.loss import attach_loss
from longalign.train.model import attention_of
from longalign.train.wrapper import freeze_other_parts, loader_of
from tests.makers.models import VOCABULARY, tiny_config
from tests.oracles.plain_loss import PlainSequence, loss_and_gradients


class DoubleThroughout(TorchFunctionMode):
    """Keeps float64 in float64 where model code asks for float32 (norms, routers), so that 1e-10 means something."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return func(*args, **kwargs)


def tiny_model(config: Any = None, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Module:
    """Random weights, packed attention (or the model's own), loss attached."""
    config = tiny_config() if config is None else config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = loader_of(config).from_config(
            config,
            dtype=dtype,
            attn_implementation=attention_of(config),
            experts_implementation="eager",
        )
        with torch.no_grad():  # zero biases and unit norms would hide mistakes
            for name, parameter in model.named_parameters():
                parameter.data = parameter.data.to(dtype)  # some models keep their router in float32
                if parameter.ndim == 1:
                    parameter += 0.2 * torch.randn_like(parameter)
                assert bool(parameter.isfinite().all()), name
    freeze_other_parts(model)
    return attach_loss(model)


def sequences_of(lengths: Sequence[int], *, seed: int = 0) -> list[PlainSequence]:
    """Random sequences; about half of the tokens are targets, the last sequence of length > 2 has none at all."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, length in enumerate(lengths):
        ids = torch.randint(0, VOCABULARY, (length,), generator=generator)
        target = torch.rand(length, generator=generator) < 0.5
        target[0] = False
        if number == len(lengths) - 1 and length > 2:
            target[:] = False
        weight = float(torch.rand((), generator=generator)) + 0.1
        made.append(PlainSequence(ids, target, weight))
    return made


def packed_inputs(sequences: Sequence[PlainSequence], **pack_options: Any) -> dict[str, Any]:
    """The model's keyword arguments for these sequences as one pack, targets shifted to where they are predicted."""
    ids = torch.cat([s.ids_T for s in sequences])
    positions = torch.cat([torch.arange(len(s.ids_T)) for s in sequences])
    targets, weights = [], []
    for s in sequences:
        shifted = torch.full_like(s.ids_T, -100)
        shifted[:-1] = torch.where(s.is_target_T[1:], s.ids_T[1:], torch.tensor(-100))
        targets.append(shifted)
        weights.append(torch.full((len(s.ids_T),), s.weight, dtype=torch.float64))
    bounds = [0, *torch.tensor([len(s.ids_T) for s in sequences]).cumsum(0).tolist()]
    return {
        "input_ids": ids[None],
        "position_ids": positions[None],
        "target_ids": torch.cat(targets)[None],
        "loss_weights": torch.cat(weights)[None],
        **pack_kwargs(bounds, **pack_options),
    }


def padded_inputs(sequences: Sequence[PlainSequence]) -> dict[str, Any]:
    """The same as rows of one sequence each, filled up to the longest with token 7, as the padded layout has them."""
    width = max(len(s.ids_T) for s in sequences)
    short = [width - len(s.ids_T) for s in sequences]
    nothing = torch.zeros(width, dtype=torch.bool)
    filled = [
        PlainSequence(torch.cat([s.ids_T, nothing[:n] + 7]), torch.cat([s.is_target_T, nothing[:n]]), s.weight)
        for s, n in zip(sequences, short, strict=True)
    ]
    lengths = torch.tensor([len(s.ids_T) for s in sequences], dtype=torch.int32)
    return packed_inputs(filled) | {"segment_lengths": lengths}


def gradients_of(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the packed path; leaves the model without gradients."""
    return loss_and_gradients(model, lambda: model(**inputs).loss)
