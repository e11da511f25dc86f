"""Fine-tuning on packed conversations in one plain loop: the recipe of `longalign train`, line by line.

    python examples/plain_loop.py MODEL_DIR rows.jsonl runs/plain --window 4096 --sequences_per_step 8

The same rows and settings give the losses and weights of

    longalign train --model MODEL_DIR --data rows.jsonl --out runs/same --overlong drop --window 4096 \
        --sequences_per_step 8

(tests/test_plain_loop.py holds them equal). What the trainer has and this loop has not: several GPUs, checkpoints,
mixed precision, LoRA, rows longer than the window, and a loss that never holds all logits (`longalign.attach_loss`).
For real lengths use that one; read this one to see what it does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

import longalign
from longalign import TokenSequence

NO_TARGET = -100


def read_sequences(rows: Path, tokenizer: Any, window: int) -> list[TokenSequence]:
    """Conversations as token ids, with the tokens of assistant turns marked as targets. Too long ones are left out."""
    sequences = []
    for line in rows.read_text(encoding="utf-8").splitlines():
        sequence = longalign.tokenize_conversation(tokenizer, json.loads(line)["messages"])
        if sequence.length_tokens <= window and sequence.target_count > 0:
            sequences.append(sequence)
    return sequences


def pack(sequences: Sequence[TokenSequence], weights: Sequence[float], dtype: torch.dtype) -> dict[str, Any]:
    """One microbatch: sequences laid end to end on one axis of T tokens, which attention keeps apart.

    A position predicts the token after it, within its own sequence. Only targets have a weight.
    """
    ids, positions, targets, weight_of, bounds = [], [], [], [], [0]
    for sequence, weight in zip(sequences, weights, strict=True):
        ids_T = torch.tensor(sequence.ids_T, dtype=torch.int64)
        next_is_target_T = torch.tensor(sequence.target_T).roll(-1)  # the first token is never a target
        ids.append(ids_T)
        positions.append(torch.arange(len(ids_T)))
        targets.append(torch.where(next_is_target_T, ids_T.roll(-1), NO_TARGET))
        weight_of.append(torch.where(next_is_target_T, torch.tensor(weight, dtype=dtype), 0))
        bounds.append(bounds[-1] + len(ids_T))
    return {
        "input_ids_1T": torch.cat(ids)[None],
        "position_ids_1T": torch.cat(positions)[None],
        "target_ids_T": torch.cat(targets),
        "weights_T": torch.cat(weight_of),
        "bounds": bounds,
    }


def weighted_loss(model: Any, batch: dict[str, Any]) -> Tensor:
    """This microbatch's part of the step's loss: the sum of weight times negative log-likelihood. No divide."""
    logits_TV = model(
        input_ids=batch["input_ids_1T"],
        position_ids=batch["position_ids_1T"],
        use_cache=False,
        **longalign.pack_kwargs(batch["bounds"]),  # the packed attention below reads where segments start
    ).logits[0]
    nll_T = cross_entropy(logits_TV, batch["target_ids_T"], ignore_index=NO_TARGET, reduction="none")
    return (batch["weights_T"] * nll_T).sum()


def train(
    model_dir: str,
    rows: Path,
    out: Path,
    *,
    window: int,
    sequences_per_step: int,
    epochs: int = 2,
    learning_rate: float = 2e-5,
    warmup_ratio: float = 0.03,
    max_grad_norm: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[int, float], None] = lambda step, loss: print(f"step {step}: loss {loss:.4f}"),
) -> Any:
    """Fine-tune all weights; returns the model, which also lies in `out`. `on_step` is given each step's loss."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    longalign.register_packed_attention()
    model: Any = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype, attn_implementation=longalign.PACKED_ATTENTION
    )
    longalign.check_isolation(model)  # measures that packed sequences do not see each other

    sequences = read_sequences(rows, tokenizer, window)
    plan = longalign.plan_steps(
        [sequence.length_tokens for sequence in sequences],
        [sequence.target_count for sequence in sequences],
        window=window,
        sequences_per_step=sequences_per_step,
        strategy="balanced",  # each step is a random sample; inside it rows are packed up to the token limit
        epochs=epochs,
        seed=seed,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    warmup = round(warmup_ratio * len(plan))
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, len(plan))

    model.train()
    for step in plan:
        # Every sequence counts once (Eq. 2): each target of sequence i weighs 1 / (N_i M), with N_i targets in the
        # sequence and M sequences in the step. Known before the step runs, so microbatches are simply added up.
        weights = longalign.sequence_weights(step.target_counts, "sequence")
        weight_of = dict(zip(step.sequences, weights.tolist(), strict=True))
        step_loss = 0.0
        for pack_rows in step.ranks[0].packs:
            batch = pack([sequences[row] for row in pack_rows], [weight_of[row] for row in pack_rows], dtype)
            loss = weighted_loss(model, batch)
            loss.backward()
            step_loss += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        on_step(step.index + 1, step_loss)

    model.set_attn_implementation("sdpa")  # to generate with
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Fine-tune a causal language model on packed conversations.")
    parser.add_argument("model", help="model directory or hub id")
    parser.add_argument("rows", type=Path, help=".jsonl file whose rows have `messages`")
    parser.add_argument("out", type=Path, help="folder for the trained model")
    parser.add_argument("--window", type=int, default=4096, help="maximum context in tokens")
    parser.add_argument("--sequences_per_step", type=int, default=8, help="sequences in one optimizer step")
    parser.add_argument("--num_train_epochs", type=int, default=2, help="times every sequence is trained on")
    parser.add_argument("--learning_rate", type=float, default=2e-5, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the rows")
    given = parser.parse_args()
    train(
        given.model,
        given.rows,
        given.out,
        window=given.window,
        sequences_per_step=given.sequences_per_step,
        epochs=given.num_train_epochs,
        learning_rate=given.learning_rate,
        seed=given.seed,
    )


if __name__ == "__main__":
    main()
