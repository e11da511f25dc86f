"""The language model inside a wrapper trains, the rest is untouched, and the wrapper comes back whole."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from longalign.config import RopeSettings, TrainSettings
from longalign.train.model import load_model, loader_of
from longalign.train.sft import train
from tests.makers.other_families import FAMILIES
from tests.makers.rows import make_inputs
from tests.train.tiny import gradients_of, packed_inputs, sequences_of, tiny_model


def save(name: str, folder: Path, tokenizer: Any = None) -> Path:
    """A tiny family with random weights, for `tokenizer`, with a processor's file beside it."""
    config = FAMILIES[name].build()
    text = config.get_text_config()
    if tokenizer is not None:
        text.vocab_size = len(tokenizer)
        tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = loader_of(config).from_config(type(config).from_dict(config.to_dict()))
        model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "any"}')
    return folder


@pytest.mark.parametrize("name", ["Gemma 3", "Qwen2.5-VL", "Mistral 3", "Llama 4"])
def test_only_the_text_part_has_gradients(name: str) -> None:
    model: Any = tiny_model(FAMILIES[name].build())
    model.one_sequence_a_row = name == "Llama 4"
    gradients = gradients_of(model, packed_inputs(sequences_of([9])))[1]
    beside = [n for n in gradients if "vision" in n or "visual" in n or "projector" in n]
    assert not beside
    assert gradients.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert any("embed_tokens" in n for n in gradients)


def test_rope_is_stretched_in_the_text_part(tmp_path: Path) -> None:
    folder = save("Mistral 3", tmp_path)
    model, report = load_model(folder, rope=RopeSettings(base_factor=4), window=512)
    config: Any = model.config
    assert (report.window, config.text_config.max_position_embeddings) == (512, 512)
    assert config.text_config.rope_parameters["rope_theta"] == 4e4
    assert config.vision_config.rope_parameters["rope_theta"] == 1e4


@pytest.mark.slow
def test_a_wrapper_trains_and_is_exported_whole(tmp_path: Path) -> None:
    """Fully and by LoRA: same keys, all but the text part unchanged, processor kept, and it loads again."""
    inputs = make_inputs(tmp_path / "inputs", rows=16)
    base = save("Gemma 3", tmp_path / "base", AutoTokenizer.from_pretrained(inputs / "model"))
    before = load_file(base / "model.safetensors")
    for how in ({}, {"lora_rank": 2}):
        settings = TrainSettings(
            model=str(base),
            data={str(inputs / "rows.jsonl"): None},
            window=96,
            sequences_per_step=8,
            learning_rate=1e-2,
            num_train_epochs=1,
            **how,
        )
        out = tmp_path / f"out{len(how)}"
        train(settings, out)
        after = load_file(out / "final" / "model.safetensors")
        assert after.keys() - {"lm_head.weight"} == before.keys()  # a tied head may be stored twice
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        assert all("language_model" in name or "lm_head" in name for name in changed)
        config = json.loads((out / "final" / "config.json").read_text())
        assert len({config["dtype"], config["text_config"]["dtype"], config["vision_config"]["dtype"]}) == 1
        assert config["architectures"] == ["Gemma3ForConditionalGeneration"]
        assert (out / "final" / "preprocessor_config.json").read_text() == '{"image_processor_type": "any"}'
        AutoModelForImageTextToText.from_pretrained(out / "final")


@pytest.mark.slow
def test_a_hybrid_trains_with_rows_of_one_sequence(tmp_path: Path) -> None:
    """The whole run: held-out losses in the same layout, and strategies that put sequences into one row refused."""
    from longalign.errors import ModelError

    inputs = make_inputs(tmp_path / "inputs", rows=16)
    base = save("LFM2", tmp_path / "base", AutoTokenizer.from_pretrained(inputs / "model"))
    rows = str(inputs / "rows.jsonl")
    settings = TrainSettings(
        model=str(base),
        data={rows: None},
        eval_data=(rows,),
        strategy="sorted",
        window=96,
        sequences_per_step=8,
        rows_per_microbatch=3,
        learning_rate=1e-2,
        num_train_epochs=2,
    )
    summary = train(settings, tmp_path / "out")
    first, last = (summary["heldout"][when]["all"]["loss"] for when in ("first", "last"))
    assert last < first - 0.3
    with pytest.raises(ModelError, match="strategy sorted or padded trains it"):
        train(settings.model_copy(update={"strategy": "balanced"}), tmp_path / "packed")
