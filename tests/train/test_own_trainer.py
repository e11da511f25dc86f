"""A stock `transformers.Trainer` with our dataset, collator and model: its gradients are those of the plain definition.

Gradients are read where the optimizer would use them, through a callback; everything else is Trainer's own loop.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from longalign.core.batching import plan_steps
from longalign.core.step_plan import StepPlan
from longalign.core.weighting import sequence_weights
from longalign.data.tokenize import TokenSequence
from longalign.errors import ConfigError, DataError, PlanError
from longalign.train.attention import NAME
from longalign.train.own_trainer import PackCollator, PackedDataset, PlanCheck, pack, prepare_model
from tests.oracles.plain_loss import relative_error
from tests.train.test_gradients import EQUAL, WINDOW, data, expected_gradients
from tests.train.tiny import DoubleThroughout, tiny_config, tiny_model


def stock_model() -> nn.Module:
    """As a user has it: the weights of `tiny_model`, with transformers' own attention and loss."""
    model = AutoModelForCausalLM.from_config(tiny_config(), dtype=torch.float64, attn_implementation="sdpa")
    model.load_state_dict(tiny_model().state_dict())
    return model


def make_plan(sequences: list[TokenSequence], strategy: str, ranks: int = 1, **more: Any) -> StepPlan:
    given: dict[str, Any] = {"window": WINDOW, "sequences_per_step": 6, "ranks": ranks, "seed": 1}
    return plan_steps(
        [s.length_tokens for s in sequences],
        [s.target_count for s in sequences],
        strategy=strategy,  # type: ignore[arg-type]
        **(given | more),
    )


