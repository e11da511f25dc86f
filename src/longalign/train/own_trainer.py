"""A plan in the user's own `transformers.Trainer`: a dataset, a collator, a prepared model and a check.

    model = prepare_model(AutoModelForCausalLM.from_pretrained("MODEL_DIR"))
    dataset = PackedDataset(sequences, plan)
    trainer = Trainer(
        model, TrainingArguments("out", **dataset.arguments()), train_dataset=dataset,
        data_collator=PackCollator(), callbacks=[PlanCheck(dataset)],
    )

Why the optimizer then sees the gradient of Eq. 2 (`core/weighting.py`), with R ranks and A accumulated microbatches:

- Item (step * A + place) * R + rank is what `rank` runs at `place` of `step`. accelerate deals batches of one item to
  ranks in turn, so each rank gets its own microbatches in the order of the plan.
- Every step has exactly A microbatches on every rank, the most that any rank has in any step; what is missing is one
  token of weight zero.
- Trainer divides the loss of each microbatch by A, and ranks average their gradients, so weights carry A * R. Nothing
  else may scale the loss: `prepare_model` tells Trainer that the model does not take `num_items_in_batch`.

Trainer's own checkpoints continue in the middle of a plan. Sequence parallelism, held-out losses and another number of
ranks on resume need `longalign train`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.utils.data import Dataset, get_worker_info
from transformers import TrainerCallback

from longalign.core.step_plan import StepPlan
from longalign.core.weighting import WeightSchedule
from longalign.data.tokenize import TokenSequence
from longalign.errors import ConfigError, DataError, PlanError
from longalign.train.admit import admit_any, only_a_run_can_tell
from longalign.train.collate import Sequences, collate
from longalign.train.loss import attach_loss
from longalign.train.model import attention_of, check_supported
from longalign.train.parallel import ranks
from longalign.train.parallel.ulysses import model_inputs
from longalign.train.wrapper import freeze_other_parts

PLACE = "place_in_plan"
"""Key of an item with its number and the number of ranks; the collator reads and removes it."""
CPU = torch.device("cpu")
Model = TypeVar("Model", bound=nn.Module)


def prepare_model(model: Model, *, chunk_rows: int | None = None) -> Model:
    """Give a transformers causal LM packed attention and the weighted loss; returns the same object.

    Afterwards it takes what `pack` and `PackedDataset` make. Without those arguments it behaves as before, and it
    saves as before; to generate with it, call `model.set_attn_implementation("sdpa")` (or "eager") first. Call this
    before PEFT, DDP or FSDP wrap the model. `chunk_rows`: rows of logits held at once, None to choose by device and
    vocabulary.
    A model that runs show to mix packed segments takes rows of one sequence: plans of `sorted` and `padded`.
    Raises `ModelError` for a model that cannot be trained exactly.
    """
    plain = cast(Any, model)
    check_supported(plain.config)
    plain.set_attn_implementation(attention_of(plain.config))
    freeze_other_parts(model)
    attach_loss(model, chunk_rows=chunk_rows)
    if only_a_run_can_tell(plain):
        admit_any(model)
    plain.accepts_loss_kwargs = False  # Trainer then divides by the accumulation steps and by nothing else
    return model


def pack(
    sequences: Sequence[TokenSequence], weights: ArrayLike | None = None, *, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Sequences laid end to end, as keyword arguments of a prepared model: `model(**pack(...)).loss.backward()`.

    Sequences become segments that do not see each other. With T tokens in all: `input_ids`, `position_ids` (from 0 in
    each segment), `target_ids` (the token to predict, -100 where none) and `loss_weights` have shape [1, T]; the rest
    says where segments start. `weights` holds one weight a sequence, as `sequence_weights` returns it; None weighs
    each target 1, so the loss is a sum. `dtype` is that of the weights. Raises `DataError` if counts do not agree.
    """
    count = len(sequences)
    weight_N = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight_N.shape != (count,):
        raise DataError(f"weights: shape {weight_N.shape} for {count} sequences; give one weight a sequence")
    weight_of = dict(enumerate(weight_N.tolist()))
    return model_inputs(collate(sequences, range(count), weight_of, layout="packed", dtype=dtype), CPU)


