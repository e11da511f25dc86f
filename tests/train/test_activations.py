"""What saves activations changes no gradient: MLPs in tiles, recomputed layers, layer inputs kept on the host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from longalign.config import TrainSettings
from longalign.errors import ModelError
from longalign.train.lora import add_adapters
from longalign.train.parallel.fsdp2 import decoder_layers
from longalign.train.parallel.placement import place
from longalign.train.prepare import build_model, enable_checkpointing
from longalign.train.tiled_mlp import tile_mlps
from tests.makers.models import tiny_config
from tests.makers.other_families import FAMILIES
from tests.oracles.plain_loss import relative_error
from tests.train.tiny import gradients_of, packed_inputs, sequences_of, tiny_model

LENGTHS = [13, 1, 22, 9]
TILE = 7
"""Does not divide the 45 tokens."""


class Seen(TorchDispatchMode):
    """Shapes that each operation returned: what a tile's width can be seen by."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.shapes[func.__name__.split(".")[0], tuple(result.shape)] += 1
        return result


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """In float64. Norms round to float32, in both models compared to the same float32."""
    loss, found = gradients_of(model.train(), packed_inputs(sequences_of(LENGTHS)))
    assert loss > 0
    return found


def family(name: str) -> nn.Module:
    return tiny_model(FAMILIES[name].build())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "name", ["Llama 2, 3", "Qwen3", "Gemma 3, text", "GLM-4-0414", "Phi-3, Phi-4", "Cohere 2", "DeepSeek-V3"]
)
def test_gradients_of_tiled_mlps_are_those_of_whole_ones(name: str, checkpointing: bool) -> None:
    whole, tiled = family(name), family(name)
    names = list(dict(tiled.named_parameters()))
    assert tile_mlps(tiled, TILE) == (1 if name == "DeepSeek-V3" else 2, 2)
    assert list(dict(tiled.named_parameters())) == names
    if checkpointing:
        enable_checkpointing(tiled, offload=False)
    assert relative_error(gradients(tiled), gradients(whole)) < 1e-12


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_adapters_in_tiled_mlps_are_those_in_whole_ones(checkpointing: bool) -> None:
    settings = TrainSettings(lora_rank=2)

    def adapted(tile: int | None) -> nn.Module:
        model = add_adapters(tiny_model(), settings)
        with torch.no_grad():  # half of the adapters start at zero, and so would half of the gradients
            for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
                parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        if tile:
            tile_mlps(model, tile)
        if checkpointing:
            enable_checkpointing(model, offload=False)
        return model.double()

    found, expected = gradients(adapted(TILE)), gradients(adapted(None))
    assert sum("mlp" in name for name in found) == 2 * 2 * 3
    assert relative_error(found, expected) < 1e-12


def test_no_activation_as_wide_as_the_mlp_spans_more_than_a_tile() -> None:
    width = tiny_config().intermediate_size
    for tile, longest in ((None, sum(LENGTHS)), (TILE, TILE)):
        model = tiny_model()
        enable_checkpointing(model, offload=False)
        if tile:
            tile_mlps(model, tile)
        with Seen() as seen:
            gradients(model)
        weights = {tuple(p.shape) for p in model.parameters()} | {tuple(p.t().shape) for p in model.parameters()}
        wide = [shape for _, shape in seen.shapes if shape[-1:] == (width,) and shape not in weights]
        assert max(shape[-2] for shape in wide if len(shape) > 1) == longest


def test_a_sequence_shorter_than_a_tile_is_not_computed_twice() -> None:
    plain, tiled = tiny_model(), tiny_model()
    tile_mlps(tiled, sum(LENGTHS))
    counts = []
    for model in (plain, tiled):
        with Seen() as seen:
            gradients(model)
        counts.append(sum(seen.shapes.values()))
    assert counts[0] == pytest.approx(counts[1], abs=10)


def test_models_without_a_dense_mlp_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="MixtralForCausalLM has no dense gated MLP"):
        tile_mlps(family("Mixtral"), TILE)


def test_offloaded_checkpoints_are_copied_to_the_host_and_change_nothing() -> None:
    hidden = (1, sum(LENGTHS), tiny_config().hidden_size)
    expected = gradients(tiny_model())
    for offload in (False, True):
        model = tiny_model()
        enable_checkpointing(model, offload=offload)
        with Seen() as seen:
            found = gradients(model)
        copies = seen.shapes["copy_", hidden]
        assert copies == (len(decoder_layers(model)) if offload else 0)
        assert relative_error(found, expected) < 1e-12


def test_the_setting_reaches_the_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path / "model")
    settings = TrainSettings(model=str(tmp_path / "model"), mlp_tile_tokens=16, lora_rank=2)
    build_model(settings, place(settings), settings.model)
    assert "2 of 2 layers in tiles of 16 tokens" in capfd.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_liger_kernels_are_refused_where_they_cannot_run(tmp_path: Path) -> None:
    tiny_model(dtype=torch.float32).save_pretrained(tmp_path / "model")
    settings = TrainSettings(model=str(tmp_path / "model"), liger_kernels=True)
    with pytest.raises(ModelError, match=r"liger_kernels: .* need a CUDA device"):
        build_model(settings, place(settings), settings.model)


def test_offload_without_checkpoints_to_offload_is_refused() -> None:
    with pytest.raises(ValueError, match="activation_offload keeps what gradient_checkpointing saves, which is off"):
        TrainSettings(activation_offload=True, gradient_checkpointing=False)