class Gradients(TrainerCallback):
    """Notes gradients and loss of each step, and keeps the weights still, so that every step can be compared."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.losses: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        plain = model.module if hasattr(model, "module") else model
        self.steps.append({n: p.grad.clone() for n, p in plain.named_parameters() if p.grad is not None})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


def arguments(dataset: PackedDataset, folder: Path, **more: Any) -> TrainingArguments:
    quiet = {
        "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1,
        "learning_rate": 0.0, "max_grad_norm": 0.0, "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(str(folder), **(quiet | dataset.arguments() | more))


def make_trainer(
    dataset: PackedDataset, folder: Path, kind: type[Trainer] = Trainer, model: nn.Module | None = None, **more: Any
) -> tuple[Trainer, Gradients]:
    noted = Gradients()
    trainer = kind(
        prepare_model(stock_model()) if model is None else model,
        arguments(dataset, folder, **more),
        train_dataset=dataset,
        data_collator=PackCollator(),
        callbacks=[PlanCheck(dataset), noted],
    )
    return trainer, noted


def check(strategy: str, folder: Path, ranks: int = 1, weighting: str = "sequence", **more: Any) -> None:
    sequences = data()
    plan = make_plan(sequences, strategy, ranks, **more)
    dataset = PackedDataset(sequences, plan, weighting=weighting, dtype=torch.float64)  # type: ignore[arg-type]
    trainer, noted = make_trainer(dataset, folder)
    trainer.train()
    assert len(noted.steps) == len(plan)
    for index, found in enumerate(noted.steps):
        loss, expected = expected_gradients(sequences, plan, index, weighting)
        assert relative_error(found, expected) < EQUAL, (strategy, ranks, index, relative_error(found, expected))
        if noted.losses:  # the first rank logs
            assert noted.losses[index] == pytest.approx(float(loss), rel=1e-4), "what Trainer logs is the loss of Eq. 2"


@pytest.mark.parametrize(
    ("strategy", "weighting", "more"),
    [
        ("padded", "sequence", {"rows_per_microbatch": 2}),
        ("sorted", "sequence", {}),
        ("packed", "sequence", {"packs_per_step": 3}),
        ("packed", "plain_packing", {"packs_per_step": 3}),
        ("balanced", "sequence", {}),
        ("balanced", "token", {"token_limit": 400}),
    ],
)
def test_stock_trainer_takes_the_gradients_of_the_plain_definition(
    strategy: str, weighting: str, more: dict[str, Any], tmp_path: Path
) -> None:
    with DoubleThroughout():
        check(strategy, tmp_path, weighting=weighting, **more)


def _rank(rank: int, ranks: int, folder: str) -> None:
    import warnings

    warnings.simplefilter("error")
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29998", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    try:
        with DoubleThroughout():
            check("balanced", Path(folder), ranks)
            check("padded", Path(folder), ranks)
            check("packed", Path(folder), ranks, packs_per_step=3)  # uneven: some ranks run an empty microbatch
        dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_stock_trainer_on_two_ranks_takes_the_gradients_of_the_plain_definition(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, (2, str(tmp_path)), nprocs=2)


def test_loader_processes_and_a_real_optimizer_change_nothing(tmp_path: Path) -> None:
    """Weights after training with two loader processes equal those without."""
    sequences = data()
    dataset = PackedDataset(sequences, make_plan(sequences, "balanced", epochs=2), dtype=torch.float64)
    weights = []
    for workers in (0, 2):
        trainer, _ = make_trainer(dataset, tmp_path, learning_rate=1e-3, dataloader_num_workers=workers)
        trainer.train()
        weights.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_trainers_own_checkpoints_continue_in_the_middle_of_the_plan(tmp_path: Path) -> None:
    sequences = data()
    dataset = PackedDataset(sequences, make_plan(sequences, "packed", packs_per_step=3, epochs=2), dtype=torch.float64)
    how = {"learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 1}
    whole, _ = make_trainer(dataset, tmp_path, **how)
    whole.train()
    resumed, noted = make_trainer(dataset, tmp_path, **how)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert len(noted.steps) == len(dataset.plan) - 2 > 0
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 1 but this plan needs 3"),
        ({"per_device_train_batch_size": 2}, "per_device_train_batch_size is 2 but this plan needs 1"),
        ({"train_sampling_strategy": "random"}, "train_sampling_strategy is random"),
        ({"num_train_epochs": 3}, "num_train_epochs is 3"),
        ({"remove_unused_columns": True}, "remove_unused_columns is True"),
    ],
)
def test_arguments_that_would_change_the_gradient_are_refused(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    sequences = data()
    dataset = PackedDataset(sequences, make_plan(sequences, "packed", packs_per_step=3))
    trainer, _ = make_trainer(dataset, tmp_path, **wrong)
    with pytest.raises(ConfigError, match=words):
        trainer.train()


def test_without_the_check_the_collator_still_sees_a_lost_order(tmp_path: Path) -> None:
    sequences = data()
    dataset = PackedDataset(sequences, make_plan(sequences, "balanced"))
    for wrong, words in (
        ({"train_sampling_strategy": "random"}, "the plan's order is lost"),
        ({"per_device_train_batch_size": 2}, "2 microbatches at once"),
        ({"remove_unused_columns": True}, "remove_unused_columns"),
    ):
        trainer, _ = make_trainer(dataset, tmp_path, **wrong)
        trainer.pop_callback(PlanCheck)
        with pytest.raises(ConfigError, match=words):
            trainer.train()


def test_a_model_that_was_not_prepared_is_refused(tmp_path: Path) -> None:
    sequences = data()
    dataset = PackedDataset(sequences, make_plan(sequences, "balanced"))
    trainer, _ = make_trainer(dataset, tmp_path, model=stock_model())
    with pytest.raises(ConfigError, match=r"call longalign\.prepare_model"):
        trainer.train()


def test_a_plan_that_does_not_belong_to_the_run_is_refused(tmp_path: Path) -> None:
    sequences = data()
    two_ranks = PackedDataset(sequences, make_plan(sequences, "balanced", ranks=2))
    trainer, _ = make_trainer(two_ranks, tmp_path)
    with pytest.raises(ConfigError, match="the plan is for 2 ranks but 1 run"):
        trainer.train()
    with pytest.raises(PlanError, match="sequence_parallel"):
        PackedDataset(sequences, make_plan(sequences, "balanced", ranks=2, sequence_parallel=2))
    with pytest.raises(DataError, match="3 sequences for a plan of 12"):
        PackedDataset(sequences[:3], make_plan(sequences, "balanced"))


def test_every_row_is_dealt_out_once_an_epoch() -> None:
    sequences = data()
    dataset = PackedDataset(sequences, make_plan(sequences, "balanced", ranks=2, epochs=3))
    tokens = sum(int((dataset[n]["target_ids"] >= 0).sum()) for n in range(len(dataset)))
    assert tokens == 3 * sum(s.target_count for s in sequences)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_a_pack_in_a_bare_loop_has_the_loss_of_equation_2() -> None:
    sequences = data()
    plan = make_plan(sequences, "balanced", sequences_per_step=12)
    weights = sequence_weights([s.target_count for s in sequences])
    with DoubleThroughout():
        expected, gradients = expected_gradients(sequences, plan, 0, "sequence")
        model = prepare_model(stock_model())
        loss = model(**pack(sequences, weights, dtype=torch.float64)).loss
        loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert relative_error(found, gradients) < EQUAL
    assert pack(sequences)["loss_weights"].unique().tolist() == [0.0, 1.0]
    assert model(**pack([])).loss.item() == 0.0, "what a rank without work runs"
    with pytest.raises(DataError, match="one weight a sequence"):
        pack(sequences, weights[:3])


def test_a_prepared_model_is_still_the_model_it_was(tmp_path: Path) -> None:
    model, ids = stock_model(), torch.arange(12)[None]
    before = model(input_ids=ids).logits
    assert prepare_model(model) is model
    assert model.config._attn_implementation == NAME
    assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-12)
    model.save_pretrained(tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)).__name__ == "LlamaForCausalLM"
    assert prepare_model(model) is model, "twice is as good as once"


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT asks by the older name
def test_adapters_on_a_prepared_model_train_with_the_same_gradients(tmp_path: Path) -> None:
    """LoRA on every layer: the gradient of its factors follows from that of the merged weights, B being zero."""
    peft = pytest.importorskip("peft")
    sequences = data()
    plan = make_plan(sequences, "packed", packs_per_step=3)
    lora = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    dataset = PackedDataset(sequences, plan, dtype=torch.float64)
    with DoubleThroughout():
        model = peft.get_peft_model(prepare_model(stock_model()), lora)
        for parameter in model.parameters():  # PEFT makes its factors float32; rotary tables stay as they are
            parameter.data = parameter.data.double()
        factors = {n: p.detach().clone() for n, p in model.named_parameters() if "lora_A" in n}
        trainer, noted = make_trainer(dataset, tmp_path, model=model)
        trainer.train()
        whole = expected_gradients(sequences, plan, 0, "sequence")[1]
    for name, a_RD in factors.items():
        layer = name.removeprefix("base_model.model.").replace(".lora_A.default", "")
        expected = whole[layer] @ a_RD.T  # d loss / d B, with W = W_0 + B A
        found = noted.steps[0][name.replace("lora_A", "lora_B")]
        assert float((found - expected).norm() / expected.norm()) < EQUAL, name


@pytest.mark.filterwarnings("default")
def test_trl_takes_the_same_gradients_when_the_model_computes_the_loss(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not a dependency; install it to test with it")
    from datasets import Dataset

    from tests.data.chat_templates import CHATML, tokenizer

    class WeightedSFT(trl.SFTTrainer):  # type: ignore[misc, name-defined]
        compute_loss = Trainer.compute_loss  # the model's own; TRL's is a mean over tokens

    sequences = data()
    plan = make_plan(sequences, "packed", packs_per_step=3)
    dataset = PackedDataset(sequences, plan, dtype=torch.float64)
    noted = Gradients()
    quiet = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "learning_rate": 0.0}
    args = trl.SFTConfig(
        str(tmp_path), max_length=None, dataset_kwargs={"skip_prepare_dataset": True}, disable_tqdm=True,
        max_grad_norm=0.0, dataloader_pin_memory=False, gradient_checkpointing=False, **quiet, **dataset.arguments(),
    )  # fmt: skip
    with DoubleThroughout():
        trainer = WeightedSFT(
            prepare_model(stock_model()), args, train_dataset=Dataset.from_dict({"input_ids": [[0]]}),
            data_collator=PackCollator(), processing_class=tokenizer(CHATML), callbacks=[PlanCheck(dataset), noted],
        )  # fmt: skip
        trainer.train_dataset = dataset  # TRL's door takes only a datasets.Dataset
        trainer.train()
        assert len(noted.steps) == len(plan)
        for index, found in enumerate(noted.steps):
            assert relative_error(found, expected_gradients(sequences, plan, index, "sequence")[1]) < EQUAL
