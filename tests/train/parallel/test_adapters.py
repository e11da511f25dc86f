"""Every kind of adapter, in `train` and `extend`: ranks end where one process ends, resumed runs where whole ones do.

Float64 throughout, so that equal means equal but for the order of sums.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from longalign.base.files import read_jsonl
from longalign.config import ExtendSettings, RopeSettings, TrainSettings
from longalign.train import checkpoint
from longalign.train.extend import extend
from longalign.train.sft import train
from tests.train.runs import in_process, on_ranks
from tests.train.test_lora import place, settings
from tests.train.tiny import DoubleThroughout

__all__ = ["place"]
pytest.importorskip("peft", reason="the extra `lora` is not installed")
pytestmark = pytest.mark.slow
RUN = {"save_steps": 1, "save_total_limit": 10, "weight_decay": 0.1, "max_grad_norm": 0.5, "learning_rate": 1e-2}
ALL: dict[str, dict[str, Any]] = {
    "dora, on the embedding": {"lora_use_dora": True, "lora_target_modules": ("embed_tokens", "q_proj", "down_proj")},
    "rslora, embedding and norms whole": {"lora_use_rslora": True, "lora_modules_to_save": ("embed_tokens", "norm")},
    "muon, head whole": {"optimizer": "muon", "lora_modules_to_save": ("lm_head",)},
    "dropout": {"lora_use_dora": True, "lora_dropout": 0.2},
}
LAYOUTS: dict[str, list[tuple[int, str]]] = {
    "dora, on the embedding": [(2, "fsdp2"), (4, "ddp")],
    "rslora, embedding and norms whole": [(2, "ddp"), (4, "fsdp2")],
    "muon, head whole": [(2, "fsdp2")],
    "extend": [(2, "fsdp2")],
    "dropout": [],  # drawn on each rank for its own sequences
}


def stage_of(place: Path, kind: str, **more: Any) -> TrainSettings | ExtendSettings:
    if kind != "extend":
        return settings(place, **(RUN | ALL[kind] | more))
    values = {
        "model": str(place / "tied"), "text": (str(place / "texts.jsonl"),), "window": 256, "sequences_per_step": 4,
        "dtype": "float64", "max_steps": 3, "lora_rank": 2, "lora_modules_to_save": ("embed_tokens", "norm"),
        "rope": RopeSettings(),
    }  # fmt: skip
    return ExtendSettings(**(values | RUN | more))


def finish(wanted: TrainSettings | ExtendSettings, out: Path) -> None:
    with DoubleThroughout():
        if isinstance(wanted, ExtendSettings):
            extend(wanted, out)
        else:
            train(wanted, out)


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]


def norms(out: Path) -> list[float]:
    return [row["grad_norm"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]


def difference(found: Path, expected: Path) -> float:
    """The largest, over the weights of `final` and of `adapter`."""
    largest = 0.0
    for part in ("final/model.safetensors", "adapter/adapter_model.safetensors"):
        weights, wanted = load_file(found / part), load_file(expected / part)
        assert weights.keys() == wanted.keys()
        largest = max(largest, *(float((weights[name] - wanted[name]).abs().max()) for name in wanted))
    return largest


@pytest.fixture(scope="module", autouse=True)
def texts(place: Path) -> None:
    rows = [row["messages"][0]["content"] for row in read_jsonl(place / "rows.jsonl")]
    (place / "texts.jsonl").write_text("".join(json.dumps({"text": f"{row} {row}"}) + "\n" for row in rows))


@pytest.mark.parametrize("kind", LAYOUTS)
def test_ranks_end_where_one_process_ends_and_a_resumed_run_where_a_whole_one(
    kind: str, place: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    assert in_process(finish, stage_of(place, kind), alone) == 0
    resumed = shutil.copytree(alone, tmp_path / "resumed")  # as if killed in step 2, after its first checkpoint
    for later in checkpoint.all_checkpoints(resumed / "checkpoints"):
        if checkpoint.step_of(later) > 1:
            shutil.rmtree(later)
    shutil.rmtree(resumed / "final")
    manifest = json.loads((resumed / "stage.json").read_text())
    (resumed / "stage.json").write_text(json.dumps(manifest | {"status": "running"}))
    assert in_process(finish, stage_of(place, kind), resumed) == 0
    assert len(losses(resumed)) == 3
    assert difference(resumed, alone) == 0.0
    for count, parallel in LAYOUTS[kind]:
        out = tmp_path / f"{parallel}-{count}"
        on_ranks(count, finish, stage_of(place, kind, parallel=parallel), out)
        assert losses(out) == pytest.approx(losses(alone), rel=1e-9), parallel
        assert norms(out) == pytest.approx(norms(alone), rel=1e-7), parallel
        assert difference(out, alone) < (1e-3 if "muon" in kind else 1e-8), parallel
        assert json.loads((out / "stage.json").read_text())["summary"]["export"]["max_difference"] < 1e-9
