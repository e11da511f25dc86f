"""SmolLM2-135M-Instruct, a model that other people made, through every kind of training and into other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.end_to_end import longalign

from longalign.llm.base import Request, complete_all
from longalign.llm.open import open_model
from tests.makers.published import smollm2
from tests.makers.serve import served_by_transformers

pytestmark = pytest.mark.slow

ROWS = [
    {"messages": [
        {"role": "user", "content": "Name the capital of France."},
        {"role": "assistant", "content": "Paris is the capital of France."},
        {"role": "user", "content": "And of Italy?"},
        {"role": "assistant", "content": "Rome."},
    ]},
    {"messages": [{"role": "user", "content": "怎么说 thank you?"}, {"role": "assistant", "content": "谢谢。"}]},
]  # fmt: skip
EXTENDED = 16384
STEPS = ("--max-steps", 1, "--sequences-per-step", 2, "--num_train_epochs", 1, "--warmup_ratio", 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (folder / "text").mkdir()
    (folder / "text" / "one.txt").write_text("A long walk along the northern wall. " * 8, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> dict[str, dict[str, Any]]:
    """Extended to twice its window; then all of its weights, and adapters, fine-tuned."""
    found = {}
    rope = ("--rope", "{base_factor: 2}", "--window", EXTENDED)
    found["extended"], _ = longalign(
        "extend", "--model", smollm2(), "--text", place / "text", *rope, *STEPS, out=place / "extended"
    )
    sft = ("train", "--model", place / "extended" / "final", "--data", place / "rows.jsonl", "--window", 1024, *STEPS)
    found["full"], _ = longalign(*sft, "--learning_rate", 1e-4, out=place / "full")
    adapters = ("--lora_rank", 16, "--lora_modules_to_save", "[embed_tokens, norm]")
    found["lora"], _ = longalign(*sft, *adapters, "--learning_rate", 1e-3, out=place / "lora")
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(smollm2()))


def plain_loss(model: Any, tokenizer: Any) -> float:
    """Mean over the tokens that ChatML gives to the assistant: after its header, up to and with `<|im_end|>`."""
    losses = torch.cat([plain_losses(model.float().eval(), tokenizer, row["messages"]) for row in ROWS])
    return float(losses.mean())


def plain_losses(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> torch.Tensor:
    ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
    header = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    labels, inside = [-100] * len(ids), False
    for place, token in enumerate(ids):
        if inside:
            labels[place] = token
            inside = token != end
        elif ids[place + 1 - len(header) : place + 1] == header:
            inside = True
    with torch.inference_mode():
        logits_TV = model(torch.tensor([ids])).logits[0]
        nll_T = torch.nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(labels[1:]), reduction="none")
    return nll_T[torch.tensor(labels[1:]) >= 0]


@pytest.mark.parametrize("way", ["full", "lora"])
def test_plain_transformers_finds_a_lower_loss_in_the_export_of_the_extended_model(
    trained: dict[str, dict[str, Any]], place: Path, tokenizer: Any, way: str
) -> None:
    from transformers import AutoModelForCausalLM

    losses = {}
    for name in ("extended", way):
        model = AutoModelForCausalLM.from_pretrained(place / name / "final")
        assert model.config.max_position_embeddings == EXTENDED
        assert model.dtype == torch.bfloat16
        assert model.lm_head.weight is model.model.embed_tokens.weight
        losses[name] = plain_loss(model, tokenizer)
    assert losses[way] < losses["extended"] - 0.1
    check = trained[way]["export"]
    assert check["holds"]
    assert check["unrounded_difference"] < 1e-4
    assert check["loss_exported"] == pytest.approx(losses[way], abs=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_plain_peft_finds_the_loss_of_the_adapters_that_trained(
    trained: dict[str, dict[str, Any]], place: Path, tokenizer: Any
) -> None:
    from transformers import AutoModelForCausalLM

    peft = pytest.importorskip("peft", reason="the extra `lora` is not installed")
    base = AutoModelForCausalLM.from_pretrained(place / "extended" / "final", dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(base, place / "lora" / "adapter")
    assert plain_loss(adapted, tokenizer) == pytest.approx(trained["lora"]["export"]["loss_trained"], abs=1e-4)


def test_transformers_serves_the_merged_export_with_the_replies_it_gives_here(
    trained: dict[str, dict[str, Any]], place: Path
) -> None:
    requests = [Request(messages=tuple(row["messages"][:1]), max_new_tokens=8) for row in ROWS]
    final = place / "lora" / "final"
    with served_by_transformers(final) as name:
        there = complete_all(open_model(name, concurrency=1), requests)
    here = complete_all(open_model(str(final), device="cpu"), requests)
    assert [reply.text.strip() for reply in there] == [reply.text.strip() for reply in here]
    assert all(reply.text.strip() for reply in here)
