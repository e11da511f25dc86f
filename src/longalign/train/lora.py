"""Low-rank adapters by PEFT: added before training, merged into a plain model after it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, cast

from torch import nn

from longalign.config import TrainSettings
from longalign.errors import ModelError
from longalign.train.parallel.ranks import seeded

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it says at import what it misses


def add_adapters(model: nn.Module, settings: TrainSettings) -> nn.Module:
    """Wrap `model` so that only adapters of rank `settings.lora_rank` train; they are float32."""
    peft = _peft()
    targets = settings.lora_target_modules
    config = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings(), seeded(settings.seed):  # every rank draws the same adapters
            warnings.simplefilter("ignore", FutureWarning)  # peft reads a property that transformers renamed
            wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"lora_target_modules: {error}") from None
    return cast(nn.Module, wrapped)


def merge_adapters(base: nn.Module, adapter: Path) -> nn.Module:
    """`base` with the saved adapters added into its weights: a plain model again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return cast(nn.Module, _peft().PeftModel.from_pretrained(base, str(adapter)).merge_and_unload())


def has_adapters(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("lora_rank needs the `peft` package: pip install 'longalign[lora]'") from None
    return peft
