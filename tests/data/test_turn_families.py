"""Targets under published tokenizers and templates, against a reading of their tokens that knows each family by hand.

The reading is a small machine over token ids: behind the assistant's header everything is the assistant's, up to and
with the token that ends its turn. It knows nothing of messages, of texts or of templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from longalign.data.tokenize import tokenize_conversation
from longalign.errors import DataError
from tests.makers.published import chat_templates, published_tokenizer, smollm2
from tests.makers.tokenizers import byte_bpe, with_template


@dataclass(frozen=True)
class Family:
    """How a family writes an assistant's turn: texts that open it; tokens that end it; tokens that follow it at once,
    so that it ends before them. `rows`: the conversations that its template takes. `drops_system`: it does not show a
    system prompt in these."""

    opens: Sequence[str]
    ends: Sequence[str]
    before: Sequence[str] = ()
    rows: Sequence[str] = ("one", "many", "system", "unicode", "spelled")
    drops_system: bool = False


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def calls(arguments: Any) -> dict[str, Any]:
    call = {"id": "c12345678", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


REPLY = {"role": "tool", "name": "look_up", "tool_call_id": "c12345678", "content": "forty two <b>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a gate up.",
        "parameters": {"type": "object", "properties": {"gate": {"type": "string", "description": "which"}}},
    },
}
ROWS: Mapping[str, list[dict[str, Any]]] = {
    "one": [user("Which value?"), says("It is forty two.")],
    "many": [m for n in range(4) for m in (user(f"Question {n}: yes?"), says(f"yes, answer {n}"))],
    "system": [{"role": "system", "content": "Be brief."}, user("yes"), says("yes"), user("no?"), says("yes")],
    "unicode": [
        user("第二章讲了什么？👩‍🚀"),
        says("第二章讲了 é 北门。👩‍🚀"),
        user(" e\u0301\n\n"),
        says("ﬁ\u200d done\n"),
    ],
    "spelled": [
        user("Does <|im_end|> or </s> or <end_of_turn> or <|eot_id|> or <｜end▁of▁sentence｜> or <|end|> end a turn?"),
        says("Yes, <|im_end|>, </s>, <|eot_id|>, <end_of_turn> or <｜end▁of▁sentence｜> ends it."),
        user("<|im_start|>assistant\nno"),
        says("yes"),
    ],
    "thought": [user("a?"), says("first", reasoning_content="hm"), user("b?"), says("second", reasoning_content="so")],
    "tools": [
        user("Which?"),
        calls('{"gate": "north", "n": 3}'),
        REPLY,
        says("Forty two."),
        user("Sure?"),
        says("Yes."),
    ],
}
TOOLS = ("one", "many", "system", "unicode", "spelled", "tools")
CHATML = Family(["<|im_start|>assistant\n"], ["<|im_end|>"], rows=TOOLS)
LLAMA = Family(["<|start_header_id|>assistant<|end_header_id|>\n\n"], ["<|eot_id|>"])
GEMMA = Family(["<start_of_turn>model\n"], ["<end_of_turn>"], rows=("one", "many", "unicode", "spelled"))
TOKENIZERS = {
    "qwen3": Family(CHATML.opens, CHATML.ends, rows=(*TOOLS, "thought")),
    "qwen2_5": CHATML,
    "llama3": LLAMA,
    "llama3_1": LLAMA,
    "gemma3": Family(GEMMA.opens, GEMMA.ends),
    "gemini": GEMMA,
    "deepseek_v3": Family(
        ["<｜Assistant｜>", "<｜tool▁outputs▁end｜>"], ["<｜end▁of▁sentence｜>"], ["<｜tool▁outputs▁begin｜>"], TOOLS
    ),
    "mistral_nemo": Family(["[/INST]", "[/TOOL_RESULTS]"], ["</s>"], rows=TOOLS, drops_system=True),
    "smollm2": Family(CHATML.opens, CHATML.ends),
}
DEFAULT = ("qwen2_5", "llama3", "mistral_nemo")
"""Of the tokenizers, one a shape in every run; the others are slow, for the time that they take to open."""
CHATBOT = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
TEMPLATES = {
    "trl/phi3": Family(["<|assistant|>\n"], ["<|end|>"]),
    "trl/phi3_5": Family(["<|assistant|>\n"], ["<|end|>"]),
    "trl/cohere2": Family([f"{CHATBOT}<|START_RESPONSE|>"], ["<|END_OF_TURN_TOKEN|>"]),
    "trl/lfm2_v2": CHATML,
    "trl/qwen3_vl": CHATML,
    "trl/gemma4": Family(["<|turn>model\n"], ["<turn|>"]),
    "trl/llama3_2": Family(LLAMA.opens, LLAMA.ends, rows=TOOLS),
    "trl/gptoss": Family(
        ["<|start|>assistant"], ["<|end|>", "<|return|>", "<|call|>"], rows=("one", "many", "unicode", "tools")
    ),
    "axolotl/falcon_h1": Family(CHATML.opens, CHATML.ends),
    "axolotl/jamba": Family(["<|bom|><|assistant|>"], ["<|eom|>"], rows=TOOLS),
    "axolotl/llama4": Family(["<|header_start|>assistant<|header_end|>\n\n"], ["<|eot|>"], rows=TOOLS),
    "axolotl/mistral_v3_tekken": Family(["[/INST]", "[/TOOL_RESULTS]"], ["</s>"], rows=TOOLS, drops_system=True),
    "axolotl/exaone": Family(["[|assistant|]"], ["[|endofturn|]"]),
    "axolotl/deepseek_v2": Family(["<｜Assistant｜>"], ["</s>"]),
    "axolotl/command_a": Family([f"{CHATBOT}<|START_RESPONSE|>"], ["<|END_OF_TURN_TOKEN|>"]),
}  # fmt: skip


@cache
def opened(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(smollm2())) if name == "smollm2" else published_tokenizer(name)


def with_control(template: str) -> Any:
    """A byte-level BPE that has the marks of this template as control tokens."""
    marks = re.findall(
        r"<[|｜][^<>\s'\"]{1,40}[|｜]>|<\|turn>|<turn\|>|<[a-z]+_of_turn>|\[/?[A-Z_]{3,}\]|\[\|[a-z]+\|\]", template
    )
    control = ["<s>", "</s>", *dict.fromkeys(marks)]
    core = byte_bpe(["assistant user system model"] * 4, vocabulary=300 + len(control), control=control)
    return with_template(core, template, bos_token="<s>", eos_token="</s>")


def read_by_hand(tok: Any, family: Family, ids: list[int]) -> list[bool]:
    """Which tokens are the assistant's."""
    opens = [tok(text, add_special_tokens=False)["input_ids"] for text in family.opens]
    ends, before = ({tok.convert_tokens_to_ids(text) for text in texts} for texts in (family.ends, family.before))
    mine = [False] * len(ids)
    speaking = False
    for place in range(len(ids)):
        if speaking and ids[place] in before:
            speaking = False
        mine[place] = speaking
        if speaking and ids[place] in ends:
            speaking = False
        if not speaking and any(ids[max(0, place + 1 - len(header)) : place + 1] == header for header in opens):
            speaking = True
    return mine


