"""QLoRA: adapters train beside 4-bit weights, and go into the weights that were never quantised."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from longalign.base.files import read_jsonl
from longalign.config import TrainSettings
from longalign.errors import ModelError
from longalign.train import checkpoint
from longalign.train.check_isolation import check_isolation
from longalign.train.parallel.fsdp2 import like
from longalign.train.parallel.placement import join
from longalign.train.parallel.placement import place as place_of
from longalign.train.parallel.ranks import this_device
from longalign.train.prepare import build_model
from longalign.train.run_plan import model_cost
from longalign.train.sft import train
from tests.makers.chat_templates import CHATML
from tests.makers.models import save_model
from tests.makers.rows import make_rows
from tests.makers.tokenizers import chat_tokenizer
from tests.oracles.plain_loss import relative_error
from tests.train.runs import in_process, on_ranks
from tests.train.tiny import gradients_of, packed_inputs, sequences_of

pytest.importorskip("bitsandbytes", reason="the extra `qlora` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/ whose matrices fill whole blocks of 64 weights, and rows.jsonl."""
    folder = tmp_path_factory.mktemp("qlora")
    save_model(folder / "model", chat_tokenizer(CHATML), hidden_size=64, intermediate_size=128)
    make_rows(folder / "rows.jsonl")
    return folder


def settings(place: Path, **more: object) -> TrainSettings:
    values = {
        "model": str(place / "model"), "data": {str(place / "rows.jsonl"): None}, "window": 96, "lora_rank": 4,
        "sequences_per_step": 8, "learning_rate": 2e-2, "num_train_epochs": 4, "quantize": "4bit",
        "gradient_checkpointing": True, "mlp_tile_tokens": 64, "save_steps": 100,
        "dtype": "float32",
    }  # fmt: skip
    return TrainSettings(**(values | more))


@pytest.fixture(scope="module")
def trained(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train(settings(place), out)
    return out


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]


def test_the_base_is_in_4_bits_except_embedding_norms_and_head_and_packs_stay_apart(place: Path) -> None:
    model, report = build_model(settings(place), place_of(settings(place)), str(place / "model"))
    stored = {name: p for name, p in model.named_parameters() if "lora" not in name}
    packed = {name for name, p in stored.items() if p.dtype == torch.uint8}
    assert len(packed) == 2 * 7
    assert all(name.endswith("proj.base_layer.weight") for name in packed)
    assert all(p.dtype == torch.float32 for name, p in stored.items() if name not in packed)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if "lora" in name
    }
    whole = AutoModelForCausalLM.from_pretrained(place / "model")
    assert report.parameters == sum(p.numel() for p in whole.parameters())
    assert model_cost(model).linear == pytest.approx(model_cost(whole).linear * 2 / 3), "frozen: no gradient of weights"
    assert check_isolation(model).equal_error < 1e-4


def test_gradients_are_the_same_after_an_evaluation_as_before(place: Path) -> None:
    """bitsandbytes repacks weights for inference on some CPUs and then passes no gradient through them."""
    model, _ = build_model(settings(place), place_of(settings(place)), str(place / "model"))
    device = this_device()
    inputs = packed_inputs(sequences_of([13, 1, 22, 9]), device=device)
    inputs = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    model.to(device)
    before = gradients_of(model.train(), inputs)[1]
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(12, device=device)[None])
    after = gradients_of(model.train(), inputs)[1]
    assert relative_error(after, before) < 1e-6


def test_the_loss_falls_and_only_adapters_are_saved(trained: Path) -> None:
    found = losses(trained)
    assert sum(found[-3:]) < 0.8 * sum(found[:3])
    newest = checkpoint.newest_good(trained / "checkpoints")
    assert newest is not None
    names = checkpoint.read_json(newest, "manifest.json")["files"]
    assert sum(f["bytes"] for n, f in names.items() if n.startswith("weights")) < 200_000


def test_adapters_are_merged_into_the_weights_that_were_never_quantised(place: Path, trained: Path) -> None:
    base, merged = (AutoModelForCausalLM.from_pretrained(f) for f in (place / "model", trained / "final"))
    assert not hasattr(merged.config, "quantization_config")
    before, after = dict(base.named_parameters()), dict(merged.named_parameters())
    assert before.keys() == after.keys()
    for name, weight in after.items():
        change = (weight - before[name]).double()
        if name.endswith("proj.weight"):
            singular = torch.linalg.svdvals(change)
            assert singular[0] > 1e-3
            assert singular[4:].max() < 1e-5 * singular[0], f"{name}: more than the adapter's rank has changed"
        else:
            assert torch.equal(weight, before[name])


def finish(place: Path, out: Path, more: dict[str, object]) -> None:
    train(settings(place, **more), out)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_ranks_end_where_one_does(parallel: str, place: Path, trained: Path, tmp_path: Path) -> None:
    on_ranks(2, finish, place, tmp_path, {"parallel": parallel, "mlp_tile_tokens": None})
    assert losses(tmp_path) == pytest.approx(losses(trained), rel=1e-3)


def same_weights_and_gradients(place: Path) -> None:
    """One process computes on whole 4-bit weights, ranks on their shards of the same bits."""
    wanted = settings(place, mlp_tile_tokens=None)
    inputs = packed_inputs(sequences_of([13, 1, 22, 9]))
    whole, _ = build_model(wanted, place_of(wanted), wanted.model)
    sharded, _ = build_model(shards := wanted.model_copy(update={"parallel": "fsdp2"}), join(shards), wanted.model)
    for model in (whole, sharded):  # half of the adapters start at zero, and so would half of the gradients
        with torch.no_grad():
            for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
                drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
                parameter += like(0.1 * drawn, parameter)
    expected_loss, expected = gradients_of(whole.train(), inputs)
    loss = sharded.train()(**inputs).loss
    loss.backward()
    assert loss == expected_loss
    for name, parameter in sharded.named_parameters():
        assert isinstance(parameter, DTensor), name
        assert parameter.to_local().numel() <= parameter.numel() // 2 + 64, name
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad.full_tensor(), expected[name], rtol=0, atol=1e-7, msg=name)


def test_shards_of_4_bit_weights_compute_the_same(place: Path) -> None:
    on_ranks(2, same_weights_and_gradients, place)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_shards_of_4_bit_weights_on_a_gpu_follow_whole_ones(place: Path, tmp_path: Path) -> None:
    """In bfloat16, in processes of their own: one of them shards over itself."""
    for parallel in ("none", "fsdp2"):
        more = {"parallel": parallel, "mlp_tile_tokens": None, "dtype": "bfloat16"}
        assert in_process(finish, place, tmp_path / parallel, more) == 0
    assert losses(tmp_path / "fsdp2") == pytest.approx(losses(tmp_path / "none"), rel=2e-2)


def test_what_4_bits_do_not_allow_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="add lora_rank"):
        settings(place, lora_rank=None)
    whole = settings(place, lora_modules_to_save=("norm", "up_proj"))
    with pytest.raises(ModelError, match="lora_modules_to_save: `up_proj` is in 4 bits"):
        build_model(whole, place_of(whole), whole.model)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"pip install 'longalign\[qlora\]'"):
        build_model(settings(place), place_of(settings(place)), str(place / "model"))
