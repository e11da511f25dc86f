"""Dialogues: each runs to its end, few are open at once, and an error ends all."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence

import pytest

from longalign.errors import EndpointError
from longalign.llm.base import Outcome, Reply, Request
from longalign.llm.dialogue import converse


class Doubler:
    """Answers a number with its double."""

    name = "doubler"

    def __init__(self, batched: bool) -> None:
        self.batched = batched
        self.sizes: list[int] = []
        self.threads: set[str] = set()

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        self.sizes.append(len(requests))
        self.threads.add(threading.current_thread().name)
        time.sleep(0.001)
        for index in reversed(range(len(requests))):
            text = requests[index].messages[-1]["content"]
            if text == "666":
                raise EndpointError("gone")
            yield index, Reply(text=str(2 * int(text)))


def doubled(start: int, rounds: int) -> Generator[Request, Outcome, int]:
    value = start
    for _ in range(rounds):
        outcome = yield Request(messages=({"role": "user", "content": str(value)},))
        value = int(outcome.text)
    return value


@pytest.mark.parametrize("batched", [False, True])
def test_every_dialogue_ends_once_with_its_own_result(batched: bool) -> None:
    starts = [(n, n % 4) for n in range(1, 20)]
    results = dict(converse(Doubler(batched), (doubled(n, rounds) for n, rounds in starts), in_flight=5))
    assert results == {i: n * 2**rounds for i, (n, rounds) in enumerate(starts)}


def test_batched_models_get_all_open_dialogues_at_once_and_endpoints_one_each() -> None:
    together = Doubler(True)
    list(converse(together, (doubled(n, 2) for n in range(8)), in_flight=8))
    assert together.sizes == [8, 8]
    apart = Doubler(False)
    list(converse(apart, (doubled(n, 2) for n in range(8)), in_flight=4))
    assert apart.sizes == [1] * 16
    assert 1 < len(apart.threads) <= 4


@pytest.mark.parametrize("batched", [False, True])
def test_documents_are_opened_only_when_a_place_is_free(batched: bool) -> None:
    opened: list[int] = []
    finished: list[int] = []

    def dialogues() -> Iterator[Generator[Request, Outcome, int]]:
        for n in range(12):
            opened.append(n)
            assert len(opened) - len(finished) <= 3
            yield doubled(n, 1)

    for index, _ in converse(Doubler(batched), dialogues(), in_flight=3):
        finished.append(index)
    assert len(finished) == 12


@pytest.mark.parametrize("batched", [False, True])
def test_an_endpoint_that_is_gone_ends_everything(batched: bool) -> None:
    model = Doubler(batched)
    with pytest.raises(EndpointError, match="gone"):
        list(converse(model, (doubled(n, 50) for n in [1, 666, *range(2, 40)]), in_flight=4))
    assert sum(model.sizes) < 1000