class PackedDataset(Dataset[dict[str, Any]]):
    """All microbatches of a plan, of every rank, in the order in which accelerate deals them out.

    Item i is a microbatch as keyword arguments of a prepared model, with its place in the plan. `sequences` holds the
    rows that the plan was made of: a list of `TokenSequence` or a `TokenStore`. Ranks come from the plan, epochs too:
    make it with `plan_steps(..., ranks=WORLD_SIZE, epochs=...)`. `dtype` is that of the loss weights.
    Raises `PlanError` for a plan with sequence parallelism, `DataError` for sequences of another number.
    """

    def __init__(
        self,
        sequences: Sequences,
        plan: StepPlan,
        *,
        weighting: str | WeightSchedule = "sequence",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if plan.rules.sequence_parallel > 1:
            raise PlanError("sequence_parallel: transformers' Trainer cannot share a pack; plan with 1, or use ours")
        given = len(cast(Any, sequences))
        if given != plan.sequences:
            raise DataError(f"{given} sequences for a plan of {plan.sequences}; give those it was made of, in order")
        schedule = weighting if isinstance(weighting, WeightSchedule) else WeightSchedule(weighting, weighting)
        self.sequences, self.plan, self.weighting, self.dtype = sequences, plan, schedule, dtype

    @cached_property
    def accumulation(self) -> int:
        """Microbatches a rank runs in each step: `gradient_accumulation_steps`."""
        return max(step.microbatches for step in self.plan)

    def __len__(self) -> int:
        return len(self.plan) * self.accumulation * self.plan.ranks

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"microbatch {index} of a plan with {len(self)}")
        turn, rank = divmod(index, self.plan.ranks)
        number, place = divmod(turn, self.accumulation)
        step = self.plan[number]
        packs = step.ranks[rank].packs
        rows = packs[place] if place < len(packs) else ()
        weights_M = self.weighting.weights(step.target_counts, number, step.pack_numbers)
        weights_M = weights_M * (self.accumulation * self.plan.ranks)
        weight_of = dict(zip(step.sequences, weights_M.tolist(), strict=True))
        microbatch = collate(self.sequences, rows, weight_of, layout=self.plan.layout, dtype=self.dtype)
        return {**model_inputs(microbatch, CPU), PLACE: (index, self.plan.ranks)}

    def arguments(self) -> dict[str, Any]:
        """What `TrainingArguments` must hold for this plan: `TrainingArguments("out", **dataset.arguments())`."""
        return {
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": self.accumulation,
            "num_train_epochs": 1,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": False,
            "dataloader_drop_last": False,
            "ddp_find_unused_parameters": False,
        }


class PackCollator:
    """Unwraps the one microbatch that DataLoader passes in a list, and checks that the plan's order was kept.

    Raises `ConfigError` when microbatches arrive shuffled, several at once, on another rank, or without their columns.
    """

    def __init__(self) -> None:
        self.last: int | None = None

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if len(items) != 1:
            raise ConfigError(
                f"{len(items)} microbatches at once; set per_device_train_batch_size to 1 and start one process a GPU"
            )
        inputs = dict(items[0])
        if PLACE not in inputs:
            raise ConfigError("the items of PackedDataset lost their columns; set remove_unused_columns to False")
        self._check_order(*inputs.pop(PLACE))
        return inputs

    def _check_order(self, index: int, planned_ranks: int) -> None:
        if planned_ranks != ranks.world_size() or index % planned_ranks != ranks.rank():
            raise ConfigError(
                f"microbatch {index} of a plan for {planned_ranks} ranks came to rank {ranks.rank()} of "
                f"{ranks.world_size()}; plan with ranks={ranks.world_size()} and leave accelerate's split_batches and "
                "dispatch_batches off"
            )
        worker = get_worker_info()
        stride = planned_ranks * (worker.num_workers if worker else 1)
        if self.last is not None and index != self.last + stride and index >= stride:
            raise ConfigError(
                f"microbatch {index} came after {self.last}: the plan's order is lost; set train_sampling_strategy to "
                "'sequential'"
            )
        self.last = index


class PlanCheck(TrainerCallback):  # type: ignore[misc]
    """Raises `ConfigError` when training begins with arguments that would change the plan's gradient."""

    def __init__(self, dataset: PackedDataset) -> None:
        self.dataset = dataset

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by Trainer."""
        for name, needed in self.dataset.arguments().items():
            found = getattr(args, name)
            if found != needed and name != "ddp_find_unused_parameters":
                raise ConfigError(f"{name} is {found} but this plan needs {needed}; use **dataset.arguments()")
        if args.world_size != self.dataset.plan.ranks:
            raise ConfigError(
                f"the plan is for {self.dataset.plan.ranks} ranks but {args.world_size} run; plan with "
                f"ranks={args.world_size}"
            )
        model = kwargs.get("model")
        if getattr(model, "accepts_loss_kwargs", True) is not False:
            raise ConfigError("the model was not prepared; call longalign.prepare_model(model) before Trainer")
