"""From random weights to a server: commands in processes of their own, then the exports in other people's programs.

`benchmarks/end_to_end.py` walks the same path with millions of parameters and rows of 8k-16k tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.end_to_end import Size, plain, train_all

from longalign.base.files import read_jsonl
from longalign.config import EvalSettings, NeedleSettings
from longalign.eval.ask import ask
from longalign.eval.evaluate import evaluate
from longalign.llm.base import Request, complete_all
from longalign.llm.open import open_model
from tests.makers.serve import served_by_transformers
from tests.micro import longalign

pytestmark = pytest.mark.slow

SMALL = Size(
    hidden=64, layers=1, trained_window=128, window=1024, documents=14, extend_steps=4, train_steps=12,
    short_rows_a_step=3, save_steps=1, heldout_long=1, heldout_short=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walked")


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    """A Llama: of a Qwen3 `transformers serve` expects the Qwen template, and the demo's tokenizer has another."""
    return train_all("llama", SMALL, place)


@pytest.fixture(scope="module")
def served(found: dict[str, Any], place: Path) -> Iterator[str]:
    """`transformers serve` on the fully trained export, as a model of `longalign`."""
    with served_by_transformers(place / "full" / "final") as name:
        yield name


@pytest.mark.parametrize("way", ["full", "lora"])
def test_training_lowers_the_loss_on_held_out_rows_long_and_short(found: dict[str, Any], way: str) -> None:
    before, after = found[way]["heldout_before"], found[way]["heldout_after"]
    assert set(before) == {"long", "short"}
    assert all(after[source] < before[source] for source in before)


def test_a_killed_run_goes_on_from_its_checkpoint(found: dict[str, Any]) -> None:
    assert 1 <= found["full"]["resumed_at_step"] <= found["full"]["killed_after_step"] < found["full"]["steps"]


def test_plain_transformers_finds_the_same_loss_in_the_merged_export(found: dict[str, Any], place: Path) -> None:
    there = plain(place / "lora" / "final", place / "inputs" / "heldout_long.jsonl")
    assert there["loss"] == pytest.approx(found["lora"]["heldout_after"]["long"], rel=1e-5)
    assert there["class"] == "LlamaForCausalLM"
    assert there["window"] == SMALL.window
    assert not there["longalign_imported"]


def test_a_served_export_and_the_same_export_here_give_the_same_replies(served: str, place: Path) -> None:
    rows = read_jsonl(place / "inputs" / "heldout_short.jsonl")
    requests = [Request(messages=tuple(row["messages"][:1]), max_new_tokens=12) for row in rows]
    there = complete_all(open_model(served, concurrency=1), requests)
    here = complete_all(open_model(str(place / "full" / "final"), device="cpu"), requests)
    for remote, local in zip(there, here, strict=True):
        assert remote.text.strip() == local.text
        assert remote.prompt_tokens == local.prompt_tokens
        assert type(remote) is type(local)


def test_a_served_export_is_asked_and_evaluated_like_a_local_one(served: str, place: Path) -> None:
    model, document = str(place / "full" / "final"), place / "inputs" / "documents" / "0.txt"
    asked = longalign("ask", "what is said?", "--document", document, "--model", served, "--max-new-tokens", "8")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip() == ask(model, document, "what is said?", max_new_tokens=8)["answer"]

    lengths = ["--lengths", "128,512", "--depths", "2", "--max_new_tokens", "8", "--tokenizer", model]
    done = longalign("eval", "needle", "--model", served, *lengths, "--concurrency", "1", "--out", place / "served")
    assert done.returncode == 0, done.stderr
    wanted = NeedleSettings(lengths=(128, 512), depths=2, max_new_tokens=8)
    evaluate(EvalSettings(model=model, needle=wanted, batch_tokens=1), place / "local")
    remote, local = (
        {row["key"]: row["text"] for row in read_jsonl(place / side / "answers.jsonl")} for side in ("served", "local")
    )
    assert len(local) == 4
    assert remote == local
