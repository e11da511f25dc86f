"""Opens the models of a build where its `executor` wants them: with `ray`, copies of local models on a cluster."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

from longalign.config import DataSettings
from longalign.errors import ConfigError
from longalign.llm.base import LanguageModel
from longalign.llm.chat_prompts import ChatPrompts
from longalign.llm.open import OpenOptions, Provider, has_weights, is_vllm, path_of, provider_of
from longalign.llm.ray_copies import Copies
from longalign.llm.ray_pool import RayPool


def provider_for(settings: DataSettings, *, checker: bool = False) -> Provider:
    """What opens a build's model, or its checker. Endpoints are asked from this process in any case.

    Raises `ConfigError` for several GPUs a copy of a model that uses one.
    """
    spec, other = settings.llm, settings.checker
    count, others = settings.ray_copies, settings.ray_checker_copies or settings.ray_copies
    if checker:
        spec, other, count, others = other or "", spec, others, count
    plain = provider_of(spec)
    if settings.executor != "ray" or not plain.weights:
        return plain
    if (settings.ray_gpus_per_copy or 0) > 1 and not is_vllm(spec):
        raise ConfigError(
            f"ray_gpus_per_copy {settings.ray_gpus_per_copy}: a copy of `{spec}` uses one GPU; vllm:{path_of(spec)} "
            "spreads one over several"
        )
    beside = others if has_weights(other or "") else 0
    copies = Copies(settings.ray_address, count, settings.ray_gpus_per_copy, beside)
    return replace(plain, open=partial(_open_copies, copies=copies))


def _open_copies(spec: str, options: OpenOptions, copies: Copies) -> LanguageModel:
    path = path_of(spec)
    prompts = ChatPrompts(
        path,
        batch_tokens=options.batch_tokens,
        trust_remote_code=options.trust_remote_code,
        chat_template=options.chat_template,
    )
    if os.path.exists(path):  # processes elsewhere stand in other folders
        spec = spec.removesuffix(path) + os.path.abspath(path)
    return RayPool(prompts, partial(_open_copy, spec, options), copies, own_batches=not is_vllm(spec))


def _open_copy(spec: str, options: OpenOptions, gpus: int) -> LanguageModel:
    """In the process of a copy."""
    return provider_of(spec).open(spec, replace(options, device="cuda" if gpus else "cpu", gpus=gpus))
