"""CPU training throughput of the four strategies on the demo's mix of lengths, and of TRL's packing on the same rows.

    python -m benchmarks.throughput                      # our strategies
    python -m benchmarks.throughput --trl # in an environment that also has trl==1.16.0 (it pulls datasets)

One optimizer step trains on all 96 rows: forward, backward and update through the product's own trainer, in float32.
Strategies take turns and each gets its best processor time (one thread), which a busy machine disturbs least; wall
time is recorded beside it. Rows: 70% of 90-256 tokens, 30% of 512-2,048; once with every token as target, once with
the last fifth of each row (a long prompt, a short answer). The model has the shape of the demo's.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.measure import write_result
from benchmarks.steps import longalign_step, trl_step
from longalign.config import LoopSettings, Strategy
from longalign.core.strategies import STRATEGIES
from longalign.data.tokenize import TokenSequence
from longalign.train import attention
from longalign.train.loss import attach_loss

WINDOW, ROWS, PADDED_ROWS = 2048, 96, 8
SHAPE = {
    "vocab_size": 4096, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True, "max_position_embeddings": WINDOW,
}  # fmt: skip


def rows(target_share: float, seed: int = 0) -> list[TokenSequence]:
    """The demo's mix; the last `target_share` of each row are targets."""
    rng = np.random.default_rng(seed)
    long = rng.permutation(ROWS) < round(0.3 * ROWS)
    lengths = np.where(long, rng.integers(512, 2049, ROWS), rng.integers(90, 257, ROWS))
    made = []
    for length in lengths.tolist():
        target_T = np.arange(length) >= max(1, round(length * (1 - target_share)))
        made.append(TokenSequence(rng.integers(3, SHAPE["vocab_size"], length).astype(np.int32), target_T))
    return made


def ours(strategy: Strategy, data: list[TokenSequence]) -> Callable[[], None]:
    """One optimizer step over all rows by one of our strategies."""
    attention.register()
    model = attach_loss(random_model(attention.NAME))
    settings = LoopSettings(
        window=WINDOW, sequences_per_step=ROWS, strategy=strategy, weighting="token", rows_per_microbatch=PADDED_ROWS
    )
    return longalign_step(model, data, settings, packs_per_step=10**6 if strategy == "packed" else None)


def random_model(attention_implementation: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        LlamaConfig(**SHAPE), dtype=torch.float32, attn_implementation=attention_implementation
    )


def plain_padded(data: list[TokenSequence]) -> Callable[[], None]:
    """Padded batches as transformers' own models and losses run them: SDPA with a mask, logits at every position."""
    model = random_model("sdpa")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    order = np.random.default_rng(1).permutation(ROWS)
    batches = []
    for rows_B in order.reshape(-1, PADDED_ROWS):
        parts = [data[row] for row in rows_B]
        longest = max(s.length_tokens for s in parts)
        ids_BT = torch.zeros(PADDED_ROWS, longest, dtype=torch.long)
        mask_BT, labels_BT = torch.zeros_like(ids_BT), torch.full_like(ids_BT, -100)
        for b, s in enumerate(parts):
            ids_BT[b, : s.length_tokens], mask_BT[b, : s.length_tokens] = torch.from_numpy(s.ids_T.astype(np.int64)), 1
            labels_BT[b, : s.length_tokens][torch.from_numpy(s.target_T)] = ids_BT[b, : s.length_tokens][s.target_T]
        batches.append({"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT})
    targets = torch.tensor(sum(s.target_count for s in data))

    def step() -> None:
        for batch in batches:
            model(**batch, num_items_in_batch=targets, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.zero_grad()

    return step


def trl(data: list[TokenSequence]) -> Callable[[], None]:
    """The same rows through TRL with its default packing."""
    return trl_step(
        random_model("sdpa"), data, max_length=WINDOW, use_cpu=True, gradient_checkpointing=False, bf16=False
    )


def measure(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, tuple[float, float]]:
    """Best processor and wall seconds of each, taking turns."""
    for step in steps.values():
        step()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            step()
            found[name].append((time.process_time() - cpu_s, time.perf_counter() - wall_s))
    return {name: (min(c for c, _ in times), min(w for _, w in times)) for name, times in found.items()}


def mix(share: float, *, with_trl: bool, repeats: int) -> dict[str, Any]:
    """All strategies on rows with that share of targets."""
    data = rows(share)
    steps = {strategy: ours(strategy, data) for strategy in STRATEGIES}
    steps["padded, plain transformers"] = plain_padded(data)
    if with_trl:
        steps["trl packing"] = trl(data)
    seconds = measure(steps, repeats)
    targets, tokens = sum(s.target_count for s in data), sum(s.length_tokens for s in data)
    return {
        "target_share": share, "rows": ROWS, "tokens": tokens, "targets": targets,
        "strategies": {
            name: {
                "step_cpu_s": round(cpu_s, 4),
                "step_wall_s": round(wall_s, 4),
                "target_tokens_per_s": round(targets / cpu_s, 1),
                "tokens_per_s": round(tokens / cpu_s, 1),
                "speedup_over_padded": round(seconds["padded"][0] / cpu_s, 3),
                "speedup_over_plain_padded": round(seconds["padded, plain transformers"][0] / cpu_s, 3),
            }
            for name, (cpu_s, wall_s) in seconds.items()
        },
        "balanced_over_trl": round(seconds["trl packing"][0] / seconds["balanced"][0], 3) if with_trl else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", action="store_true", help="measure TRL as well")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    mixes = [mix(share, with_trl=asked.trl, repeats=asked.repeats) for share in (1.0, 0.2)]
    for part in mixes:
        print(json.dumps(part, indent=1))
    write_result(
        "throughput",
        "on a CPU, balanced trains at least 4 times as fast as padded batches and 1.2 times as fast as TRL's packing",
        mixes, shape=SHAPE, window=WINDOW, padded_rows=PADDED_ROWS, threads=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
