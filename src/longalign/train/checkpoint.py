"""Checkpoints that a kill, a full disk or a flipped bit cannot turn into a lost run.

A checkpoint is a folder written under a temporary name, hashed, synced and renamed; older ones go only after that.
`newest_good` takes the newest whose hashes hold. Tensors are safetensors, the rest is JSON: no pickle is written or
read. Tensors are stored whole under parameter names, however FSDP2 or ZeRO-3 spreads them, so that any number of ranks
can resume, sharded in another way or not at all.

    weights.safetensors             trainable parameters       optimizer-<key>.safetensors   e.g. exp_avg, exp_avg_sq
    rng-<rank>.safetensors          torch generators           state.json                    groups, schedule, python
    trainer_state.json              position, for Trainer      manifest.json                 size and SHA-256 of each
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from longalign.base.files import sha256_of, sync
from longalign.errors import RunError
from longalign.train.parallel import ranks
from longalign.train.parallel import zero3 as zero
from longalign.train.parallel.fsdp2 import like

PREFIX = "checkpoint-"
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
KERNEL_CHOICES = frozenset({"fused", "foreach", "capturable", "differentiable"})
"""What an optimizer decides by itself for where its parameters are; not restored."""


def step_of(checkpoint: Path) -> int:
    """Optimizer steps done, from the folder's name."""
    return int(checkpoint.name.removeprefix(PREFIX))


def all_checkpoints(folder: Path) -> list[Path]:
    """Whole or damaged, newest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=step_of, reverse=True)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every file has the size and hash it was written with."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            if (checkpoint / name).stat().st_size != expected["bytes"]:
                return f"{name} has another size than when it was written"
            if sha256_of(checkpoint / name) != expected["sha256"]:
                return f"{name} has other contents than when it was written"
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def newest_good(folder: Path, say: Callable[[str], None] = lambda text: None) -> Path | None:
    """The newest checkpoint that is whole; damaged ones are named through `say` and passed over."""
    for checkpoint in all_checkpoints(folder):
        wrong = damage(checkpoint)
        if wrong is None:
            return checkpoint
        say(f"{checkpoint}: damaged ({wrong}); using an older one")
    return None


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizer,
    others: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write the checkpoint of `step`; every rank calls it. `others` is JSON of the first rank, by file name.

    Afterwards only the newest `keep` stay. Raises `RunError` when it cannot be written; what was there stays.
    """
    final = folder / f"{PREFIX}{step}"
    temporary = folder / f".{PREFIX}{step}.tmp"
    generators = ranks.all_gather({"torch": torch.get_rng_state(), "cuda": _cuda_rng()})
    trouble = None
    try:
        if ranks.is_first():
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        _write_tensors(temporary, model, optimizer)
        if ranks.is_first():
            state = {"step": step, "ranks": ranks.world_size(), "groups": _groups(optimizer), **_host_rng()}
            _write_rest(temporary, generators, {"state.json": state, **others})
            _seal(temporary)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(temporary, final)
            sync(folder)
            for old in all_checkpoints(folder)[keep:]:
                shutil.rmtree(old, ignore_errors=True)
    except Exception as error:  # safetensors reports a full disk with an exception of its own
        shutil.rmtree(temporary, ignore_errors=True)
        trouble = f"{final}: the checkpoint cannot be written ({error}); earlier checkpoints are untouched"
    if trouble:
        raise RunError(trouble)
    ranks.barrier()
    return final


def save_weights(folder: Path, model: nn.Module) -> None:
    """The trainable parameters alone into `folder`, for `load_weights`; every rank calls it.

    Raises `RunError` when they cannot be written; what was there stays.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    tensors = {name: whole(parameter) for name, parameter in _trainable(model).items()}
    if ranks.is_first():
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            save_file({name: value for name, value in tensors.items() if value is not None}, temporary / WEIGHTS)
            _seal(temporary)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
            sync(folder.parent)
        except Exception as error:  # as in `save`
            shutil.rmtree(temporary, ignore_errors=True)
            raise RunError(f"{folder}: the weights cannot be written ({error}); checkpoints are untouched") from None
    ranks.barrier()


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Set the trainable parameters, before DDP or ZeRO-3 take them over. Raises `RunError` when names do not fit."""
    with safe_open(checkpoint / WEIGHTS, framework="pt") as file, torch.no_grad():
        names = set(file.keys())
        for name, parameter in _trainable(model).items():
            if name not in names:
                raise RunError(f"{checkpoint}: has no weights for {name}; it belongs to another model or LoRA setting")
            parameter.copy_(like(file.get_tensor(name), parameter))


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Set the optimizer's state and the hyperparameters of its groups."""
    saved = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))["groups"]
    parameters = _trainable(model)
    if len(saved) != len(optimizer.param_groups):
        raise RunError(f"{checkpoint}: was written with another optimizer")
    counts_on_device: set[int] = set()
    for group, stored in zip(optimizer.param_groups, saved, strict=True):
        group.update({k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k not in KERNEL_CHOICES})
        if group.get("fused") or group.get("capturable"):
            counts_on_device.update(id(p) for p in group["params"])
    files = {path.stem.removeprefix("optimizer-"): path for path in sorted(checkpoint.glob("optimizer-*.safetensors"))}
    if _by_zero(parameters):
        _load_zero(checkpoint, files, parameters, optimizer)
        return
    for key, path in files.items():
        for name, value in _read(path):
            parameter = parameters[name]
            if value.shape == parameter.shape and value.ndim:
                value = like(value, parameter)
            elif id(parameter) in counts_on_device:
                value = value.to(parameter.device)
            optimizer.state[parameter][key] = value


