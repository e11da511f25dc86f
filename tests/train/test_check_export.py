"""The check at the end of a run: a faithful export passes it in every dtype, and a broken one does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from longalign.base.files import read_jsonl
from longalign.config import LoopSettings, TrainSettings
from longalign.data.tokenize import TokenSequence
from longalign.errors import RunError
from longalign.train import stage
from longalign.train.check_export import EXPLAINED, check_export, trained_nll
from longalign.train.parallel.placement import place as place_of
from longalign.train.sft import train
from tests.makers.chat_templates import CHATML
from tests.makers.models import save_model, tiny_config
from tests.makers.rows import make_rows
from tests.makers.tokenizers import chat_tokenizer
from tests.train.tiny import sequences_of, tiny_model

PLACEMENT = place_of(LoopSettings())
SAMPLE = [
    TokenSequence(s.ids_T.numpy().astype(np.int32), s.is_target_T.numpy()) for s in sequences_of([40, 9, 30, 55, 12])
]


def change(final: Path, name: str, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = load_file(final / "model.safetensors")
    weights[name] = how(weights[name])
    save_file(weights, final / "model.safetensors", metadata={"format": "pt"})


def other_rope(final: Path) -> None:
    config = json.loads((final / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500.0
    (final / "config.json").write_text(json.dumps(config))


QUERY = "model.layers.1.self_attn.q_proj.weight"
FAULTS: dict[str, Callable[[Path], None]] = {
    "a layer's matrix is another": lambda f: change(f, QUERY, lambda w: w.flip(0).contiguous()),
    "one number is another": lambda f: change(f, QUERY, lambda w: w.index_fill(0, torch.tensor(5), 0.1)),
    "the embedding, with the tied head, is another": lambda f: change(f, "model.embed_tokens.weight", lambda w: w * 2),
    "rope": other_rope,
}  # fmt: skip


def exported(folder: Path, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model in float32 and its weights, which are stored in `dtype`."""
    model = tiny_model(tiny_config(tie_word_embeddings=True), dtype=torch.float32)
    model.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(folder).to(dtype).save_pretrained(folder)
    return model, dict(model.named_parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_passes_and_faults_do_not(dtype: torch.dtype, tmp_path: Path) -> None:
    model, weights = exported(tmp_path / "final", dtype)
    trained_N = trained_nll(model, SAMPLE, PLACEMENT)
    before = torch.get_rng_state()
    found = check_export(tmp_path / "final", weights, SAMPLE, trained_N, PLACEMENT)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.holds
    assert (found.rows, found.targets) == (5, sum(piece.target_count for piece in SAMPLE))
    assert f"torch.{found.dtype}" == str(dtype)
    assert found.unrounded_difference < 1e-5
    assert (found.mean_difference > 1e-3) == (dtype == torch.bfloat16)
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "final", dtype=torch.float32)
    assert found.loss_exported == pytest.approx(plain_loss_of(rounded), rel=1e-5), "as the whole model widened at once"
    for name, breaks in FAULTS.items():
        final = shutil.copytree(tmp_path / "final", tmp_path / "broken", dirs_exist_ok=True)
        breaks(final)
        broken = check_export(final, weights, SAMPLE, trained_N, PLACEMENT)
        assert not broken.holds, name
        assert "is not the model that trained" in broken.fault(final)
    merged_wrongly = weights | {QUERY: 1.01 * weights[QUERY]}
    change(tmp_path / "final", QUERY, lambda w: merged_wrongly[QUERY].detach().to(w.dtype))
    broken = check_export(tmp_path / "final", merged_wrongly, SAMPLE, trained_N, PLACEMENT)
    assert broken.wrong is None
    assert not broken.holds, "stored as merged, but merged wrongly by a hundredth"


def plain_loss_of(model: nn.Module) -> float:
    with torch.no_grad():
        logits = [model(torch.from_numpy(s.ids_T.astype(np.int64))[None]).logits[0] for s in SAMPLE]
    losses = [
        torch.nn.functional.cross_entropy(part[:-1], torch.from_numpy(s.ids_T[1:].astype(np.int64)), reduction="none")
        for part, s in zip(logits, SAMPLE, strict=True)
    ]
    return float(
        torch.cat([part[torch.from_numpy(s.target_T[1:])] for part, s in zip(losses, SAMPLE, strict=True)]).mean()
    )