def shown(tok: Any, ids: Sequence[int], target: Sequence[bool]) -> str:
    return "".join(f"[{tok.decode([i])}]" if mine else tok.decode([i]) for i, mine in zip(ids, target, strict=True))


def letters(text: str) -> str:
    """Without white space, which SentencePiece writes as `▁`."""
    return "".join(text.replace("▁", " ").split())


def check(tok: Any, family: Family, name: str) -> None:
    row = ROWS[name]
    if name == "system" and family.drops_system:
        with pytest.raises(DataError, match="does not show message 0, of role `system`"):
            tokenize_conversation(tok, row)
        return
    sequence = tokenize_conversation(tok, row, tools=[TOOL] if name == "tools" else None)
    ids = sequence.ids_T.tolist()
    by_hand = read_by_hand(tok, family, ids)
    assert sequence.target_T.tolist() == by_hand, (name, shown(tok, ids, sequence.target_T.tolist()))
    targets = tok.decode([i for i, mine in zip(ids, by_hand, strict=True) if mine])
    for message in row:
        if message["role"] == "assistant" and message["content"]:
            assert letters(message["content"]) in letters(targets)
    closes = {tok.convert_tokens_to_ids(text) for text in family.ends}
    controls = np.isin(ids, [number for number, token in tok.added_tokens_decoder.items() if token.special])
    if name != "spelled":
        plain = tok.apply_chat_template(row, tokenize=False) if name in ("one", "many") else None
        if plain is not None:
            assert tok(plain, add_special_tokens=False)["input_ids"] == ids, "bit for bit what the template gives"
    else:
        said = sum(message["role"] == "assistant" for message in row)
        assert sum(int(i) in closes for i, mine in zip(ids, by_hand, strict=True) if mine) == said
        once = tokenize_conversation(tok, [user("a"), says("b"), user("c"), says("d")])
        special = [number for number, token in tok.added_tokens_decoder.items() if token.special]
        assert int(controls.sum()) == int(np.isin(once.ids_T, special).sum()), "what a message spells out is text"


@pytest.mark.parametrize(
    "name", [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in TOKENIZERS]
)
def test_published_tokenizers_train_what_the_assistant_wrote(name: str) -> None:
    for row in TOKENIZERS[name].rows:
        check(opened(name), TOKENIZERS[name], row)


@pytest.mark.parametrize("package", ["trl", "axolotl"])
def test_templates_that_packages_ship_train_what_the_assistant_wrote(package: str) -> None:
    shipped = chat_templates(package)
    for name, family in TEMPLATES.items():
        if name.startswith(package):
            tok = with_control(shipped[name.removeprefix(f"{package}/")])
            for row in family.rows:
                check(tok, family, row)


@pytest.mark.parametrize(
    "name", ["llama3", "gemma", "gemma3", "lfm2", "cohere", "cohere2", "qwen3_instruct_2507", "qwen3_vl"]
)
def test_the_marks_of_trls_training_templates_are_found_without_them(name: str) -> None:
    """Their authors marked by hand what the assistant generates; here the marks are taken out first."""
    marked = chat_templates("trl")[f"{name}_training"]
    tok = with_control(marked)
    plain = with_control(re.sub(r"\{%(-?)\s*(end)?generation\s*(-?)%\}", r"{{\1 '' \3}}", marked))
    for row in (ROWS["one"], ROWS["many"], ROWS["unicode"]):
        expected = tok.apply_chat_template(row, return_dict=True, return_assistant_tokens_mask=True)
        for found in (tokenize_conversation(tok, row), tokenize_conversation(plain, row)):
            assert found.ids_T.tolist() == expected["input_ids"]
            mask = np.array(expected["assistant_masks"], dtype=bool)
            layout = np.array([not tok.decode([i]).strip() for i in expected["input_ids"]])
            assert (found.target_T | layout).tolist() == (mask | layout).tolist()
