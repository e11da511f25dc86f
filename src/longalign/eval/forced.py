"""Token accuracy with the right answer fed in: which of its tokens a local model would have chosen itself.

Greedy answers mix two losses: once the name goes wrong, the value that follows it has nothing to go by. With the
right answer as context every token follows a right beginning, so restating the name and retrieving the value are
measured separately. Needs logits, hence a local model; one more reading of each prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from longalign.base.files import append_jsonl, read_jsonl
from longalign.base.progress import Progress
from longalign.bundled.register import Fact

FORCED = "forced.jsonl"


@dataclass(frozen=True)
class Forced:
    """Shares of the tokens of name and value that are the model's own first choice."""

    key: str
    name: float
    value: float


def forced_accuracy(model: Any, questions: Sequence[tuple[str, str, Fact]], log: Path) -> dict[str, Forced]:
    """By key, for `(key, prompt, needle)`; what `log` holds is not computed again.

    `model`: a `LocalModel` (its `model` and `tokenizer` are used).
    """
    done = {row["key"]: Forced(**row) for row in read_jsonl(log)}
    pending = [question for question in questions if question[0] not in done]
    with Progress("needle tokens", total=len(questions), unit="prompt", done=len(questions) - len(pending)) as bar:
        for key, prompt, fact in pending:
            name, value = token_shares(model.model, model.tokenizer, prompt, fact)
            done[key] = Forced(key, name, value)
            append_jsonl(log, asdict(done[key]))
            bar.advance()
    return {key: done[key] for key, _, _ in questions}


@torch.inference_mode()
def token_shares(model: Any, tokenizer: Any, prompt: str, fact: Fact) -> tuple[float, float]:
    """Share of the tokens of `fact`'s name, and of its value, that are first choice after prompt and answer so far.

    `prompt`: the text up to where the answer begins.
    """
    encoded = tokenizer(prompt + fact.sentence, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids_T = torch.tensor(encoded["input_ids"], device=model.device)
    offsets = encoded["offset_mapping"]
    first = next(place for place, (_, end) in enumerate(offsets) if end > len(prompt))
    kept = len(offsets) - first
    logits_KV = model(ids_T[None], logits_to_keep=kept + 1).logits[0]
    right_K = (logits_KV[:-1].argmax(-1) == ids_T[first:]).tolist()
    begin = len(prompt) + fact.sentence.index(f"{fact.name} {fact.value}")
    middle = begin + len(fact.name)
    spans = ((begin, middle), (middle + 1, middle + 1 + len(fact.value)))
    shares = []
    for low, high in spans:
        chosen = [r for r, (a, b) in zip(right_K, offsets[first:], strict=True) if b > low and a < high]
        shares.append(sum(chosen) / len(chosen))
    return shares[0], shares[1]
