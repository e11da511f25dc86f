"""Runs many dialogues (exchanges of several calls) against one model and keeps it busy.

A *dialogue* is a generator that yields a request, is sent the outcome, and returns its result: the code reads
as if there were one document and one model, while concurrency (endpoints) or batching (local models) stays here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from typing import Generic, TypeVar

from longalign.errors import RunError
from longalign.llm.base import LanguageModel, Outcome, Request

CALLING = "longalign-llm"
"""Names of threads that wait for an endpoint begin so."""
PATIENCE_S = 2.0
"""How long Ctrl-C waits for calls under way."""
T = TypeVar("T")
Dialogue = Generator[Request, Outcome, T]


def converse(
    model: LanguageModel, dialogues: Iterable[Dialogue[T] | None], *, in_flight: int
) -> Iterator[tuple[int, T]]:
    """Yields `(index, result)` as dialogues finish; at most `in_flight` are open, so documents stay few in memory.

    The next dialogue is taken when a place is free, after the caller has dealt with the last result; None says that
    there is none just now, and is asked again after the next result. Indices count dialogues only.

    Endpoints get one thread a dialogue: the next call over a document follows at once, while the server still
    holds the document in its prefix cache. Batched models get one call with the next request of every open one.
    """
    run = _in_rounds if model.batched else _in_threads
    return run(model, _Source(dialogues), in_flight)


class _Source(Generic[T]):
    """Numbers dialogues, and gives those that may start now."""

    def __init__(self, dialogues: Iterable[Dialogue[T] | None]) -> None:
        self._dialogues = iter(dialogues)
        self._taken = 0

    def take(self, most: int) -> Iterator[tuple[int, Dialogue[T]]]:
        for _ in range(most):
            dialogue = next(self._dialogues, None)
            if dialogue is None:
                return
            self._taken += 1
            yield self._taken - 1, dialogue


def _finish(model: LanguageModel, dialogue: Dialogue[T], stopped: Event) -> T:
    try:
        request = next(dialogue)
        while True:
            if stopped.is_set():
                raise RunError("stopped before all calls were made")
            ((_, outcome),) = model.complete([request])
            request = dialogue.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result


def _in_threads(model: LanguageModel, source: _Source[T], in_flight: int) -> Iterator[tuple[int, T]]:
    """After an error, calls under way finish (they are paid and go to the ledger) and no new ones are made. After
    Ctrl-C they have a moment to do so; what is not answered by then counts as lost."""
    stopped = Event()
    finished: SimpleQueue[Future[T]] = SimpleQueue()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix=CALLING)
    running: dict[Future[T], int] = {}
    patience_s: float | None = None
    try:
        while True:
            for index, dialogue in source.take(in_flight - len(running)):
                future = pool.submit(_finish, model, dialogue, stopped)
                running[future] = index
                future.add_done_callback(finished.put)
            if not running:
                return
            done = finished.get()
            yield running.pop(done), done.result()
    except KeyboardInterrupt:
        patience_s = PATIENCE_S
        raise
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        wait(running, timeout=patience_s)


def _in_rounds(model: LanguageModel, source: _Source[T], in_flight: int) -> Iterator[tuple[int, T]]:
    waiting: dict[int, tuple[Dialogue[T], Request]] = {}
    while True:
        taken = 0
        for taken, (index, dialogue) in enumerate(source.take(in_flight - len(waiting)), 1):  # noqa: B007
            try:
                waiting[index] = (dialogue, next(dialogue))
            except StopIteration as stop:
                yield index, stop.value
        if not waiting and taken:
            continue
        if not waiting:
            return
        round_, waiting = waiting, {}
        order = list(round_)
        for position, outcome in model.complete([request for _, request in round_.values()]):
            index = order[position]
            dialogue = round_[index][0]
            try:
                waiting[index] = (dialogue, dialogue.send(outcome))
            except StopIteration as stop:
                yield index, stop.value
