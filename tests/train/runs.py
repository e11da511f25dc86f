"""Small training runs in processes of their own, which tests may kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from longalign.config import LoopSettings
from longalign.data.store import Encoded, Item, TokenStore, build_store
from longalign.data.tokenize import TokenSequence
from longalign.train import fit as fitting
from tests.train.tiny import VOCABULARY, tiny_model

STEPS = 10
SETTINGS = LoopSettings(
    window=64, sequences_per_step=6, num_train_epochs=2, learning_rate=1e-2, save_steps=3, optimizer="muon", seed=3
)


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


def weights_hash(model: torch.nn.Module) -> str:
    """Of every bit of every parameter."""
    return sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def run(folder: Path, settings: LoopSettings = SETTINGS, at_step: Callable[[int], None] = lambda step: None) -> Any:
    """Train a float32 model with dropout-free Llama layers in this process; `at_step` sees each step as it ends."""
    torch.set_num_threads(1)
    model = tiny_model(dtype=torch.float32)
    plain = fitting.PlanTrainer

    class Watched(plain):  # type: ignore[misc, valid-type]
        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            super().log(logs, start_time)
            if "grad_norm" in logs:
                at_step(self.state.global_step)

    fitting.PlanTrainer = Watched  # type: ignore[misc]
    try:
        trainer, summary = fitting.fit(model, tiny_store(folder), settings, folder, label="test")
    finally:
        fitting.PlanTrainer = plain  # type: ignore[misc]
    (folder / "hash").write_text(weights_hash(trainer.model), encoding="utf-8")
    return summary


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


def _guarded(target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        target(*args)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
