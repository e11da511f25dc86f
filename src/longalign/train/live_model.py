"""The model that is being trained as a language model that answers questions, in place and without a copy.

    with answering(model):                # plain attention with a cache, evaluation mode, random generators put back
        live = LiveModel(model, tokenizer, precision=..., batch_tokens=...)
        found = on_ranks(live, lambda: task.measure_open(Subject(live, ...), out), together=sharded)

Whole weights answer on the first rank alone while the others wait. Sharded ones need every rank in each forward pass:
there the first rank asks, and the others run the same prompts with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from longalign.errors import LongAlignError
from longalign.llm.base import Request
from longalign.llm.local import LocalModel
from longalign.train.loss import without_loss
from longalign.train.model import own_attention
from longalign.train.parallel import ranks
from longalign.train.parallel.fsdp2 import reshard
from longalign.train.wrapper import without_peft

T = TypeVar("T")
Prompts = list[list[int]]


class LiveModel(LocalModel):
    """A `LocalModel` around weights that are here already. `precision` makes the context that they compute in."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        batch_tokens: int,
        precision: Callable[[], AbstractContextManager[Any]],
        device: torch.device,
    ) -> None:
        self.model, self.tokenizer = without_peft(model), tokenizer
        self.batch_tokens, self.device = batch_tokens, device
        self.path = self._spec = name
        self.precision = precision
        self.tell: Callable[[tuple[Prompts, list[Request]] | None], object] | None = None

    @property
    def name(self) -> str:
        """What answers call it; its weights change from step to step, and nothing is remembered by it."""
        return self._spec

    def _generate(self, prompts: Prompts, requests: list[Request]) -> Prompts:
        if self.tell:
            self.tell((prompts, requests))
        return self.reply(prompts, requests)

    @torch.no_grad()
    def reply(self, prompts: Prompts, requests: list[Request]) -> Prompts:
        """`generate` outside of inference mode, whose tensors training could not use."""
        more = {"synced_gpus": True} if self.tell or not ranks.is_first() else {}
        with self.precision():
            return self.generate(prompts, requests, **more)


def on_ranks(live: LiveModel, work: Callable[[], T], *, together: bool) -> T:
    """`work()` of the first rank, on every rank; it may ask `live`. Every rank calls it.

    together: each forward pass needs all ranks. Errors of the first rank are raised on all.
    """
    if not together or ranks.world_size() == 1:
        return ranks.on_first_rank(work)
    with ranks.patient_group() as group:

        def tell(job: tuple[Prompts, list[Request]] | None) -> None:
            dist.broadcast_object_list([job], src=0, group=group)

        if not ranks.is_first():
            box: list[Any] = [None]
            dist.broadcast_object_list(box, src=0, group=group)
            while box[0] is not None:
                _follow(live, *box[0])
                dist.broadcast_object_list(box, src=0, group=group)
            dist.broadcast_object_list(box, src=0, group=group)
        else:
            live.tell = tell
            try:
                box = [work()]
            except LongAlignError as error:
                box = [error]
            live.tell = None
            tell(None)
            dist.broadcast_object_list(box, src=0, group=group)
    if isinstance(box[0], LongAlignError):
        box[0].printed_elsewhere = not ranks.is_first()
        raise box[0]
    return cast(T, box[0])


def _follow(live: LiveModel, prompts: Prompts, requests: list[Request]) -> None:
    try:
        live.reply(prompts, requests)
    except torch.OutOfMemoryError:  # of the same prompts on the first rank too, which will ask for half of them
        torch.cuda.empty_cache()


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """`model` as for generation; after it, and after an error, everything is as before, random generators included."""
    plain, training = without_peft(model), model.training
    configs = {id(config): config for config in (plain.config, plain.config.get_text_config())}.values()
    attention = [config._attn_implementation for config in configs]
    with undisturbed(), without_loss(plain):
        try:
            for config in configs:  # packed attention reads no key-value cache
                config._attn_implementation = own_attention(type(plain))
            model.eval()
            yield
        finally:
            for config, before in zip(configs, attention, strict=True):
                config._attn_implementation = before
            model.train(training)
            reshard(model)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever is drawn inside, the random generators of torch, numpy and Python go on as if nothing had been."""
    python, numpy = random.getstate(), np.random.get_state()
    with ranks.seeded(0):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
