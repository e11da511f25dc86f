"""A common beginning is read once, and every reply is what it would be without that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from longalign.llm.base import Request, complete_all
from longalign.llm.local import LocalModel
from longalign.llm.prefix import LEAST_SHARE, LEAST_TOKENS, Family, can_share, families

WORDS = ("quick", "brown", "fox", "lazy", "dog", "document", "system", "what", "ask", "over")


def text(words: int, seed: int) -> str:
    return " ".join(WORDS[(seed + k * k) % len(WORDS)] for k in range(words))


def asked(document: str, questions: list[str], **options: Any) -> list[Request]:
    return [
        Request(messages=({"role": "user", "content": f"{document}\n\n{question}"},), max_new_tokens=12, **options)
        for question in questions
    ]


@pytest.fixture(scope="module", params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def forward_tokens(model: LocalModel) -> list[int]:
    """Fills up with the width of every forward pass."""
    seen: list[int] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(int(kwargs["input_ids"].numel()))

    model.model.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def test_replies_with_a_shared_beginning_equal_those_of_prompts_read_alone(model_dir: Path, dtype: str) -> None:
    long, other = text(700, 1), text(600, 5)
    requests = [
        *asked(long, ["what", "what does the fox say over the lazy dog", "ask"]),
        *asked(other, ["quick", "brown fox"]),
        *asked("short", ["what"]),
    ]
    alone = LocalModel(str(model_dir), device="cpu", dtype=dtype, share_prefixes=False)
    together = LocalModel(str(model_dir), device="cpu", dtype=dtype)
    plain, sharing = forward_tokens(alone), forward_tokens(together)
    wanted = [complete_all(alone, [request])[0] for request in requests]
    assert len({outcome.text for outcome in wanted}) > 1
    got = complete_all(together, requests)
    assert [outcome.text for outcome in got] == [outcome.text for outcome in wanted]
    assert [outcome.prompt_tokens for outcome in got] == [outcome.prompt_tokens for outcome in wanted]
    assert sum(sharing) < 0.6 * sum(plain)


def test_batches_behind_a_shared_beginning_keep_to_batch_tokens(model_dir: Path) -> None:
    requests = asked(text(700, 1), [text(3 + n, n) for n in range(5)])
    wide = complete_all(LocalModel(str(model_dir), device="cpu"), requests)
    narrow_model = LocalModel(str(model_dir), device="cpu", batch_tokens=100)
    rows: set[int] = set()
    narrow_model.model.register_forward_pre_hook(
        lambda _module, _args, given: rows.add(len(given["input_ids"])), with_kwargs=True
    )
    assert [o.text for o in complete_all(narrow_model, requests)] == [o.text for o in wide]
    assert rows == {1}


def test_sampled_replies_keep_to_their_seed(model_dir: Path) -> None:
    document = text(700, 1)
    requests = [
        request for seed in range(4) for request in asked(document, ["what"], temperature=1.0, seed=seed)
    ]  # the same prompt four times: all but its last token is shared
    together = complete_all(LocalModel(str(model_dir), device="cpu"), requests)
    alone = complete_all(LocalModel(str(model_dir), device="cpu", share_prefixes=False), requests)
    assert [o.text for o in together] == [o.text for o in alone]
    assert len({o.text for o in together}) > 1


def test_models_with_sliding_windows_read_each_prompt_alone() -> None:
    shape: dict[str, Any] = {
        "vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2,
    }  # fmt: skip
    assert can_share(LlamaForCausalLM(LlamaConfig(**shape)))
    assert not can_share(MistralForCausalLM(MistralConfig(**shape, sliding_window=8)))


prompts = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1200), st.lists(st.integers(3, 5), min_size=1, max_size=600)),
    max_size=7,
)


@given(prompts, st.lists(st.integers(0, 1), min_size=7, max_size=7))
def test_a_family_shares_what_its_members_have_in_common_and_no_more(
    made: list[tuple[int, int, list[int]]], kinds: list[int]
) -> None:
    ids = [[word] * beginning + rest for word, beginning, rest in made]
    found = families(ids, kinds[: len(ids)])
    members = [member for family in found for member in family.members]
    assert len(members) == len(set(members))
    for family in found:
        assert len(family.members) > 1
        assert len({kinds[member] for member in family.members}) == 1
        assert len({tuple(ids[member][: family.tokens]) for member in family.members}) == 1
        longest = max(len(ids[member]) for member in family.members)
        assert family.tokens >= max(LEAST_TOKENS, LEAST_SHARE * longest)
        assert all(len(ids[member]) > family.tokens for member in family.members)


def test_questions_about_two_documents_are_two_families() -> None:
    a, b = [1] * 1000, [2] * 2000
    ids = [[*a, 7], [*b, 8, 9], [*a, 8, 8], [*b, 7], [3] * 3000]
    assert families(ids, [0] * 5) == [Family(1000, (0, 2)), Family(2000, (3, 1))]
    assert families(ids, [0, 0, 1, 0, 0]) == [Family(2000, (3, 1))]
