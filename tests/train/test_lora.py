"""Adapters of every kind: what is exported is what trained, in plain transformers and in plain PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3MoeConfig

from longalign.base.files import read_jsonl
from longalign.config import ExtendSettings, TrainSettings
from longalign.errors import ModelError
from longalign.train.extend import extend
from longalign.train.lora import add_adapters
from longalign.train.optimizer import build_optimizer
from longalign.train.parallel.placement import place as place_of
from longalign.train.prepare import build_model
from longalign.train.sft import train
from tests.makers.chat_templates import CHATML
from tests.makers.models import save_model, tiny_config
from tests.makers.rows import make_rows
from tests.makers.tokenizers import chat_tokenizer
from tests.train.tiny import DoubleThroughout, packed_inputs, sequences_of, tiny_model

pytest.importorskip("peft", reason="the extra `lora` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Model has `tie_word:UserWarning")
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "on the embedding": {"lora_target_modules": ("embed_tokens", "q_proj")},
    "embedding and norms whole": {"lora_modules_to_save": ("embed_tokens", "norm")},
    "head whole": {"lora_modules_to_save": ("lm_head",)},
    "rslora": {"lora_use_rslora": True, "lora_rank": 4},
    "dora": {"lora_use_dora": True},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tied/ and untied/ in float64, and rows.jsonl."""
    folder = tmp_path_factory.mktemp("lora")
    for name, tied in (("tied", True), ("untied", False)):
        save_model(folder / name, chat_tokenizer(CHATML), tie_word_embeddings=tied)
        AutoModelForCausalLM.from_pretrained(folder / name).double().save_pretrained(folder / name)
    make_rows(folder / "rows.jsonl")
    return folder


def settings(place: Path, **more: Any) -> TrainSettings:
    values = {
        "model": str(place / "tied"), "data": {str(place / "rows.jsonl"): None}, "window": 96, "sequences_per_step": 8,
        "learning_rate": 5e-2, "num_train_epochs": 1, "dtype": "float64", "lora_rank": 2,
    }  # fmt: skip
    return TrainSettings(**(values | more))


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, experts_implementation="eager")


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad(), DoubleThroughout():
        found: Tensor = model.eval()(torch.arange(20)[None] + 30).logits
    return found


def stored(folder: Path) -> dict[str, tuple[str, list[int]]]:
    """Names, dtypes and shapes of the tensors in a folder's weights."""
    (path,) = folder.glob("*.safetensors")
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), part.get_shape()) for name, part in parts.items()}


IN_DEFAULT = ("plain", "on the embedding", "embedding and norms whole")
CASES = [*((kind, True) for kind in KINDS), ("plain", False), ("head whole", False)]


@pytest.mark.parametrize(
    ("kind", "tied"),
    [case if case[0] in IN_DEFAULT and case[1] else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
)
def test_final_is_the_model_that_trained(place: Path, tmp_path: Path, kind: str, tied: bool) -> None:
    from peft import PeftModel

    base = place / ("tied" if tied else "untied")
    with DoubleThroughout():
        summary = train(settings(place, model=str(base), **KINDS[kind]), tmp_path)
    check = summary["export"]
    assert check["holds"]
    assert check["max_difference"] < 1e-9
    adapter, final = tmp_path / "adapter", tmp_path / "final"
    adapted = PeftModel.from_pretrained(plain(base), adapter)
    torch.testing.assert_close(logits(plain(final)), logits(adapted), rtol=0, atol=1e-9)
    assert (logits(plain(final)) - logits(plain(base))).abs().max() > 1e-3
    config = json.loads((final / "config.json").read_text())
    names = stored(final)
    assert config["dtype"] == "float64"
    assert {dtype for dtype, _ in names.values()} == {"F64"}
    keeps_tie = tied and kind != "on the embedding"
    assert config["tie_word_embeddings"] == keeps_tie
    assert ("lm_head.weight" in names) == (not keeps_tie)
    vocabulary = config["vocab_size"]
    large = [name for name, (_, shape) in stored(adapter).items() if vocabulary in shape and min(shape) > 4]
    whole = "lora_modules_to_save" in KINDS[kind]
    assert len(large) == (2 if whole and tied else 1 if whole else 0), (
        "no copy of the base's; PEFT reads tied ones twice"
    )
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]


def test_training_goes_on_from_an_adapter_with_all_that_it_says(place: Path, tmp_path: Path) -> None:
    """At a learning rate of nearly nothing the continued adapter is the earlier one."""
    kind = {"lora_use_rslora": True, "lora_alpha": 7.0, "lora_modules_to_save": ("norm",)}
    with DoubleThroughout():
        train(settings(place, **kind), tmp_path / "first")
        given = {"lora_adapter": str(tmp_path / "first" / "adapter"), "learning_rate": 1e-12}
        train(settings(place, **given), tmp_path / "second")
    before, after = (logits(plain(tmp_path / name / "final")) for name in ("first", "second"))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-8)
    config = json.loads((tmp_path / "second" / "adapter" / "adapter_config.json").read_text())
    assert (config["lora_alpha"], config["use_rslora"], config["modules_to_save"]) == (7.0, True, ["norm"])
    assert losses(tmp_path / "second")[0] < losses(tmp_path / "first")[0]