def _load_zero(
    checkpoint: Path, files: Mapping[str, Path], parameters: Mapping[str, Tensor], optimizer: Optimizer
) -> None:
    """Also the float32 weights: ZeRO-3 took over those of `load_weights`, rounded where it computes in bfloat16."""
    kinds = {key: next(value for _, value in _read(path)) for key, path in files.items()}
    zero.make_state(optimizer, kinds)
    for name, value in _read(checkpoint / WEIGHTS):
        zero.put(parameters[name], value)
    for key, path in files.items():
        if kinds[key].ndim:
            for name, value in _read(path):
                zero.put(parameters[name], value, key)


def _read(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (a file handle, not a mapping)
            yield name, file.get_tensor(name)


def load_generators(checkpoint: Path) -> None:
    """Restore this rank's random generators; a rank that did not exist then keeps its own."""
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    path = checkpoint / f"rng-{ranks.rank()}.safetensors"
    if not path.exists() or state["ranks"] != ranks.world_size():
        return
    with safe_open(path, framework="pt") as file:
        torch.set_rng_state(file.get_tensor("torch"))
        if "cuda" in file.keys() and torch.cuda.is_available():  # noqa: SIM118
            torch.cuda.set_rng_state(file.get_tensor("cuda"))
    version, internal, gauss = state["python_rng"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy_rng"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def read_json(checkpoint: Path, name: str) -> Any:
    """One of the JSON files of a checkpoint."""
    return json.loads((checkpoint / name).read_text(encoding="utf-8"))


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _tensor_files(model: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, dict[str, Tensor | None]]]:
    """Whole tensors (on the first rank) file by file, so that only one kind is gathered at a time."""
    parameters = _trainable(model)
    yield WEIGHTS, {name: whole(p) for name, p in parameters.items()}
    if _by_zero(parameters):
        for key, value in zero.state_kinds(optimizer).items():
            found = {n: whole(p, key) if value.ndim else value.to("cpu", copy=True) for n, p in parameters.items()}
            yield f"optimizer-{key}.safetensors", found
        return
    states = {name: optimizer.state.get(p, {}) for name, p in parameters.items()}
    for key in sorted({key for state in states.values() for key in state}):
        found = {name: whole(state[key]) for name, state in states.items() if key in state}
        yield f"optimizer-{key}.safetensors", found


def _write_tensors(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    for name, tensors in _tensor_files(model, optimizer):
        if ranks.is_first():
            save_file({key: value for key, value in tensors.items() if value is not None}, folder / name)


def _write_rest(folder: Path, generators: Sequence[Mapping[str, Any]], texts: Mapping[str, Any]) -> None:
    for rank, states in enumerate(generators):
        save_file({k: v for k, v in states.items() if v is not None}, folder / f"rng-{rank}.safetensors")
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def whole(tensor: Tensor, zero_key: str | None = None) -> Tensor | None:
    """The full tensor in host memory on the first rank, None elsewhere (after taking part in the gathering).

    `zero_key` asks for that state of a parameter which ZeRO-3 trains.
    """
    if zero.is_partitioned(tensor):
        tensor = zero.whole(tensor, zero_key)
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.to("cpu").contiguous() if ranks.is_first() else None


def _by_zero(parameters: Mapping[str, Tensor]) -> bool:
    return any(zero.is_partitioned(p) for p in parameters.values())


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    left_out = {"params", *KERNEL_CHOICES}
    return [{key: value for key, value in group.items() if key not in left_out} for group in optimizer.param_groups]


def _host_rng() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    return {"python_rng": random.getstate(), "numpy_rng": [name, np.asarray(keys).tolist(), *rest]}


def _cuda_rng() -> Tensor | None:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _seal(folder: Path) -> None:
    """Sync every file, then write their hashes last."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        sync(path)
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / MANIFEST).write_text(json.dumps({"format": 1, "files": files}, indent=1), encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)
