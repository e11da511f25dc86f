"""Copies on a Ray cluster answer as one model in this process does; copies that die are replaced."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.ray_cluster import connect, ray_session
from longalign.config import DataSettings
from longalign.errors import ConfigError, ModelError, RunError
from longalign.llm import ray_copies
from longalign.llm.base import Failure, Outcome, Reply, Request, complete_all
from longalign.llm.chat_prompts import ChatPrompts
from longalign.llm.executor import provider_for
from longalign.llm.local import LocalModel
from longalign.llm.open import open_model
from longalign.llm.ray_copies import Copies, place, resources_of, room
from longalign.llm.ray_pool import RayPool
from longalign.llm.vllm import EngineError

AMOUNT = st.integers(0, 6)


@given(
    st.lists(st.fixed_dictionaries({"CPU": AMOUNT, "GPU": AMOUNT}), max_size=4),
    st.fixed_dictionaries({"CPU": st.integers(1, 3)}, optional={"GPU": st.integers(1, 3)}),
)
def test_room_is_what_filling_node_by_node_finds(nodes: list[dict[str, int]], each: dict[str, int]) -> None:
    count = 0
    for node in nodes:
        left = dict(node)
        while all(left[kind] >= need for kind, need in each.items()):
            left = {kind: amount - each.get(kind, 0) for kind, amount in left.items()}
            count += 1
    assert room(nodes, each) == count


def test_a_copy_takes_a_gpu_where_there_are_some_unless_told() -> None:
    assert resources_of(Copies(None, 1), {"CPU": 8.0}) == {"CPU": 1}
    assert resources_of(Copies(None, 1), {"CPU": 8.0, "GPU": 4.0}) == {"CPU": 1, "GPU": 1}
    assert resources_of(Copies(None, 1, gpus_each=0), {"CPU": 8.0, "GPU": 4.0}) == {"CPU": 1}
    assert resources_of(Copies(None, 1, gpus_each=2), {"CPU": 8.0}) == {"CPU": 1, "GPU": 2}


def test_several_gpus_for_a_copy_that_uses_one_are_refused(model_dir: Path) -> None:
    settings = DataSettings(executor="ray", llm=str(model_dir), ray_gpus_per_copy=2)
    with pytest.raises(ConfigError, match="uses one GPU; vllm:"):
        provider_for(settings)
    provider_for(settings.model_copy(update={"llm": f"vllm:{model_dir}"}))


def requests(count: int, **options: Any) -> list[Request]:
    words = ("quick", "brown", "fox", "lazy", "dog", "document", "system", "what", "ask", "over")
    texts = [" ".join(words[(i + k) % len(words)] for k in range(5 + 9 * (i % 4))) for i in range(count)]
    return [Request(messages=({"role": "user", "content": text},), max_new_tokens=10, **options) for text in texts]


class Fragile:
    """Dies of the word `poison`; on the word `once` while a file is there, which it takes with it."""

    batched = True
    name = "fragile"

    def __init__(self, file: Path, gpus: int) -> None:
        self.file = file
        if file.name == "never":
            os._exit(1)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        for index, request in enumerate(requests):
            said = request.messages[-1]["content"]
            if "poison" in said:
                os.kill(os.getpid(), signal.SIGKILL)
            if "once" in said and self.file.exists():
                self.file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if "halt" in said and self.file.exists():
                self.file.unlink()
                raise EngineError("m: vLLM stopped")
            if "mistake" in said:
                raise KeyError("a mistake")
            yield index, Reply(text=said[::-1], model=self.name)


def ask(text: str) -> Request:
    return Request(messages=({"role": "user", "content": text},))


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with ray_session():
        yield connect(None)


@pytest.fixture
def prompts(model_dir: Path) -> ChatPrompts:
    return ChatPrompts(str(model_dir))


@pytest.mark.slow
@pytest.mark.usefixtures("ray")
class TestWithRay:
    def test_replies_are_those_of_one_model_whatever_the_number_of_copies(self, model_dir: Path) -> None:
        asked = [*requests(30), *requests(6, temperature=1.0, seed=3), *requests(4, stop=("o",))]
        here = LocalModel(str(model_dir), device="cpu", batch_tokens=120)
        expected = {index: outcome.text for index, outcome in here.complete(asked)}
        for count in (1, 2):
            provider = provider_for(DataSettings(executor="ray", llm=str(model_dir), ray_copies=count))
            pool = open_model(str(model_dir), provider=provider, batch_tokens=120)
            assert isinstance(pool, RayPool)
            assert (pool.name, pool.window) == (here.name, here.window)
            assert {index: outcome.text for index, outcome in pool.complete(asked)} == expected
            with pytest.raises(ModelError, match="extra_body"):
                pool.check_extras(Request(messages=(), extra_body={"min_p": 1}))
            pool.close()

    def test_what_a_copy_dies_of_costs_itself_only(
        self, prompts: ChatPrompts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "file"
        file.touch()
        pool = RayPool(prompts, partial(Fragile, file), Copies(None, 2), own_batches=False)
        texts = ["a", "poison", "b", "c", "once", "d", "e", "f"]
        outcomes = complete_all(pool, [ask(text) for text in texts])
        assert [outcome.text for outcome in outcomes if isinstance(outcome, Reply)] == [
            text[::-1] for text in texts if text != "poison"
        ]
        (lost,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        assert (lost.kind, lost.final) == ("unavailable", False)
        assert "every copy of" in lost.message
        assert not file.exists()
        assert [outcome.text for outcome in complete_all(pool, [ask("again")])] == ["niaga"]
        out, err = capfd.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == 5  # of the poison three among others and one alone, and one of the other request
        assert all(re.match(r"note: copy [12] of \S+ died and is started again \(", line) for line in lines)
        pool.close()

    def test_a_copy_whose_engine_stops_is_started_again(
        self, prompts: ChatPrompts, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "file"
        file.touch()
        pool = RayPool(prompts, partial(Fragile, file), Copies(None, 1), own_batches=False)
        assert [outcome.text for outcome in complete_all(pool, [ask("a"), ask("halt")])] == ["a", "tlah"]
        assert capfd.readouterr().err.endswith("died and is started again (m: vLLM stopped)\n")
        pool.close()

    def test_answers_that_nobody_waits_for_are_not_taken_for_others(self, prompts: ChatPrompts, tmp_path: Path) -> None:
        pool = RayPool(prompts, partial(Fragile, tmp_path / "none"), Copies(None, 2), own_batches=False)
        left = pool.complete([ask(f"old {number}") for number in range(80)])
        next(left)
        left.close()  # type: ignore[attr-defined]
        texts = [f"new {number}" for number in range(80)]
        found = complete_all(pool, [ask(text) for text in texts])
        assert [outcome.text for outcome in found] == [text[::-1] for text in texts]
        pool.close()

    def test_a_mistake_in_a_copy_is_one_line(self, prompts: ChatPrompts, tmp_path: Path) -> None:
        pool = RayPool(prompts, partial(Fragile, tmp_path / "none"), Copies(None, 1), own_batches=False)
        with pytest.raises(RunError, match=r"^Ray: a copy of \S+ failed \(KeyError: 'a mistake'\)$"):
            complete_all(pool, [ask("mistake")])
        pool.close()

    def test_a_model_that_cannot_be_loaded_is_one_line(self, prompts: ChatPrompts, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"a copy died 3 times while it loaded"):
            RayPool(prompts, partial(Fragile, tmp_path / "never"), Copies(None, 1), own_batches=False)
        broken = tmp_path / "broken"
        prompts.tokenizer.save_pretrained(broken)
        (broken / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": 1}')
        provider = provider_for(DataSettings(executor="ray", llm=str(broken)))
        with pytest.raises(ModelError, match=r"broken: cannot be loaded as a Hugging Face causal language model"):
            open_model(str(broken), provider=provider)

    def test_copies_that_never_fit_are_refused_at_once_and_others_after_a_wait(
        self, ray: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cpus = int(ray.cluster_resources()["CPU"])
        start = time.monotonic()
        with pytest.raises(
            ConfigError, match=rf"no place for {cpus} copies of m and 1 of the other .* room for {cpus}"
        ):
            place(ray, Copies(None, cpus, beside=1), {"CPU": 1}, "m")
        with pytest.raises(ConfigError, match=r"no place for a copy of m \(1 CPUs, 4 GPUs each\): the cluster has"):
            place(ray, Copies(None, 1), {"CPU": 1, "GPU": 4}, "m")
        assert time.monotonic() - start < 5
        monkeypatch.setattr(ray_copies, "PLACING_S", 2.0)
        held = place(ray, Copies(None, 1), {"CPU": 1}, "first")
        with pytest.raises(RunError, match=rf"waited 2 s for the place of {cpus} copies of m .*others use the rest"):
            place(ray, Copies(None, cpus), {"CPU": 1}, "m")
        ray.util.remove_placement_group(held)
        monkeypatch.setattr(ray_copies, "PLACING_S", 30.0)
        ray.util.remove_placement_group(place(ray, Copies(None, cpus), {"CPU": 1}, "m"))
