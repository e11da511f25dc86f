"""How processes share the work, as Trainer and accelerate want to be told."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from longalign.config import LoopSettings, TrainSettings
from longalign.config.plan import microbatch_tokens
from longalign.errors import ConfigError
from longalign.train.parallel import ranks


def training_arguments(settings: LoopSettings, folder: Path, steps: int) -> Any:
    """`TrainingArguments` for `PlanTrainer`: whatever the plan, optimizer and checkpoints decide is switched off."""
    from transformers import TrainingArguments

    on_gpu = torch.cuda.is_available()
    how = parallel_mode(settings)
    extra: dict[str, Any] = {}
    if how == "deepspeed":
        if "LOCAL_RANK" not in os.environ:
            raise ConfigError("parallel: deepspeed is started by torchrun, one process too; or use fsdp2")
        extra = {"deepspeed": deepspeed_config(settings)}
    elif how == "ddp":
        extra = {"ddp_find_unused_parameters": False}
        if not on_gpu:
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
            bf16=on_gpu and settings.dtype == "bfloat16" and how == "deepspeed",  # else see PlanTrainer.precision
            seed=settings.seed,
            use_cpu=not on_gpu,
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


def parallel_mode(settings: LoopSettings) -> str:
    """`settings.parallel`, or what suits the machine. Raises `ConfigError` for what the number of ranks excludes."""
    several = ranks.world_size() > 1
    how = settings.parallel
    quantised = isinstance(settings, TrainSettings) and settings.quantize is not None
    if how is None and (settings.cpu_offload or (several and torch.cuda.is_available() and not quantised)):
        how = "fsdp2"
    elif how is None:
        how = "ddp" if several else "none"
    if how == "none" and several:
        raise ConfigError(
            f"parallel: none, but {ranks.world_size()} processes were started; use ddp, fsdp2 or deepspeed"
        )
    if how == "ddp" and not several:
        return "none"
    if ranks.world_size() % settings.sequence_parallel:
        raise ConfigError(f"sequence_parallel: {settings.sequence_parallel} does not divide {ranks.world_size()} ranks")
    return how


def compute_dtype(device: torch.device, settings: LoopSettings) -> torch.autocast:
    """Autocast to bfloat16 on a GPU if `settings.dtype` asks for it; does nothing on a CPU.

    Without autocast's cache: it would keep the cast copy of every weight until the end of a forward pass, 2 bytes a
    parameter, to spare casts of weights that are used twice, which none are.
    """
    half = settings.dtype == "bfloat16" and device.type == "cuda"
    return torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False)


def token_limit(settings: LoopSettings) -> int:
    """Tokens of a microbatch on this machine."""
    return microbatch_tokens(settings, on_gpu=torch.cuda.is_available())


def deepspeed_config(settings: LoopSettings) -> dict[str, Any]:
    """ZeRO-3 as in the paper, with optional offload to host memory."""
    offload = {"device": "cpu" if settings.cpu_offload else "none"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": torch.cuda.is_available() and settings.dtype == "bfloat16"},
        "zero_force_ds_cpu_optimizer": False,  # our optimizer, wherever the parameters live
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "offload_optimizer": offload,
            "offload_param": offload,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }
