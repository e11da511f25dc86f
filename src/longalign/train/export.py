"""Exports a trained model as a plain Hugging Face directory that transformers, vLLM and others load without LongAlign.

Weights are stored once, in one dtype, which config.json names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longalign.base.files import atomic_path
from longalign.base.sources import model_dir
from longalign.config import LoopSettings, RopeSettings
from longalign.train.checkpoint import whole
from longalign.train.lora import has_adapters, merge_adapters, save_adapter
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
    rope: RopeSettings | None = None,
    end_ids: tuple[int, ...] = (),
) -> dict[str, Tensor]:
    """Write `folder/final` (and `folder/adapter` for LoRA, merged in `final`). Every rank calls it.

    `model` is unwrapped (not DDP); `base` is where its untrained weights came from. Weights get the dtype of
    `export_dtype`, by default that of the base model's config; `end_ids` are tokens that end a turn, so that generation
    stops there. Returns the weights of `final` before they were rounded, on the first rank.
    """
    adapters = has_adapters(model)
    state = _whole_state(model, trained_only=adapters)
    if ranks.is_first():
        dtype = stored_dtype(settings, base)
        plain: Any = model
        if adapters:
            with atomic_path(folder / "adapter") as temporary:
                save_adapter(model, temporary, state, base=base)
                (temporary / "README.md").write_text(_about_adapter(base, rope), encoding="utf-8")
            zero.build_plainly()
            fresh, _ = load_model(
                model_dir(base),
                rope=rope,
                window=settings.window if rope else None,
                dtype=torch.float64 if dtype == torch.float64 else torch.float32,
            )
            plain = merge_adapters(fresh, folder / "adapter")
            state = _whole_state(plain)
        _write_plain(plain, state, tokenizer, folder / "final", dtype=dtype, end_ids=end_ids)
        finish_wrapper(plain, model_dir(base), folder / "final")
    ranks.wait_for_first()
    return state


def stored_dtype(settings: LoopSettings, base: str) -> torch.dtype:
    """What the settings ask for, or what the base model is stored in; float32 when its config does not say."""
    if settings.export_dtype:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.export_dtype]
    dtype = getattr(load_config(model_dir(base)), "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _write_plain(
    model: Any,
    weights: Mapping[str, Tensor],
    tokenizer: Any,
    final: Path,
    *,
    dtype: torch.dtype,
    end_ids: tuple[int, ...],
) -> None:
    state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    text = model.config.get_text_config()
    before = getattr(text, "use_cache", True), model.config.dtype
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    generation = model.generation_config
    known = generation.eos_token_id
    stops = set(known if isinstance(known, list) else [known]) & special | {tokenizer.eos_token_id, *end_ids} - {None}
    try:
        text.use_cache, model.config.dtype = True, dtype
        generation.eos_token_id = sorted(stops) if len(stops) > 1 else next(iter(stops), None)
        generation.pad_token_id = tokenizer.pad_token_id
        model.config.eos_token_id, model.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        model.config.bos_token_id = generation.bos_token_id = tokenizer.bos_token_id
        window = getattr(text, "max_position_embeddings", 0)  # servers believe the tokenizer's figure too
        tokenizer.model_max_length = max(tokenizer.model_max_length, window)
        with atomic_path(final) as temporary:
            model.save_pretrained(str(temporary), state_dict=state)
            tokenizer.save_pretrained(str(temporary))
            _write_dtype(temporary / "config.json", dtype)
            write_transformers4_rope(temporary / "config.json")
            write_earlier_tokenizer(temporary / "tokenizer_config.json")
    finally:
        text.use_cache, model.config.dtype = before


def _write_dtype(path: Path, dtype: torch.dtype) -> None:
    """transformers writes the dtype of the model in memory, which trained in float32."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


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


def _whole_state(model: nn.Module, *, trained_only: bool = False) -> dict[str, Tensor]:
    """All weights, or those that train, in host memory on the first rank; sharded ones are gathered, tensor by tensor.
    Tied weights are there once, under their first name."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found, seen = {}, set()
    for name, tensor in (trained if trained_only else model.state_dict(keep_vars=True)).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        value = whole(tensor)
        if value is not None:
            found[name] = value
    return found


def _about_adapter(base: str, rope: RopeSettings | None) -> str:
    """README.md of the adapter's folder."""
    stretched = (
        "It trained with stretched RoPE, so the base needs the config of `../final`:\n"
        "`AutoModelForCausalLM.from_pretrained(BASE, config=AutoConfig.from_pretrained(FINAL))`.\n"
    )
    return (
        f"---\nlibrary_name: peft\n---\n\nAn adapter for `{base}`, made with LongAlign. Load it with\n"
        f"`PeftModel.from_pretrained(base_model, DIR)`.\n{stretched if rope else ''}"
    )