def test_what_16_bits_of_compute_explain_is_measured_and_is_no_excuse_for_a_fault(tmp_path: Path) -> None:
    """As on a GPU: the model trained in bfloat16."""
    model, weights = exported(tmp_path / "final", torch.bfloat16)
    half = replace(PLACEMENT, dtype=torch.bfloat16)
    trained_N = trained_nll(model, SAMPLE, half)
    found = check_export(tmp_path / "final", weights, SAMPLE, trained_N, half)
    assert found.holds
    assert 1e-3 < found.unrounded_difference < found.allowed < 0.2
    assert found.allowed / EXPLAINED / 4 < found.unrounded_difference, "what is simulated is near to what happens"
    other_rope(tmp_path / "final")
    assert not check_export(tmp_path / "final", weights, SAMPLE, trained_N, half).holds


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ in bfloat16 and rows.jsonl."""
    folder = tmp_path_factory.mktemp("export")
    save_model(folder / "model", chat_tokenizer(CHATML), tie_word_embeddings=True)
    AutoModelForCausalLM.from_pretrained(folder / "model").bfloat16().save_pretrained(folder / "model")
    make_rows(folder / "rows.jsonl")
    return folder


def settings(place: Path, **more: Any) -> TrainSettings:
    values = {
        "model": str(place / "model"), "data": {str(place / "rows.jsonl"): None}, "window": 96, "sequences_per_step": 8,
        "learning_rate": 2e-2, "num_train_epochs": 1,
    }  # fmt: skip
    return TrainSettings(**(values | more))


def dtypes(final: Path) -> tuple[str, set[str], set[str]]:
    """As config.json says, as stored, and as plain transformers loads it."""
    with safe_open(final / "model.safetensors", framework="pt") as file:
        kept = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    loaded = {str(p.dtype) for p in AutoModelForCausalLM.from_pretrained(final).parameters()}
    return json.loads((final / "config.json").read_text())["dtype"], kept, loaded


@pytest.mark.parametrize("lora", [{}, pytest.param({"lora_rank": 2, "lora_alpha": 64.0}, marks=pytest.mark.slow)])
def test_another_dtype_is_exported_from_the_last_checkpoint(
    place: Path, tmp_path: Path, lora: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    lora = lora | {"max_steps": 2}  # of 3: a run that is resumed at its last step is not trained further
    first = train(settings(place, **lora), tmp_path)["export"]
    assert "as trained" in capfd.readouterr().err
    assert dtypes(tmp_path / "final") == ("bfloat16", {"BF16"}, {"torch.bfloat16"})
    steps = read_jsonl(tmp_path / "metrics.jsonl")
    second = train(settings(place, **lora, export_dtype="float32"), tmp_path)["export"]
    assert dtypes(tmp_path / "final") == ("float32", {"F32"}, {"torch.float32"})
    assert read_jsonl(tmp_path / "metrics.jsonl") == steps, "nothing is trained again"
    assert second["loss_trained"] == first["loss_trained"]
    assert second["max_difference"] < 1e-4 < first["mean_difference"]
    assert f"loss {second['loss_exported']:.4f} against {second['loss_trained']:.4f}" in (
        tmp_path / "final" / "README.md"
    ).read_text().replace("\n", " ")
    assert json.loads((tmp_path / "stage.json").read_text())["settings"]["export_dtype"] == "float32"
    shutil.rmtree(tmp_path / "checkpoints")
    assert train(settings(place, **lora), tmp_path)["export"] == second, "what is there is what no dtype asks for"
    with pytest.raises(RunError, match=r"export_dtype: .* its last checkpoint is gone"):
        train(settings(place, **lora, export_dtype="bfloat16"), tmp_path)


def test_a_run_whose_export_is_broken_ends_with_an_error_and_loses_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        weights = whole(*args, **options)
        FAULTS["a layer's matrix is another"](tmp_path / "final")
        return weights

    whole = stage.export
    monkeypatch.setattr(stage, "export", broken)
    with pytest.raises(RunError, match=rf"final: is not the model that trained: {QUERY} is not"):
        train(settings(place), tmp_path)
    assert "this is another model" in (tmp_path / "final" / "README.md").read_text()
    assert json.loads((tmp_path / "stage.json").read_text())["status"] == "running"
    steps = read_jsonl(tmp_path / "metrics.jsonl")
    monkeypatch.undo()
    assert train(settings(place), tmp_path)["export"]["holds"]
    assert read_jsonl(tmp_path / "metrics.jsonl") == steps
