"""The shipped chat templates train answers and their end, and nothing else; a base model without one can use them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from longalign.base.tokenizers import read_chat_template
from longalign.config import EvalSettings, NeedleSettings, TrainSettings
from longalign.data.tokenize import tokenize_conversation
from longalign.errors import ConfigError, ModelError
from longalign.eval.subject import model_fingerprint
from longalign.llm.base import Request, complete_all
from longalign.llm.open import open_model
from longalign.train.sft import train
from tests.makers.models import make_model
from tests.makers.rows import make_rows
from tests.makers.tokenizers import chat_tokenizer

TEMPLATES = Path(__file__).parents[2] / "recipes" / "templates"
END = {"llama2": "</s>", "llama3": "<|eot_id|>", "glm4": "<|endoftext|>"}
TALK = [
    {"role": "user", "content": "Which value does it give?"},
    {"role": "assistant", "content": "It is forty two."},
    {"role": "user", "content": "第二章讲了什么？\n\nIn short."},
    {"role": "assistant", "content": "Seven values."},
]


@pytest.mark.parametrize("name", END)
def test_targets_are_the_answers_and_their_end(name: str) -> None:
    eos = "<|endoftext|>" if name == "glm4" else "</s>" if name == "llama2" else "<|end_of_text|>"
    tok = chat_tokenizer(read_chat_template(str(TEMPLATES / f"{name}.jinja")), eos=eos, bos="<s>")
    sequence = tokenize_conversation(tok, TALK)
    starts = np.flatnonzero(np.diff(sequence.target_T.astype(int), prepend=0) == 1)
    ends = np.flatnonzero(np.diff(sequence.target_T.astype(int), append=0) == -1)
    said = [tok.decode(sequence.ids_T[a : b + 1]) for a, b in zip(starts, ends, strict=True)]
    assert said == [f"It is forty two.{END[name]}", f"Seven values.{END[name]}"]
    asked = tok.apply_chat_template(TALK[:3], tokenize=False, add_generation_prompt=True)
    assert tok.apply_chat_template(TALK, tokenize=False).startswith(asked)


def test_a_model_without_a_template_trains_and_answers_with_one_from_a_file(tmp_path: Path) -> None:
    model, rows = make_model(tmp_path / "model"), make_rows(tmp_path / "rows.jsonl", 6)
    (model / "chat_template.jinja").unlink()
    template = str(TEMPLATES / "glm4.jinja")
    asked = TrainSettings(model=str(model), data={str(rows): None}, window=96, num_train_epochs=1, max_steps=1)
    with pytest.raises(ModelError, match="--chat_template FILE"):
        train(asked, tmp_path / "without")
    train(asked.model_copy(update={"chat_template": template}), tmp_path / "with")
    trained = AutoTokenizer.from_pretrained(tmp_path / "with" / "final")
    assert trained.chat_template == read_chat_template(template)

    with pytest.raises(ModelError, match="no chat template"):
        open_model(str(model), device="cpu")
    base = open_model(str(model), device="cpu", chat_template=read_chat_template(template))
    [reply] = complete_all(base, [Request(messages=TALK[:1], max_new_tokens=2)])
    assert reply.completion_tokens in (1, 2)


def test_another_template_is_another_subject(tmp_path: Path) -> None:
    plain = EvalSettings(model="a/b", needle=NeedleSettings())
    first, second = (
        plain.model_copy(update={"chat_template": str(TEMPLATES / f"{n}.jinja")}) for n in ("llama2", "glm4")
    )
    assert len({model_fingerprint(settings) for settings in (plain, first, second)}) == 3
    assert json.loads(first.model_dump_json())["chat_template"].endswith("llama2.jinja")


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jinja").write_text("\n")
    for name, words in (("none.jinja", "cannot be read"), ("empty.jinja", "is empty")):
        with pytest.raises(ConfigError, match=words):
            read_chat_template(str(tmp_path / name))
