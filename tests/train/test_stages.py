"""The stages `train` and `extend`, from files to a plain Hugging Face directory, on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, PreTrainedModel, Qwen3Config

from longalign.base.files import fingerprint_path, read_jsonl
from longalign.base.stage import read_manifest
from longalign.config import ExtendSettings, RopeSettings, TrainSettings
from longalign.core.step_plan import load_plan
from longalign.data.store import TokenStore
from longalign.errors import ConfigError, DataError, ModelError, RunError
from longalign.train.extend import extend
from longalign.train.sft import train
from tests.makers.chat_templates import CHATML
from tests.makers.models import make_model
from tests.makers.rows import WORDS, make_rows
from tests.oracles.plain_loss import PlainSequence, plain_loss


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


def settings(model: Path, rows: Path, **more: Any) -> TrainSettings:
    values = {
        "model": str(model), "data": {str(rows): None}, "window": 96, "sequences_per_step": 8, "learning_rate": 5e-3,
        "num_train_epochs": 1, "save_steps": 2,
    }  # fmt: skip
    return TrainSettings(**(values | more))


@pytest.fixture(scope="module")
def trained(model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train(settings(model, rows, eval_data=(str(rows),), eval_steps=2), out)
    return out


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder)


def test_the_result_is_a_plain_model_directory(model: Path, trained: Path) -> None:
    final = trained / "final"
    config = json.loads((final / "config.json").read_text())
    assert not [key for key in config if "attn_implementation" in key]
    assert config["use_cache"] is True
    assert config["architectures"] == ["LlamaForCausalLM"]
    found = load(final)
    assert found.config._attn_implementation in ("sdpa", "eager")
    tok = AutoTokenizer.from_pretrained(final)
    assert tok.chat_template == CHATML
    said = json.loads((final / "tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast", "a name that transformers 4 knows too"
    stops = found.generation_config.eos_token_id
    assert tok.convert_tokens_to_ids("<|im_end|>") in stops, "generation stops at the end of a turn"
    prompt = tok.apply_chat_template(
        [{"role": "user", "content": "which gate"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert found.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] > prompt["input_ids"].shape[1]
    before = load(model)
    changed = [n for (n, p), q in zip(before.named_parameters(), found.parameters(), strict=True) if (p != q).any()]
    assert len(changed) == len(list(before.parameters()))
    card = (final / "README.md").read_text()
    assert "| weighting | sequence |" in card
    assert "Held-out losses" in card


def test_metrics_hold_the_loss_of_equation_2(model: Path, trained: Path) -> None:
    store, plan = TokenStore.open(trained / "tokens"), load_plan(trained / "plan.npz")
    logged = [r for r in read_jsonl(trained / "metrics.jsonl") if "loss" in r]
    assert [r["step"] for r in logged] == [1, 2, 3]
    step = plan[0]
    chosen = [store[row] for row in step.sequences]
    plain = [
        PlainSequence(torch.tensor(s.ids_T.astype(np.int64)), torch.tensor(s.target_T),
                      1 / (s.target_count * len(chosen)))
        for s in chosen
    ]  # fmt: skip
    with torch.no_grad():
        expected = float(plain_loss(load(model), plain))
    first = logged[0]
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
    assert set(first["loss_by_source"]) <= {"chat", "long"}
    assert first["target_tokens"] == sum(s.target_count for s in chosen)
    sources = [note["source"] for note in store.notes(step.sequences)]
    counts = {source: sources.count(source) for source in ("chat", "long")}
    mean = sum(first["loss_by_source"].get(k, 0) * n for k, n in counts.items()) / len(chosen)
    assert mean == pytest.approx(first["loss"], rel=1e-6), "under `sequence` the loss is the mean over sequences"
    assert {"grad_norm", "learning_rate", "target_tokens_per_s", "peak_memory_gib", "idle_fraction"} <= set(first)
    curve = [(r["step"], r["heldout"]["all"]["loss"]) for r in read_jsonl(trained / "metrics.jsonl") if "heldout" in r]
    assert [step for step, _ in curve] == [0, 2, 3]
    assert curve[-1][1] < curve[0][1]


def test_the_same_call_again_returns_at_once(model: Path, rows: Path, trained: Path) -> None:
    stamp = (trained / "final" / "model.safetensors").stat().st_mtime_ns
    summary = train(settings(model, rows, eval_data=(str(rows),), eval_steps=2), trained)
    assert summary["final"] == str(trained / "final")
    assert (trained / "final" / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_moved_folder_says_where_its_model_lies_now(model: Path, rows: Path, trained: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(trained, tmp_path / "moved")
    summary = train(settings(model, rows, eval_data=(str(rows),), eval_steps=2), moved)
    assert summary["final"] == str(moved / "final")
    assert str(trained) not in (moved / "stage.json").read_text(encoding="utf-8")


def test_overlong_rows_are_shortened_and_counted(trained: Path) -> None:
    store = TokenStore.open(trained / "tokens")
    assert store.lengths.max() == 96
    assert store.counts["overlong"] == store.counts["shortened"] > 0
    assert len(store) == store.counts["rows"] == 24
    assert (store.target_counts > 0).all()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, called by this test itself
def test_lora_trains_adapters_and_merges_them(model: Path, rows: Path, tmp_path: Path) -> None:
    train(settings(model, rows, lora_rank=2, learning_rate=5e-2), tmp_path)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    base, merged = load(model), load(tmp_path / "final")
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(load(model), tmp_path / "adapter")
    ids = torch.arange(12)[None] + 30
    with torch.no_grad():
        logits = merged(ids).logits
        torch.testing.assert_close(logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)
        assert (logits - base(ids).logits).abs().max() > 1e-3
    assert torch.equal(base.get_input_embeddings().weight, merged.get_input_embeddings().weight)


def test_extend_stretches_rope_and_measures_positions(model: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    rng = np.random.default_rng(1)
    for number in range(12):
        words = int(rng.integers(20, 400))
        (texts / f"{number}.txt").write_text(" ".join(rng.choice(WORDS, words)), encoding="utf-8")
    asked = ExtendSettings(
        model=str(model), text=(str(texts),), window=128, sequences_per_step=4, learning_rate=5e-3,
        rope=RopeSettings(method="base", base_factor=200),
    )  # fmt: skip
    summary = extend(asked, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "final" / "config.json").read_text())
    assert config["max_position_embeddings"] == 128
    assert config["rope_parameters"]["rope_theta"] == config["rope_theta"] == 2_000_000
    curves = summary["perplexity_by_position"]
    assert set(curves) == {"original", "stretched", "extended"}
    assert "64-127" in curves["extended"], "positions beyond the trained window are measured"
    assert curves["extended"]["32-63"] < curves["original"]["32-63"]
    assert load(tmp_path / "out" / "final").config.max_position_embeddings == 128
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "final").model_max_length == 128
    store = TokenStore.open(tmp_path / "out" / "tokens")
    assert (store.target_counts == store.lengths - 1).all(), "every token but the first of a window is a target"


def test_plan_only_trains_nothing(model: Path, rows: Path, tmp_path: Path) -> None:
    report = train(settings(model, rows), tmp_path, plan_only=True)
    assert report["sequences"] == 24
    assert report["steps"] == 3
    assert not (tmp_path / "final").exists()
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("state", ["finished", "half finished"])
def test_a_plan_changes_nothing_where_a_stage_has_been(
    state: str, model: Path, rows: Path, trained: Path, tmp_path: Path
) -> None:
    """Regression: a plan with other settings moved the finished model to `superseded/`."""
    out = tmp_path / "runs" / "sft"
    shutil.copytree(trained, out)
    if state == "half finished":
        shutil.rmtree(out / "final")
        manifest = json.loads((out / "stage.json").read_text())
        (out / "stage.json").write_text(json.dumps(manifest | {"status": "running"}))
    before = fingerprint_path(tmp_path)
    text = tmp_path.parent / f"{tmp_path.name}.txt"
    text.write_text("words " * 500)
    own: dict[str, Any] = {"eval_data": (str(rows),), "eval_steps": 2}
    assert train(settings(model, rows, **own), out, plan_only=True)["steps"] == 3
    assert train(settings(model, rows, **own, learning_rate=1.0, num_train_epochs=3), out, plan_only=True)["steps"] == 9
    assert train(settings(model, rows, window=48, overlong="split"), out, plan_only=True)["window"] == 48
    assert extend(ExtendSettings(model=str(model), text=(str(text),), window=64), out, plan_only=True)["window"] == 64
    assert fingerprint_path(tmp_path) == before


def test_what_a_plan_has_tokenised_is_there_for_the_run(model: Path, rows: Path, tmp_path: Path) -> None:
    train(settings(model, rows), tmp_path, plan_only=True)
    assert (tmp_path / "plan" / "plan.json").exists()
    assert read_manifest(tmp_path) is None, "nothing is to be set aside when the run has other settings"
    made = (tmp_path / "tokens" / "store.json").stat().st_mtime_ns
    train(settings(model, rows), tmp_path, plan_only=True)
    assert (tmp_path / "tokens" / "store.json").stat().st_mtime_ns == made


def test_qwen3_shape_through_the_same_code(rows: Path, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "qwen3", Qwen3Config)
    train(settings(folder, rows, max_steps=1, strategy="packed", weighting="token"), tmp_path / "out")
    assert type(load(tmp_path / "out" / "final")).__name__ == "Qwen3ForCausalLM"


def test_training_that_blows_up_stops_cleanly(model: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"step 2: the (loss|gradient norm) is nan"):
        train(settings(model, rows, learning_rate=1e30, max_grad_norm=0.0, warmup_ratio=0.0, save_steps=1), tmp_path)
    assert not (tmp_path / "final").exists()
    assert len([r for r in read_jsonl(tmp_path / "metrics.jsonl") if "loss" in r]) == 1


def test_mistakes_show_before_the_first_step(model: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="99 rows are wanted but it has 24"):
        train(settings(model, rows, data={str(rows): 99}), tmp_path / "a")
    with pytest.raises(DataError, match="no rows to train on"):
        train(settings(model, rows, data={}), tmp_path / "b")
    (empty := tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match=rf"no rows to train on: none in {empty}"):
        train(settings(model, rows, data={str(empty): None}), tmp_path / "b")
    with pytest.raises(ConfigError, match="needs text"):
        extend(ExtendSettings(model=str(model), window=128), tmp_path / "c")
    broken = tmp_path / "broken.jsonl"
    broken.write_text(
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n{"x": 1}\n'
    )
    with pytest.raises(DataError, match=r"broken\.jsonl:2"):
        train(settings(model, rows, data={str(broken): None}), tmp_path / "d")
    with pytest.raises(DataError, match="no sequence with targets is left"):
        train(settings(model, rows, window=8, overlong="drop"), tmp_path / "e")


def test_inputs_that_are_missing_do_not_set_a_run_aside(model: Path, rows: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    before = read_manifest(tmp_path)
    assert before is not None
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        train(settings(model, rows, data={"nowhere.jsonl": None}), tmp_path, restart=True)
    with pytest.raises(ModelError, match="no such folder"):
        train(settings(tmp_path / "nowhere" / "final", rows), tmp_path, restart=True)
    assert read_manifest(tmp_path) == before
    assert not (tmp_path / "superseded").exists()


def test_a_model_that_cannot_be_extended_is_refused_before_its_text_is_tokenised(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "gpt2"
    AutoTokenizer.from_pretrained(model).save_pretrained(foreign)
    GPT2Config(n_layer=1, n_embd=16, n_head=2).save_pretrained(foreign)
    text = tmp_path / "text.txt"
    text.write_text("words " * 500)
    with pytest.raises(ModelError, match="gpt2 models have no rotary position encoding"):
        extend(ExtendSettings(model=str(foreign), text=(str(text),), window=64), tmp_path / "a")
    with pytest.raises(ModelError, match="gpt2 models: attn_pdrop"):
        train(settings(foreign, rows), tmp_path / "b")
    assert not [*tmp_path.glob("[ab]/*tokens")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_kernels_that_need_a_gpu_are_refused_before_tokenising_but_planned_anywhere(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    asked = settings(model, rows, liger_kernels=True)
    with pytest.raises(ModelError, match=r"liger_kernels: .* need a CUDA device"):
        train(asked, tmp_path)
    assert not (tmp_path / "tokens").exists()
    assert train(asked, tmp_path, plan_only=True)["steps"] == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_in_bfloat16_follows_the_cpu(model: Path, rows: Path, trained: Path, tmp_path: Path) -> None:
    """`trained` ran on the same device; so the reference is one process that sees no GPU."""
    how = "--window 96 --sequences_per_step 8 --learning_rate 5e-3 --save_steps 2 --num_train_epochs 1"
    command = [sys.executable, "-m", "longalign", "train", "--model", str(model), "--data", str(rows), *how.split()]
    without_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--out", str(tmp_path)], check=True, env=without_gpu, timeout=300)
    on_cpu, on_gpu = (
        [row["loss"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row] for out in (tmp_path, trained)
    )
    assert on_gpu == pytest.approx(on_cpu, rel=2e-2)
