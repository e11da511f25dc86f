"""Sharded models get the first rank's weights, exactly; FSDP2 and offload work on one process and on host memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import transformers as tf
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

from longalign.config import ExtendSettings, LoopSettings, OptimizerSettings, RopeSettings, TrainSettings
from longalign.errors import ConfigError
from longalign.train import checkpoint
from longalign.train.lora import add_adapters
from longalign.train.loss import attach_loss
from longalign.train.model import load_model
from longalign.train.optimizer import build_optimizer
from longalign.train.parallel import ranks
from longalign.train.parallel.arguments import training_arguments
from longalign.train.parallel.fsdp2 import is_sharded, like
from longalign.train.parallel.placement import join, place
from longalign.train.prepare import build_model
from tests.makers.models import tiny_config
from tests.train.runs import DOUBLE, in_process, on_ranks, run
from tests.train.tiny import packed_inputs, sequences_of, tiny_model

SHARDED: dict[str, Any] = {"parallel": "fsdp2", "dtype": "float64", "window": 1024}
LORA = TrainSettings(**SHARDED, lora_rank=2)


def plain_weights(folder: Path) -> nn.Module:
    return attach_loss(load_model(folder, dtype="float64")[0])


def plain_stretched(folder: Path) -> nn.Module:
    return attach_loss(load_model(folder, rope=RopeSettings(), window=1024, dtype="float64")[0])


def plain_random(folder: Path) -> nn.Module:
    return attach_loss(load_model(folder, dtype="float64", init="random", seed=5)[0])


def plain_lora(folder: Path) -> nn.Module:
    return add_adapters(plain_weights(folder), LORA)


CASES: dict[str, tuple[Any, Callable[[Path], nn.Module], LoopSettings, dict[str, Any]]] = {
    "tied": (tf.LlamaConfig, plain_weights, LoopSettings(**SHARDED), {}),
    "untied, stretched": (tf.Qwen3Config, plain_stretched, ExtendSettings(**SHARDED), {"rope": RopeSettings()}),
    "random": (tf.LlamaConfig, plain_random, LoopSettings(**SHARDED, seed=5), {"init": "random"}),
    "lora": (tf.Qwen3Config, plain_lora, LORA, {}),
    "buffers": (tf.Gemma3TextConfig, plain_weights, LoopSettings(**SHARDED), {}),
}


def save_models(folder: Path) -> None:
    for name, (config_class, *_) in CASES.items():
        fields: dict[str, Any] = {"head_dim": 8, "sliding_window": 6} if config_class is tf.Gemma3TextConfig else {}
        config = tiny_config(config_class, tie_word_embeddings=config_class is not tf.Qwen3Config, **fields)
        tiny_model(config, dtype=torch.float32).save_pretrained(folder / name)
        config.save_pretrained(folder / "configs" / name)


def equals_plain_loading(folder: Path) -> None:
    """Every rank but the first is given a folder without weights."""
    for name, (_, plain, settings, how) in CASES.items():
        mine = folder if ranks.is_first() else folder / "configs"
        model, _ = build_model(settings, join(settings), str(mine / name), **how)
        expected = plain(folder / name)
        assert is_sharded(model)
        for (key, found), (wanted_key, wanted) in zip(
            model.named_parameters(), expected.named_parameters(), strict=True
        ):
            assert key == wanted_key, name
            assert found.requires_grad == wanted.requires_grad, (name, key)
            assert isinstance(found, DTensor), (name, key)
            assert torch.equal(found.full_tensor(), wanted), (name, key)
            assert found.to_local().numel() < wanted.numel() or dist.get_world_size() == 1, (name, key)
        for (key, found), (_, wanted) in zip(model.named_buffers(), expected.named_buffers(), strict=True):
            assert torch.equal(found, wanted), (name, key)
        pack = packed_inputs(sequences_of([9, 1, 30]))
        found, wanted = model(**pack), expected(**pack)
        assert torch.equal(found.nll, wanted.nll), name
        assert torch.equal(found.loss, wanted.loss), name
        head, embedding = (part.weight for part in (model.get_output_embeddings(), model.get_input_embeddings()))
        assert (head is embedding) == (name in ("tied", "random", "buffers")), name


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_sharded_loading_equals_plain_loading_bit_by_bit(count: int, tmp_path: Path) -> None:
    save_models(tmp_path)
    on_ranks(count, equals_plain_loading, tmp_path)


def alone(folder: Path, settings: LoopSettings) -> None:
    run(folder, settings)
    assert dist.is_initialized() == place(settings).sharded


@pytest.mark.slow
def test_one_process_shards_too_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Without torchrun; asking for offload is enough."""
    for name, settings in (("plain", DOUBLE), ("sharded", DOUBLE.model_copy(update={"cpu_offload": True}))):
        assert in_process(alone, tmp_path / name, settings) == 0
    weights, expected = (load_file(tmp_path / name / "final.safetensors") for name in ("sharded", "plain"))
    for name, wanted in expected.items():
        torch.testing.assert_close(weights[name], wanted, rtol=0, atol=1e-10, msg=name)


