"""`examples/dpo_packed.py` follows the gradient of plain DPO, by plain transformers and autograd."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.train.test_stages import make_model

EXAMPLE = Path(__file__).parents[1] / "examples" / "dpo_packed.py"
BETA = 0.3


def example() -> Any:
    spec = importlib.util.spec_from_file_location("dpo_packed", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["dpo_packed"] = module
    spec.loader.exec_module(module)
    return module


def plain_losses(model_dir: Path, pairs: list[Any], learning_rate: float) -> tuple[list[float], Any]:
    """One pair a step; two conversations a pair, each run alone."""
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    reference: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)

    def log_likelihood(net: Any, sequence: Any) -> torch.Tensor:
        ids = torch.tensor(sequence.ids_T, dtype=torch.long)
        chances = net(input_ids=ids[None]).logits[0].log_softmax(-1)
        targets = torch.tensor(sequence.target_T).nonzero()[:, 0]
        return chances[targets - 1, ids[targets]].sum()

    losses = []
    for chosen, rejected in pairs:
        with torch.no_grad():
            before = log_likelihood(reference, chosen) - log_likelihood(reference, rejected)
        margin = BETA * (log_likelihood(model, chosen) - log_likelihood(model, rejected) - before)
        loss = -logsigmoid(margin)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, model


def test_packed_dpo_takes_the_steps_of_plain_dpo(tmp_path: Path) -> None:
    model_dir = make_model(tmp_path / "model")
    rows = [
        {
            "prompt": [{"role": "user", "content": "the register gives seven values " * n}],
            "chosen": [{"role": "assistant", "content": "it is forty " * n}],
            "rejected": [{"role": "assistant", "content": "the northern gate"}],
        }
        for n in range(1, 5)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    packed = example()
    pairs = packed.read_pairs(tmp_path / "pairs.jsonl", AutoTokenizer.from_pretrained(model_dir), 512)
    assert len(pairs) == 4
    where = tmp_path / "out"
    losses = packed.train(str(model_dir), tmp_path / "pairs.jsonl", where, window=512, beta=BETA, learning_rate=1e-3)
    wanted, model = plain_losses(model_dir, pairs, 1e-3)
    assert losses == pytest.approx(wanted, abs=1e-4)
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert losses[-1] < losses[0]
    trained = AutoModelForCausalLM.from_pretrained(where).state_dict()
    start = AutoModelForCausalLM.from_pretrained(model_dir).state_dict()
    for name, value in model.state_dict().items():
        moved = (value - start[name]).abs().max()
        assert (trained[name] - value).abs().max() <= 0.05 * moved + 1e-6, name
