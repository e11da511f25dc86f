"""LoRA and export of a model that other people published, against plain PEFT and plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM

from longalign.config import TrainSettings
from longalign.data.store import TokenStore
from longalign.train.check_export import sample_of
from longalign.train.sft import train
from tests.makers.published import smollm2

peft = pytest.importorskip("peft", reason="the extra `lora` is not installed")


def plain_loss(model: nn.Module, store: TokenStore) -> float:
    """Mean over the targets of the rows that the run itself compared, one row at a time."""
    losses = []
    with torch.no_grad():
        for piece in sample_of(store):
            ids_T, target_T = torch.from_numpy(piece.ids_T.astype(np.int64)), torch.from_numpy(piece.target_T)
            logits_TV = model.eval()(ids_T[None]).logits[0]
            losses.append(nn.functional.cross_entropy(logits_TV[:-1], ids_T[1:], reduction="none")[target_T[1:]])
    return float(torch.cat(losses).mean())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_smollm2_with_adapters_and_whole_embedding_is_exported_as_it_trained(tmp_path: Path) -> None:
    base = smollm2()
    torch.set_num_threads(1)
    asked: dict[str, Any] = {
        "model": str(base), "data": {"builtin:chat-0-200": None}, "window": 128, "sequences_per_step": 4,
        "max_steps": 2, "learning_rate": 1e-3, "lr_scheduler_type": "constant", "lora_rank": 16,
        "lora_modules_to_save": ["embed_tokens", "norm"],
    }  # fmt: skip
    check = train(TrainSettings(**asked), tmp_path)["export"]
    store, wide = TokenStore.open(tmp_path / "tokens"), {"dtype": torch.float32}
    untrained = AutoModelForCausalLM.from_pretrained(base, **wide)
    before = plain_loss(untrained, store)
    adapted = plain_loss(peft.PeftModel.from_pretrained(untrained, tmp_path / "adapter"), store)
    assert adapted < before - 0.1
    assert check["loss_trained"] == pytest.approx(adapted, abs=1e-4), "plain PEFT, on the base"
    final = plain_loss(AutoModelForCausalLM.from_pretrained(tmp_path / "final", **wide), store)
    assert check["loss_exported"] == pytest.approx(final, abs=1e-4), "plain transformers"
    assert 1e-3 < check["mean_difference"] < 0.2, "bfloat16"
    assert check["unrounded_difference"] < 1e-4
    with safe_open(tmp_path / "final" / "model.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
