"""Copies of a local model on a Ray cluster, behind one interface: requests go to whichever copy is free.

Requests are divided as one `LocalModel` divides them into batches, and a batch is one call, so on like hardware replies
are those of one copy, however many there are. A copy that dies is started again and its batch asked again.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from longalign.base.progress import say
from longalign.base.ray_cluster import connect, own_error
from longalign.errors import LongAlignError, ModelError, RunError, first_line
from longalign.llm.base import Failure, LanguageModel, Outcome, Request
from longalign.llm.chat_prompts import ChatPrompts
from longalign.llm.ray_copies import PLACING_S, Copies, place, resources_of
from longalign.llm.vllm import EngineError

MOST_DEATHS = 3
"""So often a copy may die over the same requests, or in a row while it loads the weights."""
DIED = "its process ended; too little memory is the commonest cause"
REQUESTS = 32
"""Requests of one call of a model that makes batches itself, such as vLLM."""


class Copy:
    """The actor: a model in a process of its own."""

    def __init__(self) -> None:
        self.model: LanguageModel | None = None

    def open(self, opened: Callable[[int], LanguageModel], gpus: int, asked_from: str) -> tuple[str, int | None]:
        """Load the weights; name and window of the model."""
        try:
            self.model = opened(gpus)
        except LongAlignError as error:
            here = socket.gethostname()
            raise error if here == asked_from else type(error)(f"node {here} of the Ray cluster: {error}") from None
        return self.model.name, getattr(self.model, "window", None)

    def complete(self, requests: list[Request]) -> list[tuple[int, Outcome]]:
        """See `LanguageModel.complete`."""
        assert self.model is not None
        return list(self.model.complete(requests))


@dataclass(eq=False)
class _Part:
    """Requests that are asked together, by index."""

    indices: list[int]
    deaths: int = 0


@dataclass
class _Seat:
    """The place of a copy and the actor in it. `task`: what it works on: loads, or answers `part`."""

    number: int
    actor: Any = None
    task: Any = None
    part: _Part | None = None
    loaded: bool = False
    deaths: int = 0


class RayPool:
    """See `LanguageModel`. Close it, or leave the cluster, to end the copies."""

    batched = True

    def __init__(
        self,
        prompts: ChatPrompts,
        opened: Callable[[int], LanguageModel],
        copies: Copies,
        *,
        own_batches: bool,
    ) -> None:
        """Returns when the first copy has loaded; the others follow.

        `opened`: opens the model in the process of a copy, on so many GPUs. `own_batches`: it is a `LocalModel`, to be
        asked batch by batch. Raises `ConfigError` or `RunError` where the cluster has no place, and what `opened` does.
        """
        self._prompts, self._opened, self._own_batches = prompts, opened, own_batches
        self._spec = prompts.spec
        self._ray = connect(copies.address)
        self._each = resources_of(copies, self._ray.cluster_resources())
        self._group = place(self._ray, copies, self._each, self._spec)
        self._seats = [_Seat(number) for number in range(copies.count)]
        self.name = ""
        self.window: int | None = None
        try:
            for seat in self._seats:
                self._start(seat)
            while not any(seat.loaded for seat in self._seats):
                for seat in self._ended():
                    self._take(seat)
        except BaseException:
            self.close()
            raise

    def check_extras(self, request: Request) -> None:
        """See `base.check_extras`."""
        self._prompts.check_extras(request)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; yields part by part."""
        waiting = deque(_Part(indices) for indices in self._parts(requests))
        mine: list[_Part] = []
        while waiting or mine:
            for seat in self._seats:
                if waiting and seat.loaded and seat.task is None:
                    seat.part = waiting.popleft()
                    mine.append(seat.part)
                    seat.task = seat.actor.complete.remote([requests[index] for index in seat.part.indices])
            for seat in self._ended():
                part = seat.part
                outcomes = self._take(seat)
                if part is None or part not in mine:  # a copy was loaded; or nobody waits for this any more
                    continue
                mine.remove(part)
                if outcomes is not None:
                    yield from ((part.indices[position], outcome) for position, outcome in outcomes)
                elif part.deaths + 1 < MOST_DEATHS:
                    waiting.appendleft(_Part(part.indices, part.deaths + 1))
                elif len(part.indices) > 1:  # which one is it?
                    waiting.extend(_Part([index], MOST_DEATHS - 1) for index in part.indices)
                else:
                    message = f"every copy of {self._spec} that was asked this died ({DIED})"
                    yield part.indices[0], Failure(kind="unavailable", message=message, model=self.name)

    def close(self) -> None:
        """End the copies and give their place back."""
        for seat in self._seats:
            if seat.actor is not None:
                self._ray.kill(seat.actor)
        self._ray.util.remove_placement_group(self._group)

    def _parts(self, requests: Sequence[Request]) -> list[list[int]]:
        if self._own_batches:
            return list(self._prompts.batches(self._prompts.prompts_of(requests), requests))
        size = max(1, min(REQUESTS, math.ceil(len(requests) / len(self._seats))))
        every = list(range(len(requests)))
        return [every[first : first + size] for first in range(0, len(every), size)]

    def _start(self, seat: _Seat) -> None:
        """A new actor in a seat; it begins to load."""
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            self._group, placement_group_bundle_index=seat.number
        )
        gpus = int(self._each.get("GPU", 0))
        options = {"num_cpus": self._each["CPU"], "num_gpus": gpus, "scheduling_strategy": strategy}
        seat.actor, seat.part, seat.loaded = self._ray.remote(Copy).options(**options).remote(), None, False
        seat.task = seat.actor.open.remote(self._opened, gpus, socket.gethostname())

    def _ended(self) -> list[_Seat]:
        """Seats whose task has ended, at least one. Raises `RunError` where copies lost their place for good."""
        working = {seat.task: seat for seat in self._seats if seat.task is not None}
        while True:
            done, _ = self._ray.wait(list(working), num_returns=1, timeout=PLACING_S)
            if done:
                return [working[task] for task in done]
            state = self._ray.util.placement_group_table(self._group)["state"]
            if state != "CREATED" and not any(seat.part for seat in self._seats):
                raise RunError(
                    f"executor ray: a node of the cluster is gone, and for {PLACING_S:g} s there was no other place "
                    f"for a copy of {self._spec}; add a node, or lower --ray_copies"
                )

    def _take(self, seat: _Seat) -> list[tuple[int, Outcome]] | None:
        """What a seat's task gave: outcomes, or None when the copy has loaded or has died and starts again."""
        try:
            result = self._ray.get(seat.task)
        except self._ray.exceptions.RayTaskError as error:
            cause = own_error(error, f"a copy of {self._spec}")
            if not isinstance(cause, EngineError):
                raise cause from None
            self._start_again(seat, first_line(cause))
            return None
        except self._ray.exceptions.RayError:
            self._start_again(seat, DIED)
            return None
        seat.task, seat.part, seat.deaths = None, None, 0
        if seat.loaded:
            outcomes: list[tuple[int, Outcome]] = result
            return outcomes
        seat.loaded = True
        name, self.window = result
        if self.name not in ("", name):
            raise ModelError(f"{self._spec}: nodes of the Ray cluster have other weights there ({self.name}, {name})")
        self.name = name
        return None

    def _start_again(self, seat: _Seat, why: str) -> None:
        """Raises `ModelError` when a copy dies again and again while it loads."""
        seat.deaths += not seat.loaded
        if seat.deaths >= MOST_DEATHS:
            raise ModelError(f"{self._spec}: a copy died {seat.deaths} times while it loaded ({why})")
        say(f"note: copy {seat.number + 1} of {self._spec} died and is started again ({why})")
        self._ray.kill(seat.actor)
        self._start(seat)
