"""`TrainingArguments` of a run."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from longalign.config import LoopSettings
from longalign.errors import ConfigError
from longalign.train.parallel.placement import Placement
from longalign.train.parallel.zero3 import deepspeed_config


def training_arguments(settings: LoopSettings, placement: Placement, folder: Path, steps: int) -> Any:
    """`TrainingArguments` for `PlanTrainer`: whatever the plan, optimizer and checkpoints decide is switched off."""
    from transformers import TrainingArguments

    extra: dict[str, Any] = {}
    if placement.mode == "deepspeed":
        if "LOCAL_RANK" not in os.environ:
            raise ConfigError("parallel: deepspeed is started by torchrun, one process too; or use fsdp2")
        extra = {"deepspeed": deepspeed_config(settings, placement)}
    elif placement.mode == "ddp":
        extra = {"ddp_find_unused_parameters": False}
        if not placement.on_gpu:
            extra["ddp_backend"] = "gloo"
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)  # suggests DDP to one process that shards
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = TrainingArguments(
            output_dir=str(folder),  # trackers write below it; checkpoints are ours
            per_device_train_batch_size=1,
            gradient_accumulation_steps=1,
            num_train_epochs=1,
            max_steps=steps,
            learning_rate=settings.learning_rate,
            max_grad_norm=settings.max_grad_norm,
            bf16=placement.mode == "deepspeed" and placement.dtype == torch.bfloat16,  # else see PlanTrainer.precision
            seed=settings.seed,
            use_cpu=not placement.on_gpu,
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            logging_nan_inf_filter=False,
            ignore_data_skip=True,
            disable_tqdm=True,
            log_level="error",
            report_to=list(settings.report_to) or "none",
            remove_unused_columns=False,
            average_tokens_across_devices=False,
            **extra,
        )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process, one GPU; Trainer would put DataParallel over all it sees
    return arguments
