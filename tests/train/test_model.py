"""Models load with RoPE set before the build, and every way a folder can be wrong has its own message."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from longalign.base.tokenizers import open_tokenizer
from longalign.config import RopeSettings
from longalign.core.rope import frequencies
from longalign.errors import ModelError
from longalign.train.attention import NAME
from longalign.train.check_isolation import check_isolation
from longalign.train.export import write_transformers4_rope
from longalign.train.loss import attach_loss
from longalign.train.model import check_vocabulary, load_config, load_model
from tests.makers.models import tiny_config
from tests.train.tiny import tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_stored_weights_come_back_with_packed_attention(folder: Path) -> None:
    model, report = load_model(folder, dtype="float64")
    expected = tiny_model(dtype=torch.float32)
    for (name, a), (_, b) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(a, b.double(), msg=name)
    assert model.config._attn_implementation == NAME
    assert (report.model_class, report.layers, report.vocabulary, report.window) == ("LlamaForCausalLM", 2, 89, 128)
    assert report.parameters == sum(p.numel() for p in expected.parameters())
    assert report.rope == ()


@pytest.mark.parametrize("method", ["base", "auto", "ntk", "linear", "yarn", "llama3"])
@pytest.mark.parametrize("init", ["weights", "random", "meta"])
def test_rope_is_stretched_in_the_built_model_and_in_what_it_saves(
    folder: Path, tmp_path: Path, method: Any, init: Any
) -> None:
    model, report = load_model(folder, rope=RopeSettings(method=method), window=1024, init=init)
    assert (report.trained_window, report.window) == (128, 1024)
    assert len(report.rope) == 5
    if init == "meta":
        assert next(model.parameters()).is_meta
        return
    built = model.model.rotary_emb.inv_freq
    torch.testing.assert_close(
        built.double(), torch.from_numpy(frequencies(model.config.rope_parameters, 8)), rtol=1e-5, atol=0
    )
    plain = 10_000.0 ** -(torch.arange(0, 8, 2) / 8)
    assert not torch.allclose(built, plain)
    check_isolation(attach_loss(model))
    model.save_pretrained(tmp_path / "again")
    again = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again.model.rotary_emb.inv_freq, built)
    assert again.config.max_position_embeddings == 1024


@pytest.mark.parametrize("config_class", [tf.LlamaConfig, tf.GlmConfig])
@pytest.mark.parametrize("method", ["base", "linear", "yarn", "llama3"])
def test_an_export_has_the_same_rope_for_readers_of_either_notation(
    tmp_path: Path, config_class: type, method: Any
) -> None:
    tiny_model(tiny_config(config_class, head_dim=8), dtype=torch.float32).save_pretrained(tmp_path)
    model, _ = load_model(tmp_path, rope=RopeSettings(method=method), window=1024)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    write_transformers4_rope(path)
    both = json.loads(path.read_text())
    only_earlier = {k: v for k, v in both.items() if k != "rope_parameters"}
    for config in (both, only_earlier):
        path.write_text(json.dumps(config))
        again = tf.AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(again.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq, rtol=0, atol=0)
        assert again.model.rotary_emb.attention_scaling == model.model.rotary_emb.attention_scaling
    assert both["rope_theta"] == model.config.rope_parameters["rope_theta"]
    assert (both["rope_scaling"] is None) == (method == "base")


def test_the_trained_window_can_be_stated(folder: Path) -> None:
    settings = RopeSettings(method="yarn", trained_window=64)
    model, _ = load_model(folder, rope=settings, window=256, init="random")
    assert model.config.rope_parameters["original_max_position_embeddings"] == 64
    assert model.config.rope_parameters["factor"] == 4.0


def test_a_config_that_does_not_allow_a_method_says_so(tmp_path: Path) -> None:
    tiny_config(tf.Phi3Config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"phi3 configs do not allow RoPE method 'llama3': .*must be one of"):
        load_model(tmp_path, rope=RopeSettings(method="llama3"), window=512, init="meta")


def test_only_full_attention_layers_are_stretched_when_rope_differs_by_layer(tmp_path: Path) -> None:
    layers = ["sliding_attention", "full_attention"]
    config = tiny_config(tf.Gemma3TextConfig, sliding_window=6, head_dim=8, layer_types=layers)
    config.save_pretrained(tmp_path)
    before = load_config(tmp_path).rope_parameters
    model, _ = load_model(tmp_path, rope=RopeSettings(base_factor=8), window=512, init="random")
    after = model.config.rope_parameters
    assert after["sliding_attention"] == before["sliding_attention"]
    assert after["full_attention"]["rope_theta"] == 8 * before["full_attention"]["rope_theta"]


def test_random_weights_depend_on_the_seed_alone(folder: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        return next(load_model(folder, init="random", seed=seed)[0].parameters())

    state = torch.get_rng_state()
    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_model_of_experts_runs_in_float64(tmp_path: Path) -> None:
    tiny_config(tf.MixtralConfig, num_local_experts=4).save_pretrained(tmp_path)
    check_isolation(attach_loss(load_model(tmp_path, init="random", dtype="float64")[0]))


def missing_folder(folder: Path) -> Path:
    return folder / "nowhere"


def no_config(folder: Path) -> Path:
    (folder / "config.json").unlink()
    return folder


def remote_code(folder: Path) -> Path:
    edit_config(folder, model_type="chatglm", auto_map={"AutoModelForCausalLM": "modeling_chatglm.Model"})
    return folder


def unknown_type(folder: Path) -> Path:
    edit_config(folder, model_type="zebra")
    return folder


def torn_config(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "lla')
    return folder


def no_weights(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return folder


def torn_weights(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    return folder


def one_layer_too_many(folder: Path) -> Path:
    edit_config(folder, num_hidden_layers=3)
    return folder


def another_shape(folder: Path) -> Path:
    edit_config(folder, intermediate_size=64)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing_folder, "no such folder: "),
        (no_config, "no config.json in this folder"),
        (remote_code, "it needs code shipped with its weights, and such code is not run here"),
        (unknown_type, "'zebra': this transformers does not know it"),
        (torn_config, "cannot read the model's config"),
        (no_weights, "cannot load the weights"),
        (torn_weights, "cannot load the weights"),
        (one_layer_too_many, "9 weights are missing or of another shape"),
        (another_shape, "6 weights are missing or of another shape|cannot load the weights"),
    ],
)
def test_a_damaged_model_folder_is_named_with_what_is_wrong(
    folder: Path, damage: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = damage(folder)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_requests_that_make_no_sense_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="needs a target window"):
        load_model(folder, rope=RopeSettings())
    with pytest.raises(ModelError, match="shorter than the trained one"):
        load_model(folder, rope=RopeSettings(), window=64)
    with pytest.raises(ModelError, match="dtype 'int3' is unknown"):
        load_model(folder, dtype="int3")
    gpt2 = tiny_config(tf.GPT2Config, n_embd=32, n_layer=2, n_head=4, attn_pdrop=0.0)
    gpt2.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no rotary position encoding"):
        load_model(tmp_path, rope=RopeSettings(), window=512)
    tiny_config(tf.GPT2Config, n_embd=32, n_layer=2, n_head=4).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"attn_pdrop=0.1 is not 0"):
        load_model(tmp_path)


def test_a_tokenizer_must_exist_end_its_turns_and_fit_the_embedding(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ModelError, match="cannot load the tokenizer"):
        open_tokenizer(tmp_path, ends_text=True)
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<eos>": 2}, unk_token="a"))
    tf.PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(tmp_path / "endless")
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        open_tokenizer(tmp_path / "endless", ends_text=True)
    tf.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(tmp_path / "good")
    tokenizer = open_tokenizer(tmp_path / "good", ends_text=True)
    check_vocabulary(tiny_config(), tokenizer)
    with pytest.raises(ModelError, match="has 3 tokens but the model embeds 2"):
        check_vocabulary(tiny_config(vocab_size=2), tokenizer)
