"""Small tokenizers, trained on the texts that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONTROL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<s>", "</s>", "[INST]", "[/INST]", "<bos>", "<start_of_turn>", "<end_of_turn>", "[gMASK]", "<sop>",
    "<|user|>", "<|assistant|>", "<|system|>",
)  # fmt: skip
"""The control tokens of every template in `tests.makers.chat_templates` that a known model uses."""

_TEXT = [
    "The register gives seven values for the northern gate.", "Which value does it give? It is forty two.",
    "Summarise the second chapter, then answer in Chinese: 第二章讲了什么？", "assistant user system model think",
]  # fmt: skip


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


def whole_words(texts: Sequence[str], *, control: Sequence[str], stops_apart: bool = True) -> Any:
    """One token a word, `<unk>` for others; full stops are tokens of their own or glued to the word before them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    core = Tokenizer(models.WordLevel(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer() if stops_apart else pre_tokenizers.WhitespaceSplit()
    core.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=list(control), vocab_size=600))
    return core


def unigram(texts: Sequence[str], *, vocabulary: int, control: Sequence[str]) -> Any:
    """A unigram model with a space in front of words, as SentencePiece makes it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(special_tokens=list(control), vocab_size=vocabulary, unk_token="<unk>")
    core.train_from_iterator(texts, trainer)
    return core


def with_template(core: Any, template: str | None, **special_tokens: Any) -> Any:
    """`core` as transformers' tokenizer, with a chat template; `special_tokens` such as `eos_token`."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=core, **special_tokens)
    made.chat_template = template
    return made


def chat_tokenizer(
    template: str, *, eos: str = "<|endoftext|>", bos: str | None = None, control: Sequence[str] = ()
) -> Any:
    """Byte-level BPE trained on a few sentences, with `template` and the control tokens of every known model's.

    `control`: more of them.
    """
    every = list(dict.fromkeys((*CONTROL, *control)))
    core = byte_bpe(_TEXT * 4, vocabulary=420 + len(every) - len(CONTROL), control=every)
    return with_template(core, template, eos_token=eos, pad_token=eos, bos_token=bos)
