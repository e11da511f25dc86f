"""Small training runs in processes of their own, which tests may kill."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from longalign.base.files import append_jsonl
from longalign.config import LoopSettings
from longalign.data.store import Encoded, Item, TokenStore, build_store
from longalign.data.tokenize import TokenSequence
from longalign.train import checkpoint
from longalign.train import run_plan as fitting
from longalign.train.parallel import ranks
from longalign.train.parallel.fsdp2 import shard
from longalign.train.parallel.placement import join
from tests.makers.models import VOCABULARY
from tests.train.tiny import DoubleThroughout, tiny_model

STEPS = 10
SETTINGS = LoopSettings(
    window=64, sequences_per_step=6, num_train_epochs=2, learning_rate=1e-2, save_steps=3, optimizer="muon", seed=3
)
DOUBLE = SETTINGS.model_copy(update={"optimizer": "adamw", "dtype": "float64"})


def _encode(number: int) -> Encoded:
    rng = np.random.default_rng(number)
    length = int(rng.integers(4, 60))
    target_T = rng.random(length) < 0.5
    target_T[0], target_T[-1] = False, number % 7 != 0
    sequence = TokenSequence(rng.integers(0, VOCABULARY, length).astype(np.int32), target_T)
    return [(sequence, {"id": str(number), "source": "even" if number % 2 == 0 else "odd"})], Counter()


def tiny_store(folder: Path) -> TokenStore:
    """Thirty sequences, some without targets."""
    return build_store(folder / "tokens", [[Item(f"row {n}", n) for n in range(30)]], _encode, key="k")


def run(folder: Path, settings: LoopSettings = SETTINGS, at_step: Callable[[int], None] = lambda step: None) -> Any:
    """Train dropout-free Llama layers; `at_step` sees each step as it ends. Every rank calls it, with its group joined.

    Float64 runs keep norms in float64 too. Beside what training writes, `folder` gets final.safetensors (weights in
    full) and, for each rank, rows-<rank>.jsonl: the rows of every step that it ran.
    """
    torch.set_num_threads(1)
    plain = fitting.PlanTrainer

    class Watched(plain):  # type: ignore[misc, valid-type]
        def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
            rows = [row for microbatch in inputs.microbatches for row in microbatch.rows]
            append_jsonl(folder / f"rows-{ranks.rank()}.jsonl", {"step": inputs.step.index + 1, "rows": rows})
            return super().training_step(model, inputs, num_items_in_batch)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log(logs, start_time)
            if "grad_norm" in logs:
                at_step(self.state.global_step)

    fitting.PlanTrainer = Watched  # type: ignore[misc]
    double = settings.dtype == "float64"
    try:
        with DoubleThroughout() if double else contextlib.nullcontext():
            model = tiny_model(dtype=torch.float64 if double else torch.float32)
            placement = join(settings)
            if placement.sharded:
                shard(model, placement)
            ranks.on_first_rank(partial(tiny_store, folder))
            store = TokenStore.open(folder / "tokens")
            trainer, summary = fitting.fit(model, store, settings, placement, folder, label="test")
            weights = {name: checkpoint.whole(p) for name, p in trainer.model.named_parameters()}
    finally:
        fitting.PlanTrainer = plain  # type: ignore[misc]
    if ranks.is_first():
        save_file({name: value for name, value in weights.items() if value is not None}, folder / "final.safetensors")
    return summary


class StoppedError(Exception):
    """Raised in the middle of a run, on all ranks alike."""


def stop_at(step: int) -> Callable[[int], None]:
    """Ends the run when that step ends, before its checkpoint, without killing the process."""

    def at_step(done: int) -> None:
        if done == step:
            raise StoppedError

    return at_step


def kill_at(step: int) -> Callable[[int], None]:
    """Dies as by `kill -9` when that step ends, before its checkpoint."""

    def at_step(done: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return at_step


def in_process(target: Callable[..., Any], *args: Any) -> int:
    """Exit status of `target(*args)` in a forked process: 0, 1 after an exception, or minus the signal."""
    process = multiprocessing.get_context("fork").Process(target=_guarded, args=(target, args))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def on_ranks(count: int, target: Callable[..., Any], *args: Any) -> None:
    """`target(*args)` in `count` forked processes joined by gloo; each must return."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("fork")
        all_args = [(_join_and_run, (rank, count, folder, target, args)) for rank in range(count)]
        processes = [context.Process(target=_guarded, args=each) for each in all_args]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    assert [process.exitcode for process in processes] == [0] * count


def _join_and_run(rank: int, count: int, folder: str, target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}  # accelerate wants to see them
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    target(*args)
    dist.barrier()


def _guarded(target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        target(*args)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
