"""A real model directory whose model says what it is told to: rows can be built with it in seconds, on any engine.

The chat template ends a prompt with one of a few marks, by what the prompt asks for; after a mark comes one sentence
token, after that the end of the turn. The weights are a plain Llama's, in which only the last token decides the next.
"""

from __future__ import annotations

from pathlib import Path

from tests.makers.models import save_model
from tests.makers.text import prose
from tests.makers.tokenizers import byte_bpe, with_template

QUESTIONS = "\n".join(
    f"{number}: {text}"
    for number, text in enumerate(
        (
            "What do the notes say about the northern wall?",
            "Who wrote down the measurements of the harbour?",
            "When was the second gate repaired?",
            "Why did the council change its plan?",
            "How many stones were needed in all?",
        ),
        1,
    )
)
ANSWERS = tuple(
    f"It was repaired in that year by a scholar of the {place}, as a volume of the archive records."
    for place in ("capital", "monastery", "peninsula")
)
"""In the words of `tests.makers.text.prose`."""
VERDICT = "supported: yes\ncomplete: yes\ncorrect: yes"
CONTROL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|ask|>", "<|check|>", *(f"<|answer{i}|>" for i in range(3))]
TEMPLATE = """{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% set said = messages[-1]['content'] %}{% if 'Number them' in said %}<|ask|>{% elif 'supported:' in said %}<|check|>\
{% else %}<|answer{{ said|length % 3 }}|>{% endif %}{% endif %}"""


def save_scripted_model(folder: Path, *, layers: int = 2, window: int = 8192) -> Path:
    """Questions, three answers and a verdict, in English."""
    import torch
    from tokenizers import AddedToken
    from transformers import AutoModelForCausalLM

    after = {"<|ask|>": QUESTIONS, "<|check|>": VERDICT}
    after |= {f"<|answer{number}|>": text for number, text in enumerate(ANSWERS)}
    core = byte_bpe([prose(0, 40)], vocabulary=600, control=CONTROL)
    core.add_tokens([AddedToken(text, normalized=False) for text in after.values()])
    tokenizer = with_template(core, TEMPLATE, pad_token="<|pad|>", eos_token="<|im_end|>")
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": layers}  # heads that vLLM's CPU knows
    save_model(folder, tokenizer, None, max_position_embeddings=window, **shape, **ends)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    follows = {**after, **dict.fromkeys(after.values(), "<|im_end|>")}
    embedding_VD, head_VD = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for layer in model.model.layers:  # nothing of other positions is added
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        head_VD.zero_()
        for before, then in follows.items():
            head_VD[tokenizer.convert_tokens_to_ids(then)] += embedding_VD[tokenizer.convert_tokens_to_ids(before)]
    model.save_pretrained(folder)
    return folder
