"""The gradient of a real training step equals the plain definition: every strategy, accumulation and layout of ranks.

Real processes talk through gloo; each case goes plan -> collate -> PlanTrainer.training_step (through accelerate's DDP
or our FSDP2) and its averaged gradient is compared, in float64, with one sequence at a time through transformers.
Wrong weights, denominators, rank factors and boundaries are put in on purpose and must show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from longalign.config import LoopSettings
from longalign.core.batching import plan_steps
from longalign.core.step_plan import StepPlan
from longalign.data.tokenize import TokenSequence
from longalign.train.collate import Microbatch, StepLoader
from longalign.train.metrics import Groups, StepMeter
from longalign.train.parallel.arguments import training_arguments
from longalign.train.parallel.fsdp2 import shard
from longalign.train.parallel.placement import join
from longalign.train.run_plan import weight_schedule
from longalign.train.tiled_mlp import tile_mlps
from longalign.train.trainer import PlanTrainer
from tests.makers.models import VOCABULARY
from tests.oracles.plain_loss import PlainSequence, plain_gradients, relative_error
from tests.train.tiny import DoubleThroughout, tiny_model

WINDOW = 48
LENGTHS = (30, 3, 17, 48, 9, 2, 21, 40, 5, 12, 26, 7)
LARGE = 400
EQUAL, BROKEN = 1e-10, 1e-4


@dataclass(frozen=True)
class Case:
    strategy: str
    sequence_parallel: int = 1
    rows: int = 1
    weighting: str = "sequence"
    parallel: str = "ddp"
    token_limit: int = WINDOW
    mlp_tile_tokens: int | None = None
    dtype: str = "float64"


def data(seed: int = 0) -> list[TokenSequence]:
    """Sequences with many, few and no targets."""
    rng = np.random.default_rng(seed)
    made = []
    for number, length in enumerate(LENGTHS):
        target_T = rng.random(length) < rng.choice([0.1, 0.6, 1.0])
        target_T[0] = False
        target_T[-1] = True
        if number % 5 == 3:
            target_T[:] = False
        made.append(TokenSequence(rng.integers(0, VOCABULARY, length).astype(np.int32), target_T))
    return made


def make_plan(sequences: list[TokenSequence], case: Case, ranks: int) -> StepPlan:
    """Two steps of six sequences; a small token limit makes the microbatches of a step several and uneven."""
    return plan_steps(
        [s.length_tokens for s in sequences],
        [s.target_count for s in sequences],
        window=WINDOW,
        sequences_per_step=6,
        strategy=case.strategy,  # type: ignore[arg-type]
        ranks=ranks,
        sequence_parallel=case.sequence_parallel,
        rows_per_microbatch=case.rows,
        token_limit=case.token_limit,
        packs_per_step=max(3, ranks // case.sequence_parallel) if case.strategy == "packed" else None,
        seed=1,
    )


def make_trainer(
    case: Case, folder: Path, sequences: list[TokenSequence], plan: StepPlan, ranks: int, rank: int
) -> PlanTrainer:
    settings = LoopSettings(
        window=WINDOW, sequences_per_step=6, strategy=case.strategy, weighting=case.weighting, dtype=case.dtype,
        parallel=case.parallel if ranks > 1 else None, sequence_parallel=case.sequence_parallel, max_grad_norm=0.0,
    )  # type: ignore[arg-type]  # fmt: skip
    placement = join(settings)
    dtype = torch.float64 if case.dtype == "float64" else torch.float32
    loader = StepLoader(sequences, plan, weight_schedule(settings), rank // case.sequence_parallel, ranks, dtype=dtype)
    groups = Groups.of(plan.lengths_N, plan.targets_N, np.zeros(len(sequences), dtype=np.int32), ["any"])
    model = tiny_model() if dtype == torch.float64 else tiny_model().to(dtype)  # rotary tables stay float32
    if case.mlp_tile_tokens:
        tile_mlps(model, case.mlp_tile_tokens)
    if ranks > 1 and case.parallel == "fsdp2":
        model = shard(model, placement)
    trainer = PlanTrainer(
        model, training_arguments(settings, placement, folder, len(plan)), settings=settings,
        placement=placement, loader=loader,
        meter=StepMeter(folder / "metrics.jsonl", plan, groups, ranks), checkpoints=folder / "checkpoints",
        names_of=lambda rows: list(map(str, rows)),
    )  # fmt: skip
    wrapped, _ = trainer._prepare_for_training(len(plan), loader, None)
    trainer.model_wrapped = wrapped
    return trainer


def step_gradients(trainer: PlanTrainer, index: int, change: Callable[[Microbatch], Microbatch] | None = None) -> Any:
    """Averaged gradients of one step, whose microbatches `change` may spoil."""
    batch = trainer.loader.batch(index)
    if change:
        batch = replace(batch, microbatches=tuple(change(m) for m in batch.microbatches))
    trainer.sums.parts.clear()
    trainer.model_wrapped.zero_grad(set_to_none=True)
    trainer.training_step(trainer.model_wrapped, batch)
    return {
        name: (p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad).clone()
        for name, p in trainer.model.named_parameters()
        if p.grad is not None
    }


def expected_gradients(sequences: list[TokenSequence], plan: StepPlan, index: int, weighting: str) -> Any:
    """The plain definition, with weights written out again from Eq. 2 and 3."""
    step = plan[index]
    chosen = [sequences[row] for row in step.sequences]
    counts = [s.target_count for s in chosen]
    trained = sum(count > 0 for count in counts)
    packs = [pack for rank in step.ranks for pack in rank.packs]
    totals = {row: sum(sequences[other].target_count for other in pack) for pack in packs for row in pack}
    with_targets = sum(any(sequences[row].target_count for row in pack) for pack in packs)
    weight = {
        "sequence": lambda n, row: 1 / (n * trained),
        "token": lambda n, row: 1 / sum(counts),
        "sqrt": lambda n, row: n**-0.5 / sum(c**0.5 for c in counts if c),
        "plain_packing": lambda n, row: 1 / (with_targets * totals[row]),
    }[weighting]
    plain = [
        PlainSequence(
            torch.from_numpy(s.ids_T.astype(np.int64)), torch.from_numpy(s.target_T), weight(n, row) if n else 0.0
        )
        for row, s, n in zip(step.sequences, chosen, counts, strict=True)
    ]
    return plain_gradients(tiny_model(), plain)


def check(case: Case, folder: Path, ranks: int = 1, rank: int = 0) -> PlanTrainer:
    """Every rank runs the steps; the first one knows the plain definition and compares."""
    sequences = data()
    plan = make_plan(sequences, case, ranks)
    trainer = make_trainer(case, folder, sequences, plan, ranks, rank)
    for index in range(len(plan)):
        found = step_gradients(trainer, index)
        loss = trainer.sums.take()[-1] / ranks
        if rank == 0:
            expected_loss, expected = expected_gradients(sequences, plan, index, case.weighting)
            assert relative_error(found, expected) < EQUAL, (case, ranks, index, relative_error(found, expected))
            assert abs(loss - float(expected_loss)) < 1e-12 * max(1.0, abs(loss)), (case, ranks, index)
    return trainer


def scale(by: float) -> Callable[[Microbatch], Microbatch]:
    return lambda m: replace(m, weights_1T=m.weights_1T * by)


def merge_first_segments(m: Microbatch) -> Microbatch:
    if len(m.cu_seqlens_S1) < 3:
        return m
    return replace(m, cu_seqlens_S1=torch.cat([m.cu_seqlens_S1[:1], m.cu_seqlens_S1[2:]]))


def one_target_less(m: Microbatch) -> Microbatch:
    targets = m.target_ids_1T.clone()
    where = (targets[0] >= 0).nonzero()
    if len(where):
        targets[0, where[0]] = -100
    return replace(m, target_ids_1T=targets)


def mean_of_microbatches(m: Microbatch) -> Microbatch:
    """Eq. 3: each microbatch divided by its own targets, the mistake of the field."""
    targets = int((m.target_ids_1T >= 0).sum())
    return replace(m, weights_1T=torch.full_like(m.weights_1T, 1.0 / max(targets, 1)))


def check_mistakes(trainer: PlanTrainer, ranks: int) -> None:
    """Each of these changes must move the gradient of the first step by much more than the tolerance."""
    sequences, plan = list(trainer.loader.sequences), trainer.loader.plan  # type: ignore[call-overload]
    first = trainer.loader.data_rank == 0
    expected = expected_gradients(sequences, plan, 0, "sequence")[1] if first else {}
    mistakes: dict[str, Callable[[Microbatch], Microbatch]] = {
        "weight": scale(1.001),
        "denominator M off by one": scale(plan[0].sequence_count / (plan[0].sequence_count + 1)),
        "two segments merged": merge_first_segments,
        "a target lost": one_target_less,
        "mean of microbatch means": mean_of_microbatches,
    }
    if ranks > 1:
        mistakes["rank factor forgotten"] = scale(1 / ranks)
    for name, change in mistakes.items():
        found = step_gradients(trainer, 0, change)
        assert not first or relative_error(found, expected) > BROKEN, f"{name} was not noticed"
    targets = [sum(sequences[row].target_count for pack in r.packs for row in pack) for r in plan[0].ranks]
    fullest = int(np.argmax(targets)) * plan.rules.sequence_parallel
    uneven = scale(1.001) if ranks > 1 and dist.get_rank() == fullest else None
    found = step_gradients(trainer, 0, uneven)
    if ranks > 1 and first:
        assert relative_error(found, expected) > 1e-7, "a weight of one rank alone was not noticed"


STRATEGIES = ("padded", "sorted", "packed", "balanced")


@pytest.mark.parametrize(
    ("strategy", "weighting"),
    [*((s, "sequence") for s in STRATEGIES), ("balanced", "token"), ("packed", "sqrt"), ("packed", "plain_packing")],
)
def test_one_process_equals_the_plain_definition(strategy: str, weighting: str, tmp_path: Path) -> None:
    with DoubleThroughout():
        check(Case(strategy, weighting=weighting, token_limit=LARGE), tmp_path)
        trainer = check(Case(strategy, weighting=weighting, rows=2), tmp_path)
        if weighting == "sequence":
            check_mistakes(trainer, 1)


def microbatches(case: Case, ranks: int) -> set[int]:
    return {step.microbatches for step in make_plan(data(), case, ranks)}


def test_steps_have_one_three_and_uneven_microbatches() -> None:
    """Otherwise the tests here would prove less than they say."""
    assert microbatches(Case("balanced", token_limit=LARGE), 1) == {1}
    assert 3 in microbatches(Case("balanced"), 1)
    assert 3 in microbatches(Case("packed"), 1)
    assert microbatches(Case("padded", rows=2), 1) == {3}
    assert microbatches(Case("padded"), 2) == {3}
    counts = [[len(r.packs) for r in s.ranks] for s in make_plan(data(), Case("padded"), 4)]
    assert any(len(set(step)) > 1 for step in counts), counts


def _rank(rank: int, ranks: int, folder: str, cases: list[Case]) -> None:
    import gc
    import os
    import warnings

    warnings.simplefilter("error")
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    try:
        with DoubleThroughout():
            for case in cases:
                trainer = check(case, Path(folder), ranks, rank)
                if case.strategy == cases[-1].strategy and case.weighting == "sequence":
                    check_mistakes(trainer, ranks)
                del trainer
        gc.collect()  # reducers go before their process group
        dist.barrier()
    finally:
        dist.destroy_process_group()


def run_ranks(ranks: int, folder: Path, cases: list[Case]) -> None:
    start = torch.multiprocessing.start_processes
    start(_rank, (ranks, str(folder), cases), nprocs=ranks, start_method="fork")  # to import takes longer than to test


def test_two_processes_equal_the_plain_definition(tmp_path: Path) -> None:
    run_ranks(2, tmp_path, [Case("balanced"), Case("packed", sequence_parallel=2)])


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "sequence_parallel"), [(2, 1), (2, 2), (4, 1), (4, 2), (8, 2)])
def test_every_strategy_equals_the_plain_definition_on_several_ranks(
    ranks: int, sequence_parallel: int, tmp_path: Path
) -> None:
    """Data ranks 1, 2 and 4 by sequence-parallel ranks 1 and 2; DDP and FSDP2; 1 and 3 rows a padded microbatch."""
    cases = [Case(s, sequence_parallel, rows=r) for s in STRATEGIES for r in ((1, 3) if s in STRATEGIES[:2] else (1,))]
    cases += [Case("packed", sequence_parallel, weighting="sqrt")]
    cases += [Case("balanced", sequence_parallel, token_limit=LARGE)]
    cases += [Case(s, sequence_parallel, parallel="fsdp2") for s in ("padded", "balanced")]
    cases += [Case("balanced", sequence_parallel, parallel=p, mlp_tile_tokens=5) for p in ("ddp", "fsdp2")]
    if ranks == 8:
        cases = [Case("balanced", 2), Case("packed", 2, parallel="fsdp2")]
    run_ranks(ranks, tmp_path, cases)
