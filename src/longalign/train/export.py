"""Exports a trained model as a plain Hugging Face directory that transformers, vLLM and others load without LongAlign.

`model_card` writes its README for the hub: recipe, data and measurements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longalign.base.files import atomic_path
from longalign.base.machine import describe_machine
from longalign.base.sources import model_dir
from longalign.config import LoopSettings, RopeSettings
from longalign.train.checkpoint import whole
from longalign.train.lora import has_adapters, merge_adapters
from longalign.train.model import load_config, load_model
from longalign.train.parallel import ranks
from longalign.train.parallel import zero3 as zero
from longalign.train.wrapper import finish_wrapper


def export(
    model: nn.Module,
    tokenizer: Any,
    folder: Path,
    *,
    settings: LoopSettings,
    base: str,
    card: str,
    rope: RopeSettings | None = None,
    end_ids: tuple[int, ...] = (),
) -> Path:
    """Write `folder/final` (and `folder/adapter` for LoRA, merged in `final`). Every rank calls it.

    `model` is unwrapped (not DDP); `base` is where its untrained weights came from. Weights get the dtype of the base
    model's config; `end_ids` are tokens that end a turn, so that generation stops there.
    """
    final = folder / "final"
    state = _whole_state(model)
    if ranks.is_first():
        plain: Any = model
        weights: dict[str, Tensor] | None = state
        if has_adapters(model):
            with atomic_path(folder / "adapter") as temporary:
                plain.save_pretrained(str(temporary), state_dict=state)
            zero.build_plainly()
            fresh, _ = load_model(
                model_dir(base), rope=rope, window=settings.window if rope else None, dtype=torch.float32
            )
            plain, weights = merge_adapters(fresh, folder / "adapter"), None
        _write_plain(plain, weights, tokenizer, final, dtype=_stored_dtype(base), card=card, end_ids=end_ids)
        finish_wrapper(plain, model_dir(base), final)
    ranks.wait_for_first()
    return final


def _write_plain(
    model: Any,
    weights: Mapping[str, Tensor] | None,
    tokenizer: Any,
    final: Path,
    *,
    dtype: torch.dtype,
    card: str,
    end_ids: tuple[int, ...],
) -> None:
    state = dict(weights) if weights is not None else dict(model.state_dict())
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    text = model.config.get_text_config()
    before = getattr(text, "use_cache", True), model.config.dtype
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    generation = model.generation_config
    known = generation.eos_token_id
    stops = set(known if isinstance(known, list) else [known]) & special | {tokenizer.eos_token_id, *end_ids}
    try:
        text.use_cache, model.config.dtype = True, dtype
        generation.eos_token_id = sorted(stops) if len(stops) > 1 else next(iter(stops))
        generation.pad_token_id = tokenizer.pad_token_id
        model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        model.config.bos_token_id = generation.bos_token_id = tokenizer.bos_token_id
        window = getattr(
            model.config.get_text_config(), "max_position_embeddings", 0
        )  # servers believe the tokenizer's figure too
        tokenizer.model_max_length = max(tokenizer.model_max_length, window)
        with atomic_path(final) as temporary:
            model.save_pretrained(str(temporary), state_dict=state)
            tokenizer.save_pretrained(str(temporary))
            write_transformers4_rope(temporary / "config.json")
            write_earlier_tokenizer(temporary / "tokenizer_config.json")
            (temporary / "README.md").write_text(card, encoding="utf-8")
    finally:
        text.use_cache, model.config.dtype = before


def write_transformers4_rope(path: Path) -> None:
    """Also write RoPE to config.json the way transformers 4 spells it, beside `rope_parameters`.

    What reads `rope_theta` and `rope_scaling` only (transformers 4, and vLLM and others built on it) would take base
    10,000 without a word, and an extended model would write nonsense. transformers 5 reads either, to the same values.
    A model with two RoPEs (`rope_parameters` by layer type) has no earlier notation in common with others: left alone.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    parameters = config.get("rope_parameters") or {}
    if "rope_theta" not in parameters:
        return
    scaling = {k: v for k, v in parameters.items() if k not in ("rope_theta", "partial_rotary_factor")}
    config["rope_theta"] = parameters["rope_theta"]
    config["rope_scaling"] = scaling if scaling.get("rope_type", "default") != "default" else None
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    if config.get("model_type") == "gpt_neox":  # names of its own, which win in transformers 4
        config["rotary_emb_base"] = parameters["rope_theta"]
        config["rotary_pct"] = parameters.get("partial_rotary_factor", 1.0)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_earlier_tokenizer(path: Path) -> None:
    """Call a tokenizer of `tokenizer.json` by the names of transformers 4, which 5 knows too but not the reverse."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    extra = config.get("extra_special_tokens")
    if isinstance(extra, list):
        del config["extra_special_tokens"]
        if extra:
            config["additional_special_tokens"] = extra
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _whole_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights in host memory on the first rank; sharded ones are gathered, tensor by tensor."""
    found, seen = {}, set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:  # tied weights are stored once
            continue
        seen.add(id(tensor))
        value = whole(tensor)
        if value is not None:
            found[name] = value
    return found


