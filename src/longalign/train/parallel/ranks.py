"""Ranks under torchrun: which process this is, and the few collectives that plain objects need.

`seeded` makes random draws that do not depend on earlier draws and do not affect later ones.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from longalign.errors import LongAlignError

T = TypeVar("T")
LONGEST_WORK = timedelta(days=7)
"""The longest time that ranks wait for the first one to prepare."""


def world_size() -> int:
    """Processes of this run; 1 without torchrun."""
    return dist.get_world_size() if _running() else int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process, from 0."""
    return dist.get_rank() if _running() else int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    return rank() == 0


def start(*, alone: bool = False) -> None:
    """Join the process group that torchrun describes: NCCL with GPUs (gloo for what lies in host memory), gloo on CPU.

    A single process needs none, but with `alone` it forms one by itself, so that FSDP2 has something to shard over.
    """
    if _running() or (world_size() == 1 and not alone):
        return
    device = this_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if world_size() == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        dist.init_process_group(backend)
    atexit.register(_stop)


def this_device() -> torch.device:
    """Where this process computes."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def barrier() -> None:
    if _running():
        dist.barrier()


def broadcast(value: Any) -> Any:
    """The first rank's `value`, everywhere."""
    if not _running():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def on_first_rank(work: Callable[[], T]) -> T:
    """Run `work()` on the first rank and return its result on every rank, or raise its `LongAlignError` on every rank.

    The others wait as long as it takes: hashing and tokenising a corpus, reading and writing weights take hours, while
    collectives of training should fail after minutes.
    """
    if not _running():
        return work()
    box: list[Any] = [None]
    with patient_group() as patient:
        if is_first():
            try:
                box = [work()]
            except LongAlignError as error:  # every rank ends with it, and not with a lost connection
                box = [error]
        dist.broadcast_object_list(box, src=0, group=patient)
    if isinstance(box[0], LongAlignError):
        box[0].printed_elsewhere = not is_first()
        raise box[0]
    return cast(T, box[0])


@contextmanager
def patient_group() -> Iterator[Any]:
    """A group of all ranks, for objects in host memory, in which one may wait for another as long as it takes."""
    patient = dist.new_group(backend="gloo", timeout=LONGEST_WORK)
    yield patient
    dist.destroy_process_group(patient)


def wait_for_first() -> None:
    """Meet where the first rank may come hours later."""
    on_first_rank(lambda: None)


def all_gather(value: Any) -> list[Any]:
    """Every rank's `value`, in rank order."""
    if not _running():
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum over ranks, elementwise."""
    if _running():
        dist.all_reduce(values)
    return values


def _stop() -> None:
    """Leave the group before the interpreter ends: its threads must not outlive it."""
    gc.collect()
    if _running():
        dist.destroy_process_group()


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws on the CPU and on this process's GPU come from `seed`; after it the generators are where they were.

    Only this GPU's: torch's own default also visits those of other processes, and warns of it.
    """
    device = this_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
