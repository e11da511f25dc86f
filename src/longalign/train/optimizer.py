"""Optimizers and schedules: AdamW, or Muon for the matrices of the hidden layers with AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from longalign.config import OptimizerSettings
from longalign.errors import ConfigError
from longalign.train.parallel.fsdp2 import like


class MuonWithAdamW(Optimizer):
    """Two optimizers that look like one: shared parameter groups, one `state`, one `state_dict`.

    Muon orthogonalises the momentum of 2-D matrices (torch.optim.Muon); embeddings, heads, norms and biases go to
    AdamW. Both parts read their hyperparameters from the very group objects shown in `param_groups`, so a schedule
    or accelerate's FSDP2 (which swaps parameters inside the groups) needs to know nothing of the split.
    """

    def __init__(self, muon: Muon, adamw: AdamW) -> None:
        self.parts: tuple[Optimizer, ...] = (muon, adamw)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self.param_groups = [*muon.param_groups, *adamw.param_groups]
        muon.state = adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        muon, adamw = self.parts
        split = len(muon.param_groups)
        muon.param_groups, adamw.param_groups = self.param_groups[:split], self.param_groups[split:]
        muon.state = adamw.state = self.state


class ShardedMuon(Muon):
    """Muon on parameters that FSDP2 shards: momentum stays sharded, each matrix is whole while it is orthogonalised.

    Letting DTensor run the iteration on shards adds its bfloat16 rounding at every product, which the iteration
    amplifies in the directions a gradient does not have: the result then depends on the number of ranks.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; every rank computes every matrix."""
        for group in self.param_groups:
            momentum = group["momentum"]
            plain = {key: group[key] for key in ("lr", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")}
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(gradient))
                buffer.lerp_(gradient, 1 - momentum)
                direction = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
                whole = direction.full_tensor()
                change = nn.Parameter(torch.zeros_like(whole))
                change.grad = whole
                Muon([change], momentum=0.0, weight_decay=0.0, **plain).step()  # type: ignore[no-untyped-call]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(like(change.detach(), parameter))
        return None


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """The optimizer for the trainable parameters of `model`. Norms, biases and embeddings get no weight decay."""
    embedding_like = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name.split(".modules_to_save.")[0].endswith("lm_head")
        if isinstance(getattr(module, "weight", None), Tensor)
    }
    matrices: list[nn.Parameter] = []
    embeddings: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in embedding_like:
            embeddings.append(parameter)
        else:
            (matrices if parameter.ndim == 2 else others).append(parameter)
    if not matrices and not embeddings and not others:
        raise ConfigError("the model has no trainable parameters")
    betas = (settings.adam_beta1, settings.adam_beta2)
    if settings.optimizer == "adamw":
        decayed = [*matrices, *(p for p in others if p.ndim > 1)]
        plain = [*embeddings, *(p for p in others if p.ndim <= 1)]
        groups = _groups((decayed, settings.weight_decay), (plain, 0.0))
        return AdamW(groups, lr=settings.learning_rate, betas=betas, fused=_fusable(model.parameters()))
    if not matrices:
        raise ConfigError("optimizer: muon needs 2-D weights in hidden layers, and this model trains none")
    kind = ShardedMuon if any(isinstance(p, DTensor) for p in matrices) else Muon
    muon = kind(matrices, lr=settings.muon_learning_rate, weight_decay=settings.weight_decay)
    rest = [*embeddings, *others]
    if not rest:
        return muon
    return MuonWithAdamW(muon, AdamW(rest, lr=settings.learning_rate, betas=betas, weight_decay=0.0))


def build_schedule(optimizer: Optimizer, settings: OptimizerSettings, steps: int) -> LambdaLR:
    """Warm-up over `warmup_ratio` of the `steps` of the run, then the named schedule of transformers."""
    from transformers import get_scheduler

    name = settings.lr_scheduler_type
    warmup = 0 if name == "constant" else round(settings.warmup_ratio * steps)
    own: dict[str, Any] = {}
    if name == "cosine_with_min_lr":
        own = {"min_lr_rate": settings.min_lr_ratio}
    elif name == "warmup_stable_decay":
        decay = min(max(round(settings.decay_ratio * steps), 1), steps - warmup)
        own = {"num_decay_steps": decay, "decay_type": settings.decay_type, "min_lr_ratio": settings.min_lr_ratio}
    schedule: LambdaLR = get_scheduler(
        name,
        optimizer=optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
        scheduler_specific_kwargs=own,
    )
    return schedule


def _groups(*groups: tuple[list[nn.Parameter], float]) -> list[dict[str, Any]]:
    return [{"params": parameters, "weight_decay": decay} for parameters, decay in groups if parameters]


def _fusable(parameters: Iterable[Tensor]) -> bool:
    """Fused AdamW: one pass over memory."""
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters if p.requires_grad)
