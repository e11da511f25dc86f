"""Every family of models reads a text in parts, or behind a copied beginning, as it reads the whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from longalign.llm.prefix import can_share, copied, read_beginning
from longalign.llm.token_loss import TokenLoss
from tests.makers.families import DECODERS, Family
from tests.makers.other_families import HYBRIDS

pytestmark = pytest.mark.slow
IDS = [5 + (7 * k * k + k) % 54 for k in range(50)]
RESTS = ([9, 10, 11], [12], [13, 14, 15, 16, 17])
BEGINNING = 30


@pytest.fixture(scope="module", params=[*DECODERS, *HYBRIDS], ids=lambda family: family.name)
def model(request: pytest.FixtureRequest) -> Any:
    family: Family = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(family.build()).eval()


def generated(model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, **more: Any) -> list[list[int]]:
    found = model.generate(
        ids_BT, attention_mask=mask_BT, max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=None, **more
    )
    rows: list[list[int]] = found[:, ids_BT.shape[1] :].tolist()
    return rows


@pytest.mark.filterwarnings("ignore")
def test_losses_in_parts_are_those_of_the_whole(model: Any) -> None:
    local: Any = SimpleNamespace(model=model, tokenizer=None, device=torch.device("cpu"), path="tiny", window=None)
    with torch.no_grad():
        logp_TV = model(torch.tensor([IDS]), use_cache=False).logits[0].log_softmax(-1)
    whole = [-float(logp_TV[t - 1, IDS[t]]) for t in range(1, len(IDS))]
    parts = TokenLoss(local, piece_tokens=7).nll(np.array(IDS, dtype=np.int32), np.arange(len(IDS)) > 0)
    np.testing.assert_allclose(parts, whole, atol=2e-4)


@pytest.mark.filterwarnings("ignore")
def test_answers_behind_a_copied_beginning_are_those_of_whole_prompts(model: Any) -> None:
    if not can_share(model):
        pytest.skip("reads every prompt by itself")
    beginning, width = IDS[:BEGINNING], BEGINNING + max(map(len, RESTS))
    ids_BT = torch.zeros(len(RESTS), width, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    wanted = []
    with torch.no_grad():
        for row, rest in enumerate(RESTS):
            prompt_1T = torch.tensor([beginning + rest])
            wanted += generated(model, prompt_1T, torch.ones_like(prompt_1T))
            ids_BT[row, :BEGINNING], ids_BT[row, width - len(rest) :] = torch.tensor(beginning), torch.tensor(rest)
            mask_BT[row, :BEGINNING] = mask_BT[row, width - len(rest) :] = 1
        cache = copied(model, read_beginning(model, beginning), len(RESTS))
        assert generated(model, ids_BT, mask_BT, past_key_values=cache) == wanted
