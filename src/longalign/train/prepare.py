"""Prepares a model for training: load it, attach the loss, check that packed segments are isolated, add adapters."""

from __future__ import annotations

import copy
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from longalign.base.progress import say
from longalign.base.sources import model_dir
from longalign.config import AdapterSettings, LoopSettings, RopeSettings
from longalign.train.admit import admit, measure_in_rows
from longalign.train.check_isolation import IsolationReport
from longalign.train.liger import check_liger, use_liger_kernels
from longalign.train.lora import add_adapters, describe_adapters
from longalign.train.loss import attach_loss
from longalign.train.model import ModelReport, attention_of, check_supported, check_vocabulary, load_config, load_model
from longalign.train.parallel import ranks
from longalign.train.parallel.fsdp2 import shard
from longalign.train.parallel.placement import Placement
from longalign.train.parallel.ranks import seeded
from longalign.train.router_loss import router_notes
from longalign.train.tiled_mlp import tile_mlps
from longalign.train.wrapper import freeze_other_parts, is_wrapper, loader_of


def check_model(
    settings: LoopSettings,
    placement: Placement,
    source: str,
    tokenizer: Any,
    *,
    needs_rope: bool = False,
    plan_only: bool = False,
) -> None:
    """Raise `ModelError` for what config, tokenizer and machine already exclude, before a corpus is tokenised.

    With `plan_only` this need not be the machine that trains.
    """
    config = load_config(source)
    check_supported(config, needs_rope=needs_rope)
    check_vocabulary(config, tokenizer)
    if placement.group:
        placement.group.check(config)
    if settings.liger_kernels and not plan_only:
        check_liger()


def build_model(
    settings: LoopSettings, placement: Placement, name: str, *, rope: RopeSettings | None = None, init: str = "weights"
) -> tuple[nn.Module, ModelReport]:
    """Load `name` for training with `settings`, sharded where FSDP2 trains it; prints what was built.

    Every rank calls it, after `placement.join`. Raises `ModelError` if segments would mix.
    """
    adapters = settings if isinstance(settings, AdapterSettings) and settings.lora_rank is not None else None
    quantize = adapters.quantize if adapters else None
    model, report = load_model(
        model_dir(name),
        rope=rope,
        window=settings.window if rope else None,
        dtype=placement.weight_dtype(frozen=adapters is not None),
        init="weights" if quantize else _source(placement, init),  # every rank quantises the weights itself
        seed=settings.seed,
        quantize=quantize,
        splittable=placement.sharded,
    )
    attach_loss(model, chunk_rows=settings.loss_chunk_tokens)
    if settings.liger_kernels:
        use_liger_kernels(model, tiled_mlp=settings.mlp_tile_tokens is not None)
    isolation = _check(model, placement, settings)
    if isolation.layout == "rows":
        cast(Any, model).one_sequence_a_row = True
        cast(Any, model).set_attn_implementation(isolation.attention)
    if ranks.is_first():
        stored = f"layers in 4 bits, {report.dtype}" if quantize else report.dtype
        say(f"model: {report.model_class}, {report.parameters / 1e6:,.1f}M parameters, {stored}, from {name}")
        for line in report.rope:
            say(f"rope: {line}")
        how = "packed" if isolation.layout == "packed" else "one sequence a row"
        say(f"isolation: {how} = separate within {isolation.equal_error:.1e}, leak {isolation.isolated_error:.1e}")
        for line in router_notes(model):
            say(f"router: {line}")
        if is_wrapper(cast(Any, model).config):
            say("text part: only the language model of this model trains; the rest is exported as it came")
    if adapters:
        model = add_adapters(model, adapters)
        freeze_other_parts(model)
        if ranks.is_first():
            say(f"adapters: {describe_adapters(model, adapters)}")
    if placement.gradient_checkpointing:
        enable_checkpointing(model, offload=settings.activation_offload)
    if settings.mlp_tile_tokens:
        tiled, layers = tile_mlps(model, settings.mlp_tile_tokens)
        if ranks.is_first():
            say(f"mlp: {tiled} of {layers} layers in tiles of {settings.mlp_tile_tokens} tokens")
    if placement.sharded:
        shard(model, placement)
    return model, report


def model_to_measure(placement: Placement, name: str) -> nn.Module:
    """`name` as it came, with its loss, on the device of training; sharded where training is."""
    model, _ = load_model(model_dir(name), dtype=torch.float32, init=_source(placement, "weights"))
    attach_loss(model)
    measure_in_rows(model)
    return shard(model, placement) if placement.sharded else model.to(placement.device)


def _source(placement: Placement, init: str) -> Literal["weights", "random", "meta"]:
    """Where this rank takes weights from: of a sharded model only the first rank needs any (`shard`)."""
    if placement.sharded and not ranks.is_first():
        return "meta"
    return "random" if init == "random" else "weights"


def _check(model: nn.Module, placement: Placement, settings: LoopSettings) -> IsolationReport:
    """What `admit` says of the model, on the device and in the precision of training, on every rank.

    Weights that will be sharded are on no rank but the first, and may not fit one GPU whole: then a few layers of the
    same config stand for them.
    """
    with seeded(settings.seed), placement.autocast():
        checked = model.to(placement.device) if placement.whole else _shallow(model, placement.device)
        return admit(checked, settings.strategy, shared=placement.sequence_parallel > 1, seed=settings.seed)


def _shallow(model: nn.Module, device: torch.device) -> nn.Module:
    """Random weights in the first layers of the same config, at least one layer of each kind."""
    config = copy.deepcopy(cast(Any, model).config)
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers)
    text.num_hidden_layers = 1 + max(kinds.index(kind) for kind in set(kinds))
    if getattr(text, "layer_types", None):
        text.layer_types = kinds[: text.num_hidden_layers]
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": attention_of(config)}
    with device:
        return attach_loss(loader_of(config).from_config(config, **options))


def enable_checkpointing(model: nn.Module, *, offload: bool) -> None:
    """Recompute each layer in the backward pass; `offload` keeps its input in host memory."""
    how = {"use_reentrant": False}
    plain = cast(Any, model)
    if offload:  # older transformers have no switch for it, and 5.23's fails without a GPU
        plain._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=_checkpoint_on_host)
    elif hasattr(plain, "activation_checkpointing_enable"):
        plain.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        plain.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
    if not any(p.requires_grad for p in plain.get_input_embeddings().parameters()):
        plain.enable_input_require_grads()


def _checkpoint_on_host(layer: Any, *inputs: Any, **more: Any) -> Any:
    with save_on_cpu(pin_memory=True):
        return checkpoint(layer, *inputs, use_reentrant=False, **more)
