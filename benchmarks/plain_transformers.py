"""An export in plain transformers: loss on rows and one answer. Imports nothing of LongAlign, and says so.

python benchmarks/plain_transformers.py MODEL_DIR ROWS.jsonl     prints one JSON object
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def loss_of(model, tokenizer, messages: list[dict[str, str]]) -> float:
    """Mean negative log-likelihood over the assistant's tokens, nats."""
    encoded = tokenizer.apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True, return_tensors="pt"
    )
    labels_1T = encoded["input_ids"].masked_fill(encoded["assistant_masks"] == 0, -100)
    return float(model(encoded["input_ids"], labels=labels_1T).loss)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    folder, file = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    chats = [json.loads(line)["messages"] for line in Path(file).read_text(encoding="utf-8").splitlines()]
    prompt = tokenizer.apply_chat_template(
        chats[0][:1], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    reply_1T = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    prompt_tokens = prompt["input_ids"].shape[1]
    found = {
        "class": type(model).__name__,
        "window": model.config.max_position_embeddings,
        "loss": sum(loss_of(model, tokenizer, chat) for chat in chats) / len(chats),
        "prompt_tokens": prompt_tokens,
        "new_tokens": reply_1T.shape[1] - prompt_tokens,
        "answer": tokenizer.decode(reply_1T[0, prompt_tokens:], skip_special_tokens=True),
        "longalign_imported": "longalign" in sys.modules,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
