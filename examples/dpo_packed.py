"""DPO on packed pairs in one plain loop: preference rows of `longalign data preferences`, our packing, no padding.

    python examples/dpo_packed.py MODEL_DIR pairs.jsonl out --window 8192

The loss of a pair is -log sigmoid(m), with the margin m = beta * ((c - c_ref) - (r - r_ref)), where c and r are the
log-likelihoods of the chosen and the rejected answer (Rafailov et al. 2023, arXiv 2305.18290). Its gradient is

    beta * sigmoid(-m) * (grad(-c) - grad(-r)),

a weighted sum of the gradients of two negative log-likelihoods. So a pass without gradients gives the margins, and the
packed loss, with the weights beta * sigmoid(-m) and its negative, has exactly the gradient of DPO. Logits of whole
conversations never exist at once (tests/test_dpo_packed.py compares it with plain DPO). Training on preferences at size
is TRL's: `DPOTrainer` reads the same file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer

import longalign
from longalign import TokenSequence

Pair = tuple[TokenSequence, TokenSequence]


def read_pairs(file: Path, tokenizer: Any, window: int) -> list[Pair]:
    """(chosen, rejected) conversations, targets in the last answer only. Pairs that the window does not hold are left
    out: both sides of a pair share a pack."""
    pairs = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        chosen, rejected = (
            longalign.tokenize_conversation(tokenizer, row["prompt"] + row[side], train_on="last")
            for side in ("chosen", "rejected")
        )
        if chosen.length_tokens + rejected.length_tokens <= window:
            pairs.append((chosen, rejected))
    return pairs


def log_likelihoods(model: Any, pair: Pair) -> Tensor:
    """Of both answers, summed over their tokens: [2]."""
    with torch.no_grad():
        nll_1T = model(**longalign.pack(pair)).nll
    return -torch.stack([part.sum() for part in nll_1T[0].split([sequence.length_tokens for sequence in pair])])


def train(
    model_dir: str, pairs_file: Path, out: Path, *, window: int, beta: float, learning_rate: float
) -> list[float]:
    """One pass over the pairs, a step a pair; returns the losses. The model ends in `out`."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model: Any = longalign.prepare_model(AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32))
    pairs = read_pairs(pairs_file, tokenizer, window)
    reference = [log_likelihoods(model, pair) for pair in pairs]  # before training: no second model is needed
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    losses = []
    for pair, before_2 in zip(pairs, reference, strict=True):
        chosen, rejected = (log_likelihoods(model, pair) - before_2).tolist()
        margin = torch.tensor(beta * (chosen - rejected))
        weight = beta * torch.sigmoid(-margin).item()
        model(**longalign.pack(pair, [weight, -weight])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(-logsigmoid(margin).item())
        print(f"pair {len(losses)}: loss {losses[-1]:.4f}")
    model.set_attn_implementation("sdpa")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return losses


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="DPO on packed preference rows.")
    parser.add_argument("model", help="model directory or hub id")
    parser.add_argument("pairs", type=Path, help=".jsonl file of `longalign data preferences`")
    parser.add_argument("out", type=Path, help="folder for the trained model")
    parser.add_argument("--window", type=int, default=8192, help="maximum tokens of a pair, both sides")
    parser.add_argument("--beta", type=float, default=0.1, help="strength of the pull towards the starting model")
    parser.add_argument("--learning_rate", type=float, default=1e-6, help="of every step")
    given = parser.parse_args()
    train(given.model, given.pairs, given.out, window=given.window, beta=given.beta, learning_rate=given.learning_rate)


if __name__ == "__main__":
    main()