def test_offload_shards_and_what_the_number_of_ranks_excludes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place(LoopSettings(cpu_offload=True)).mode == "fsdp2"
    assert place(LoopSettings(parallel="fsdp2")).mode == "fsdp2"
    assert place(LoopSettings(parallel="ddp")).mode == "none"
    settings = LoopSettings(parallel="deepspeed")
    with pytest.raises(ConfigError, match="deepspeed is started by torchrun, one process too"):
        training_arguments(settings, place(settings), Path(), 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert place(LoopSettings()).mode == "ddp"
    with pytest.raises(ConfigError, match="parallel: none, but 2 processes were started"):
        place(LoopSettings(parallel="none"))


def offloaded(model: nn.Module) -> nn.Module:
    """Parameters as FSDP2 keeps them under CPU offload: shards in host memory, on a mesh of GPUs (none is needed)."""
    mesh = DeviceMesh.from_group(dist.group.WORLD, "cuda")
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            whole = parameter.detach()
            meta = TensorMeta(whole.shape, whole.stride(), whole.dtype)
            mine = torch.tensor_split(whole, dist.get_world_size())[dist.get_rank()]  # even in this test
            shard = DTensor(mine.clone(), DTensorSpec(mesh, (Shard(0),), tensor_meta=meta), requires_grad=False)
            module.register_parameter(name, nn.Parameter(shard))
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer, gradients: dict[str, Tensor]) -> float:
    """One clipped update; returns the norm before clipping."""
    for name, parameter in model.named_parameters():
        parameter.grad = like(gradients[name].clone(), parameter)
    norm: Any = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def steps_on_host_memory(folder: Path, kind: Any) -> None:
    """Clipping, the update, a checkpoint and its return, beside the same on whole tensors."""
    gradients = [{n: torch.randn_like(p) for n, p in tiny_model(seed=s).named_parameters()} for s in (1, 2, 3)]
    for part in gradients:  # the same everywhere
        for value in part.values():
            dist.broadcast(value, src=0)
    settings = OptimizerSettings(optimizer=kind, learning_rate=1e-2)
    expected, model, again = tiny_model(), offloaded(tiny_model()), offloaded(tiny_model(seed=9))
    optimizers = [build_optimizer(m, settings) for m in (expected, model, again)]
    for number in (0, 1):
        norms = [step(m, o, gradients[number]) for m, o in zip((expected, model), optimizers[:2], strict=True)]
        assert norms[1] == pytest.approx(norms[0], rel=1e-12)
    saved = checkpoint.save(folder, 2, model, optimizers[1], {}, keep=1)
    checkpoint.load_weights(saved, again)
    checkpoint.load_optimizer(saved, again, optimizers[2])
    for m, o in ((expected, optimizers[0]), (again, optimizers[2])):
        step(m, o, gradients[2])
    for (name, wanted), found in zip(expected.named_parameters(), again.parameters(), strict=True):
        assert found.device.type == "cpu", name
        assert found.device_mesh.device_type == "cuda", name
        found = found.full_tensor()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 if kind == "adamw" else 1e-3, msg=name)


@pytest.mark.parametrize("kind", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_shards_in_host_memory_of_a_mesh_of_gpus_train_and_resume(kind: str, tmp_path: Path) -> None:
    on_ranks(2, steps_on_host_memory, tmp_path, kind)
