"""Muon with AdamW behaves as one optimizer; each parameter goes where it should."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from longalign.base.threads import choose_threads, fastest
from longalign.config import OptimizerSettings
from longalign.errors import ConfigError
from longalign.train.optimizer import MuonWithAdamW, build_optimizer, build_schedule
from tests.makers.models import tiny_config
from tests.train.tiny import tiny_model


def names_in(model: nn.Module, group: dict[str, Any]) -> set[str]:
    name_of = {id(p): name for name, p in model.named_parameters()}
    return {name_of[id(p)] for p in group["params"]}


def test_matrices_of_hidden_layers_go_to_muon_and_the_rest_to_adamw() -> None:
    model = tiny_model(dtype=torch.float32)
    optimizer = build_optimizer(model, OptimizerSettings(optimizer="muon", weight_decay=0.1))
    muon, adamw = optimizer.param_groups
    assert all("layers" in n and "proj" in n for n in names_in(model, muon))
    rest = names_in(model, adamw)
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= rest
    assert (muon["lr"], adamw["lr"], adamw["weight_decay"]) == (0.02, 2e-5, 0.0)


def test_adamw_decays_matrices_only() -> None:
    model = tiny_model(tiny_config(tie_word_embeddings=True), dtype=torch.float32)
    decayed, plain = build_optimizer(model, OptimizerSettings(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all("proj" in name for name in names_in(model, decayed))
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, count: int, first: int) -> None:
    for step in range(first, first + count):
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


WSD = {"lr_scheduler_type": "warmup_stable_decay", "decay_ratio": 0.5, "min_lr_ratio": 0.1, "decay_type": "1-sqrt"}


@pytest.mark.parametrize("how", [{"optimizer": "adamw"}, {"optimizer": "muon"}, WSD], ids=["adamw", "muon", "wsd"])
def test_a_restored_optimizer_goes_on_bit_for_bit(how: dict[str, Any]) -> None:
    settings = OptimizerSettings(learning_rate=1e-2, **how)
    straight = tiny_model(dtype=torch.float32)
    optimizer = build_optimizer(straight, settings)
    schedule = build_schedule(optimizer, settings, 10)
    take_steps(straight, optimizer, schedule, 3, 0)
    restored = copy.deepcopy(straight)
    state, position = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(schedule.state_dict())
    take_steps(straight, optimizer, schedule, 3, 3)
    again = build_optimizer(restored, settings)
    schedule = build_schedule(again, settings, 10)
    again.load_state_dict(state)
    schedule.load_state_dict(position)
    take_steps(restored, again, schedule, 3, 3)
    assert all(torch.equal(p, q) for p, q in zip(straight.parameters(), restored.parameters(), strict=True))


def test_the_schedule_reaches_both_parts() -> None:
    model = tiny_model(dtype=torch.float32)
    settings = OptimizerSettings(optimizer="muon", learning_rate=1e-2, warmup_ratio=0.5)
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, MuonWithAdamW)
    schedule = build_schedule(optimizer, settings, 10)
    take_steps(model, optimizer, schedule, 1, 0)
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == pytest.approx([0.02 / 5, 1e-2 / 5])


def test_muon_without_matrices_is_refused() -> None:
    with pytest.raises(ConfigError, match="muon needs 2-D weights"):
        build_optimizer(nn.LayerNorm(4), OptimizerSettings(optimizer="muon"))


def test_the_thread_count_is_chosen_once_and_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        first = choose_threads(tmp_path)
        (tmp_path / "threads.json").write_text('{"threads": 1}')
        assert choose_threads(tmp_path) == 1 == torch.get_num_threads()
        assert first in (1, before)
        assert fastest([1]) == 1
    finally:
        torch.set_num_threads(before)


def rates(steps: int, **how: Any) -> list[float]:
    """The learning rate of each step, as a share of the peak."""
    settings = OptimizerSettings(optimizer="muon", learning_rate=1e-2, warmup_ratio=0.2, **how)
    model = tiny_model(dtype=torch.float32)
    optimizer = build_optimizer(model, settings)
    schedule, found = build_schedule(optimizer, settings, steps), []
    for _ in range(steps):
        muon, adamw = (group["lr"] for group in optimizer.param_groups)
        assert muon / 0.02 == pytest.approx(adamw / 1e-2)
        found.append(adamw / 1e-2)
        optimizer.step()
        schedule.step()
    return found


def test_schedules_with_a_floor_are_those_of_their_definitions() -> None:
    """Over the steps of the run: warm-up 4 of 20; WSD decays in the last 5."""
    cosine = [step / 4 for step in range(4)]
    cosine += [0.1 + 0.9 * (1 + math.cos(math.pi * (step - 4) / 16)) / 2 for step in range(4, 20)]
    assert rates(20, lr_scheduler_type="cosine_with_min_lr", min_lr_ratio=0.1) == pytest.approx(cosine)
    wsd = [0.1 + 0.9 * step / 4 for step in range(4)] + [1.0] * 11 + [1 - 0.9 * step / 5 for step in range(5)]
    how = {"min_lr_ratio": 0.1, "decay_ratio": 0.25, "decay_type": "linear"}
    assert rates(20, lr_scheduler_type="warmup_stable_decay", **how) == pytest.approx(wsd)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ({"min_lr_ratio": 0.1}, "min_lr_ratio needs lr_scheduler_type cosine_with_min_lr or warmup_stable_decay, not"),
        ({"decay_ratio": 0.2}, "decay_ratio needs lr_scheduler_type warmup_stable_decay, not cosine"),
        ({**WSD, "decay_ratio": 0.9, "warmup_ratio": 0.2}, "are more than all steps"),
    ],
)
def test_a_setting_that_the_schedule_does_not_have_is_refused(how: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OptimizerSettings(**how)
