"""Tiny tokenizers and models with random weights, made and saved as people save theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def byte_bpe(texts: Sequence[str], *, vocabulary: int, control: Sequence[str] = ()) -> Any:
    """A byte-level BPE of the `tokenizers` library, trained on `texts`; `control` tokens get the first ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(control),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return core


def save_llama(folder: Path, tokenizer: Any, **fields: Any) -> Path:
    """A Llama of width 32 for a transformers tokenizer, both saved in `folder`; `fields` of its config as given."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**(shape | fields))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