def _stored_dtype(base: str) -> torch.dtype:
    """The dtype the base model is stored in, float32 when its config does not say."""
    dtype = getattr(load_config(model_dir(base)), "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def model_card(what: str, settings: LoopSettings, summary: Mapping[str, Any], *, sources: Mapping[str, int]) -> str:
    """README.md of the exported directory."""
    machine = describe_machine()
    base = str(getattr(settings, "model", "unknown"))
    values = settings.model_dump(mode="json")
    shown = [
        "window", "strategy", "weighting", "sequences_per_step", "optimizer", "learning_rate", "lr_scheduler_type",
        "warmup_ratio", "num_train_epochs", "seed", "dtype", "overlong", "train_on", "lora_rank", "quantize",
    ]  # fmt: skip
    recipe = "\n".join(f"| {key} | {values[key]} |" for key in shown if values.get(key) is not None)
    rows = "\n".join(f"| {name} | {count} |" for name, count in sources.items())
    heldout = summary.get("heldout")
    losses = ""
    if heldout:
        pairs = [(heldout["first"][kind], heldout["last"][kind]) for kind in ("all", "by_length", "by_source")]
        lines = [f"| {k} | {first[k]:.4f} | {last[k]:.4f} |" for first, last in pairs for k in last if k in first]
        losses = "\nHeld-out losses:\n\n| part | before | after |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    hardware = ", ".join(machine["accelerators"]) or f"{machine['processor']}, {machine['cores']} cores"
    loss = f"{summary['final_loss']:.4f}" if summary.get("final_loss") is not None else "not measured"
    return f"""---
library_name: transformers
tags: [long-context, longalign]
---

# {base.rsplit("/", 1)[-1]} {what}

Made from `{base}` with [LongAlign](https://arxiv.org/abs/2401.18058)'s recipe. A plain transformers model:
`AutoModelForCausalLM.from_pretrained(DIR)`; chat template included. `config.json` says RoPE as `rope_parameters`
(transformers 5) and, where that can say it, as `rope_theta` and `rope_scaling` (transformers 4, older servers).

## Recipe

| setting | value |
|---|---|
{recipe}

## Data

{summary["sequences"]} sequences, {summary["epochs"]} epoch(s), {summary["steps"]} steps.

| source | sequences |
|---|---|
{rows}

## Measured

Training loss over the last ten steps: {loss}. {summary["target_tokens_per_s"]:,.0f} target tokens/s
({summary["tokens_per_s"]:,.0f} tokens/s) on {ranks.world_size()} process(es), {hardware}.
{losses}
Step plan `{summary["plan_hash"][:16]}`, commit `{machine["commit"] or "release"}`,
{", ".join(f"{k} {v}" for k, v in machine["versions"].items())}.
"""
