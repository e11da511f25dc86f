"""Losses of single tokens are those of all logits at once, while no more logits than one piece's are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, MistralConfig

from longalign.llm.local import LocalModel
from longalign.llm.token_loss import TokenLoss
from tests.makers.chat_templates import CHATML
from tests.makers.models import make_model, save_model
from tests.makers.tokenizers import chat_tokenizer

IDS = [5 + (7 * k * k + k) % 60 for k in range(90)]


@pytest.fixture(scope="module", params=["llama", "sliding window"])
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    if request.param == "llama":
        make_model(folder)
    else:
        save_model(folder, chat_tokenizer(CHATML), MistralConfig, sliding_window=16)
    return LocalModel(str(folder), device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def oracle(local: LocalModel) -> np.ndarray[Any, Any]:
    """Every token's loss but the first's, from all logits of a model of its own."""
    ids = IDS
    plain = AutoModelForCausalLM.from_pretrained(local.path, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        logits_TV = plain(torch.tensor([ids]), use_cache=False).logits[0]
    logp_TV = logits_TV.log_softmax(-1)
    return np.array([-float(logp_TV[t - 1, ids[t]]) for t in range(1, len(ids))])


@settings(max_examples=15)
@given(st.integers(1, 100), st.lists(st.booleans(), min_size=len(IDS) - 1, max_size=len(IDS) - 1))
def test_losses_read_in_pieces_equal_those_of_all_logits_at_once(
    local: LocalModel, oracle: np.ndarray[Any, Any], piece: int, wanted: list[bool]
) -> None:
    target_T = np.array([False, *wanted])
    got = TokenLoss(local, piece_tokens=piece).nll(np.array(IDS, dtype=np.int32), target_T)
    np.testing.assert_allclose(got, oracle[wanted], rtol=1e-6)  # norms are in float32 whatever the weights are


def test_no_more_logits_are_computed_than_a_piece_has_targets(local: LocalModel) -> None:
    seen: list[int] = []
    handle = local.model.get_output_embeddings().register_forward_hook(lambda _m, _i, out: seen.append(out.shape[1]))
    target_T = np.zeros(len(IDS), dtype=bool)
    target_T[[3, 40, 41, 60]] = True
    TokenLoss(local, piece_tokens=20).nll(np.array(IDS, dtype=np.int32), target_T)
    handle.remove()
    assert seen == [1, 1, 2]  # a target's logits stand one before it; nothing is read behind the last target


def test_the_first_token_has_no_loss(local: LocalModel) -> None:
    with pytest.raises(ValueError, match="first token"):
        TokenLoss(local).nll(np.array(IDS, dtype=np.int32), np.ones(len(IDS), dtype=bool))


def test_no_targets_are_no_losses(local: LocalModel) -> None:
    assert len(TokenLoss(local).nll(np.array(IDS, dtype=np.int32), np.zeros(len(IDS), dtype=bool))) == 0
