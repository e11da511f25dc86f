"""Models that join a language model with others (`...ForConditionalGeneration`): its text part trains, all is exported.

The wrapper is loaded whole and stays whole, so that what is saved has every weight under the name it came with. The
loss runs the text decoder and the head only (`loss.attach_loss`); everything else is frozen and never run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

from torch import nn

PROCESSOR_FILES = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "chat_template.json",
)  # fmt: skip
"""What processors of images, video and sound are stored in, beside the tokenizer's files."""


def is_wrapper(config: Any) -> bool:
    """Whether the language model is one of several parts of this config."""
    return config.get_text_config() is not config


def loader_of(config: Any) -> Any:
    """The `AutoModelFor...` class that builds this config's language model, None where there is none."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    if is_wrapper(config):
        return AutoModelForImageTextToText if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING else None
    return AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None


def with_text_config(config: Any, text: Any) -> Any:
    """A copy of `config` with another text part; `text` itself where the config is nothing else."""
    if not is_wrapper(config):
        return text
    name = next(key for key in config.sub_configs if getattr(config, key, None) is config.get_text_config())
    return type(config).from_dict(config.to_dict() | {name: text.to_dict()})


def without_peft(model: nn.Module) -> Any:
    """The transformers model, below what PEFT wraps it in if it does."""
    plain = cast(Any, model)
    return plain.get_base_model() if hasattr(plain, "get_base_model") else plain


def text_decoder(plain: Any) -> nn.Module:
    """The decoder below the head, of a transformers model that PEFT does not wrap; itself if there is none."""
    decoder = plain if is_wrapper(plain.config) else plain.base_model
    while decoder.get_output_embeddings() is not None:  # some wrap a model that has the head
        inner = decoder.get_decoder()
        if inner is decoder:  # Llama 4 gives its attribute another name than it says
            inner = next((part for part in decoder.children() if hasattr(part, "get_input_embeddings")), None)
        if inner is None:
            break
        decoder = inner
    return cast(nn.Module, decoder)


def freeze_other_parts(model: nn.Module) -> None:
    """Only the text decoder and the head of a wrapper train. Does nothing to other models."""
    plain = without_peft(model)
    if not is_wrapper(plain.config):
        return
    kept = {id(p) for part in (text_decoder(plain), plain.get_output_embeddings()) for p in part.parameters()}
    for parameter in plain.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def finish_wrapper(model: nn.Module, base: str, folder: Path) -> None:
    """Complete what a wrapper was saved in: the processor files of `base` (directory or hub id), and the stored dtype
    in the config of every part. Does nothing to other models.
    """
    from transformers.utils import cached_file

    if not is_wrapper(cast(Any, model).config):
        return
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in config.values():
        if isinstance(part, dict) and "dtype" in part:
            part["dtype"] = config["dtype"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in PROCESSOR_FILES:
        found = cached_file(
            base,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found and not (folder / name).exists():
            shutil.copyfile(found, folder / name)