def test_extend_trains_adapters_beside_stretched_rope(place: Path, tmp_path: Path) -> None:
    """And, as in LongLoRA, embedding and norms. On its base the adapter needs the stretched config."""
    from peft import PeftModel

    words = [row["messages"][0]["content"] for row in read_jsonl(place / "rows.jsonl")]
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"{row} {row}"}) + "\n" for row in words))
    asked = ExtendSettings(
        model=str(place / "tied"), text=(str(text),), window=256, sequences_per_step=4, learning_rate=1e-2,
        dtype="float64", max_steps=2, lora_rank=2, lora_modules_to_save=("embed_tokens", "norm"),
    )  # fmt: skip
    with DoubleThroughout():
        summary = extend(asked, tmp_path / "out")
    assert summary["export"]["max_difference"] < 1e-9
    curves = summary["perplexity_by_position"]
    assert curves["extended"] != curves["stretched"] != curves["original"]
    config = AutoConfig.from_pretrained(tmp_path / "out" / "final")
    assert (config.rope_parameters["rope_theta"], config.max_position_embeddings) == (2_000_000, 256)
    base = AutoModelForCausalLM.from_pretrained(place / "tied", config=config)
    adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")
    torch.testing.assert_close(logits(plain(tmp_path / "out" / "final")), logits(adapted), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="init: random weights stay random under lora_rank"):
        ExtendSettings(init="random", lora_rank=2)


def test_experts_and_router_have_adapters_too_and_what_has_none_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    moe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
    save_model(tmp_path / "tied", chat_tokenizer(CHATML), Qwen3MoeConfig, **moe)
    make_rows(tmp_path / "rows.jsonl")
    check = train(settings(tmp_path, dtype="float32", max_steps=1), tmp_path / "out")["export"]
    assert check["max_difference"] < 1e-4
    assert "adapters: rank 2 on 14 of 14 matrices of layers; 0.00M weights train" in capfd.readouterr().err
    few = settings(tmp_path, lora_target_modules=("q_proj", "v_proj"))
    build_model(few, place_of(few), few.model)
    assert "on 4 of 14 matrices of layers; none on down_proj, gate, gate_up_proj, k_proj, o_proj;" in (
        capfd.readouterr().err
    )


def test_what_trains_beside_frozen_weights_in_16_bits_is_in_float32() -> None:
    """As on a GPU; the optimizer would lose small updates in 16 bits."""
    wanted = TrainSettings(lora_rank=2, lora_modules_to_save=("embed_tokens", "norm"), lora_use_dora=True)
    model = add_adapters(tiny_model(tiny_config(tie_word_embeddings=True), dtype=torch.bfloat16), wanted)
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert frozen == {torch.bfloat16}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    inputs = packed_inputs(sequences_of([9, 14]))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        model(**inputs | {"loss_weights": inputs["loss_weights"].float()}).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    groups = build_optimizer(model, wanted.model_copy(update={"weight_decay": 0.1})).param_groups
    decayed = {id(p) for group in groups for p in group["params"] if group["weight_decay"]}
    assert {name for name, p in trained.items() if id(p) in decayed} == {
        n for n in trained if "lora_A" in n or "lora_B" in n
    }


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"lora_target_modules": r".*head|.*q_proj"},
        r"lora_target_modules: the head .* --lora_modules_to_save lm_head",
    ),
    ({"lora_modules_to_save": ("wte",)}, r"lora_modules_to_save: this model has no `wte`; it has .*embed_tokens"),
    ({"lora_modules_to_save": ("q_proj",), "lora_target_modules": ("q_proj",)}, "name it in one of them"),
    ({"lora_target_modules": ("c_attn",)}, r"lora_target_modules: Target modules .*c_attn.* not found"),
    ({"lora_adapter": "{place}"}, r"lora_adapter: .* has no adapter_config.json"),
    ({"lora_adapter": "{place}/adapter", "lora_rank": 4}, "lora_rank: 4 but the adapter in .* has 2; give that"),
    ({"lora_adapter": "{place}/adapter", "model": "{place}/other"}, "lora_adapter: .* does not fit this model"),
    (
        {"model": "{place}/adapter"},
        r"an adapter; give the model it belongs to, and --lora_adapter .*/adapter --lora_rank",
    ),
]


@pytest.fixture(scope="module")
def with_adapter(place: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(plain(place / "tied"), LoraConfig(r=2, target_modules="all-linear", lora_alpha=32))
    model.save_pretrained(place / "adapter")
    save_model(place / "other", chat_tokenizer(CHATML), intermediate_size=64)
    return place


@pytest.mark.parametrize(("asked", "words"), REFUSED)
def test_what_does_not_fit_the_model_is_refused_with_settings_that_exist(
    with_adapter: Path, asked: dict[str, Any], words: str
) -> None:
    filled = {k: v.format(place=with_adapter) if isinstance(v, str) else v for k, v in asked.items()}
    wanted = settings(with_adapter, **filled)
    with pytest.raises(ModelError, match=words):
        build_model(wanted, place_of(wanted), wanted.model)
