"""One optimizer step over given rows, by LongAlign and by TRL: what the training benchmarks time.

Each function returns a call without arguments: forward, backward, clipping and update over all rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longalign.config import LoopSettings
from longalign.core.batching import plan_steps
from longalign.core.model_shape import ModelShape
from longalign.data.tokenize import TokenSequence
from longalign.train.collate import StepLoader
from longalign.train.metrics import Groups, StepMeter
from longalign.train.parallel.arguments import training_arguments
from longalign.train.parallel.placement import join
from longalign.train.run_plan import weight_schedule
from longalign.train.trainer import PlanTrainer


def longalign_step(
    model: Any, data: list[TokenSequence], settings: LoopSettings, *, packs_per_step: int | None = None
) -> Callable[[], None]:
    """Through the product's own plan, loader and trainer; `model` has its loss attached."""
    placement = join(settings)
    plan = plan_steps(
        [s.length_tokens for s in data], [s.target_count for s in data], window=settings.window,
        sequences_per_step=len(data), strategy=settings.strategy, rows_per_microbatch=settings.rows_per_microbatch,
        token_limit=placement.token_limit, packs_per_step=packs_per_step,
        cost=ModelShape.from_config(model.config.to_dict()).sequence_cost(),
    )  # fmt: skip
    assert len(plan) == 1
    folder = Path(tempfile.mkdtemp())
    loader = StepLoader(data, plan, weight_schedule(settings))
    groups = Groups.of(plan.lengths_N, plan.targets_N, np.zeros(len(data), dtype=np.int32), ["rows"])
    trainer = PlanTrainer(
        model, training_arguments(settings, placement, folder, 1), settings=settings, placement=placement,
        loader=loader,
        meter=StepMeter(folder / "metrics.jsonl", plan, groups, 1), checkpoints=folder,
        names_of=lambda rows: list(map(str, rows)),
    )  # fmt: skip
    wrapped, _ = trainer._prepare_for_training(1, loader, None)

    def step() -> None:
        trainer.training_step(wrapped, loader.batch(0))
        trainer.sums.take()
        trainer._clip_grad_norm(wrapped)
        trainer.optimizer.step()
        wrapped.zero_grad()

    return step


def trl_step(model: Any, data: list[TokenSequence], *, peft_config: Any = None, **options: Any) -> Callable[[], None]:
    """Through TRL's SFTTrainer with packing; the step is as many packs as it makes. `options` are SFTConfig's."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    words = {f"w{n}": n for n in range(model.config.vocab_size)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), eos_token="w1", pad_token="w2"
    )
    dataset = Dataset.from_list(
        [{"input_ids": s.ids_T.tolist(), "labels": np.where(s.target_T, s.ids_T, -100).tolist()} for s in data]
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(), packing=True, per_device_train_batch_size=1, report_to="none",
            disable_tqdm=True, **options,
        ),
        train_dataset=dataset, processing_class=tokenizer, peft_config=peft_config,
    )  # fmt: skip
    batches = list(trainer.get_train_dataloader())
    trainer.create_optimizer()
    targets = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    assert targets == sum(s.target_count for s in data), "TRL trains the same targets"
    trainer.current_gradient_accumulation_steps = len(batches)
    count = torch.tensor(targets, device=trainer.args.device)

    def step() -> None:
        for batch in batches:
            trainer.training_step(trainer.model, dict(batch), count)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.model.zero_grad()

    return step
