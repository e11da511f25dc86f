"""A local model's replies depend on the request alone, not on what shares its batch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from longalign.data.tokenize import sequence_of_row
from longalign.errors import ModelError
from longalign.llm.base import Failure, Reply, Request, complete_all
from longalign.llm.local import LocalModel
from longalign.llm.thoughts import clean
from tests.llm.conftest import make_model
from tests.makers.chat_templates import CHATML
from tests.makers.models import save_chat_model
from tests.makers.published import published_tokenizer


@pytest.fixture(scope="module")
def model(model_dir: Path) -> LocalModel:
    return LocalModel(str(model_dir), device="cpu")


def requests(count: int, **options: object) -> list[Request]:
    words = ("quick", "brown", "fox", "lazy", "dog", "document", "system", "what", "ask", "over")
    texts = [" ".join(words[(i + k) % len(words)] for k in range(5 + 9 * (i % 4))) for i in range(count)]
    return [
        Request(messages=({"role": "user", "content": text},), max_new_tokens=10, **options)  # type: ignore[arg-type]
        for text in texts
    ]


def test_batched_greedy_replies_equal_a_plain_loop_without_cache(model: LocalModel, model_dir: Path) -> None:
    asked = requests(4)
    plain = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager")
    for request, outcome in zip(asked, complete_all(model, asked), strict=True):
        ids = model.prompt_ids(request.messages)
        new: list[int] = []
        with torch.no_grad():
            while len(new) < request.max_new_tokens and not set(new) & set(model.stop_ids):
                new.append(int(plain(torch.tensor([ids + new])).logits[0, -1].argmax()))
        said = model.tokenizer.decode([i for i in new if i not in model.stop_ids], skip_special_tokens=True)
        assert outcome.text == clean(said)[0].strip()  # random weights also write control characters
        assert outcome.prompt_tokens == len(ids)
        assert outcome.completion_tokens == len(new)


def test_sampled_replies_depend_on_their_seed_and_not_on_the_batch(model: LocalModel) -> None:
    asked = [Request(messages=r.messages, max_new_tokens=8, temperature=1.0, seed=i) for i, r in enumerate(requests(6))]
    together = [outcome.text for outcome in complete_all(model, asked)]
    alone = [complete_all(model, [request])[0].text for request in asked]
    assert together == alone
    again = [Request(messages=asked[0].messages, max_new_tokens=8, temperature=1.0, seed=seed) for seed in range(6)]
    assert len({outcome.text for outcome in complete_all(model, again)}) > 1


def test_sampling_follows_the_softmax(model: LocalModel) -> None:
    (request,) = requests(1)
    ids = model.prompt_ids(request.messages)
    with torch.no_grad():
        expected_V = torch.softmax(model.model(torch.tensor([ids])).logits[0, -1].double(), -1)
    drawn = [
        Request(messages=request.messages, max_new_tokens=1, temperature=1.0, seed=seed, stop=()) for seed in range(600)
    ]
    first = torch.zeros_like(expected_V)
    for outcome in model._generate([ids] * len(drawn), drawn):
        first[outcome[0]] += 1 / len(drawn)
    likely = expected_V > 0.03
    assert likely.any()
    assert (first - expected_V)[likely].abs().max() < 5 * (0.25 / len(drawn)) ** 0.5


def test_the_end_of_turn_token_of_the_template_stops_a_reply(model: LocalModel) -> None:
    names = model.tokenizer.convert_ids_to_tokens(model.stop_ids)
    assert set(names) == {"<|im_end|>", "<|endoftext|>"}


def test_a_reply_that_reaches_the_cap_is_truncated_and_a_stop_string_ends_one(model: LocalModel) -> None:
    free = complete_all(model, requests(4))
    cut = next(outcome for outcome in free if isinstance(outcome, Failure))
    assert cut.kind == "truncated"
    position = free.index(cut)
    stop = cut.text[1:3]
    (stopped,) = complete_all(model, [requests(4, stop=(stop,))[position]])
    assert isinstance(stopped, Reply)
    assert stopped.text == cut.text[: cut.text.index(stop)].strip()


def test_batches_hold_at_most_batch_tokens_and_one_prompt_always_runs(model_dir: Path) -> None:
    model = LocalModel(str(model_dir), batch_tokens=200, device="cpu")
    asked = requests(9)
    prompts = [model.prompt_ids(request.messages) for request in asked]
    batches = list(model.batches(prompts, asked))
    assert sorted(index for batch in batches for index in batch) == list(range(9))
    for batch in batches:
        longest = max(len(prompts[i]) for i in batch) + 10
        assert len(batch) == 1 or longest * len(batch) <= 200


def test_a_model_without_chat_template_says_what_to_do(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "base", template=None)
    with pytest.raises(ModelError, match=r"no chat template.*--chat_template FILE"):
        LocalModel(str(folder), device="cpu")


def test_what_is_no_model_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot load the tokenizer") as error:
        LocalModel(str(tmp_path), device="cpu")
    assert "\n" not in str(error.value)


def test_the_name_follows_the_weights(model: LocalModel, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    other = LocalModel(str(folder), device="cpu")
    assert other.name == model.name
    with (folder / "config.json").open("a") as stream:
        stream.write(" ")
    assert LocalModel(str(folder), device="cpu").name != model.name


def test_sampling_stays_within_the_nucleus_and_keeps_its_shares(model: LocalModel) -> None:
    (request,) = requests(1)
    ids = model.prompt_ids(request.messages)
    with torch.no_grad():
        shares = torch.softmax(model.model(torch.tensor([ids])).logits[0, -1].double(), -1).tolist()
    kept: dict[int, float] = {}
    for token in sorted(range(len(shares)), key=lambda token: -shares[token]):
        if sum(kept.values()) < 0.5:
            kept[token] = shares[token]
    drawn = [
        Request(messages=request.messages, max_new_tokens=1, temperature=1.0, top_p=0.5, seed=n) for n in range(600)
    ]
    first = [new[0] for new in model._generate([ids] * len(drawn), drawn)]
    assert set(first) <= set(kept)
    token, share = next(iter(kept.items()))
    expected = share / sum(kept.values())
    assert abs(first.count(token) / len(first) - expected) < 5 * (0.25 / len(first)) ** 0.5


def test_extras_go_to_the_chat_template_or_are_refused(tmp_path: Path) -> None:
    template = CHATML + "{% if add_generation_prompt and enable_thinking %}<think>\n{% endif %}"
    model = LocalModel(str(make_model(tmp_path / "thinks", template=template)), device="cpu")
    (plain,) = requests(1)
    asked = replace(plain, chat_template_kwargs={"enable_thinking": True})
    thinking, direct = complete_all(model, [asked, plain])
    assert thinking.text == ""  # the prompt opened thoughts, and they did not end
    assert isinstance(thinking, Failure)
    assert thinking.kind in ("thinking_truncated", "only_thinking")
    assert thinking.reasoning
    assert direct.text
    assert (thinking.prompt_tokens or 0) > (direct.prompt_tokens or 0)
    for wrong, complaint in (
        ({"reasoning_effort": "low"}, "reasoning_effort: the chat template of .* knows nothing of that name"),
        ({"chat_template_kwargs": {"mood": "calm"}}, "mood: the chat template"),
        ({"extra_body": {"min_p": 0.1}}, "extra_body: .* runs in this process"),
    ):
        with pytest.raises(ModelError, match=complaint):
            complete_all(model, [replace(plain, **wrong)])


class Scripted(LocalModel):
    """Says what a test wants it to say, token by token as its tokenizer writes it."""

    script = ""

    def generate(self, prompts: list[list[int]], requests: list[Request], **more: Any) -> list[list[int]]:
        return [list(self.tokenizer(self.script, add_special_tokens=False)["input_ids"]) for _ in prompts]


@pytest.mark.slow
def test_a_published_thinking_model_answers_without_its_thoughts(tmp_path: Path) -> None:
    model = Scripted(str(save_chat_model(tmp_path / "qwen3", published_tokenizer("qwen3"))), device="cpu")
    asked = Request(messages=({"role": "user", "content": "When?"},), max_new_tokens=64)
    off = replace(asked, chat_template_kwargs={"enable_thinking": False})
    for script, request, expected in (
        ("<think>\nhm\n</think>\n\nIn 1648.<|im_end|>", asked, ("", "In 1648.", "hm")),
        ("<think>\nhm", asked, ("thinking_truncated", "", "hm")),
        ("<think>\nhm\n</think>\n\n<|im_end|>", asked, ("only_thinking", "", "hm")),
        ("In 1648.<|im_end|>", off, ("", "In 1648.", "")),
        ("<|im_end|>", off, ("empty", "", "")),
        ("In 16", off, ("truncated", "In 16", "")),
    ):
        model.script = script
        (outcome,) = complete_all(model, [request])
        assert (getattr(outcome, "kind", ""), outcome.text, outcome.reasoning) == expected
    assert model.tokenizer.decode(model.prompt_ids(off.messages, enable_thinking=False)).endswith("</think>\n\n")
    row = {
        "messages": [*asked.messages, {"role": "assistant", "reasoning_content": "It says so.", "content": "In 1648."}]
    }
    kept, stripped = (sequence_of_row(model.tokenizer, row, thinking=how) for how in ("keep", "strip"))
    assert "It says so." in model.tokenizer.decode(kept.ids_T[kept.target_T])
    assert "It says so." not in model.tokenizer.decode(stripped.ids_T)
