"""The tokenizer that a training stage reads conversations with."""

from __future__ import annotations

from pathlib import Path

from longalign.config import TrainSettings
from longalign.data.chat_template import read_chat_template
from longalign.run import atomic_path
from longalign.train import ranks
from longalign.train.model import load_tokenizer


def tokenizer_folder(source: str, settings: TrainSettings, folder: Path) -> str:
    """Where it is: `source`, or a copy of it in `folder` that has the settings' chat template. Every rank calls it."""
    if settings.chat_template is None:
        return source
    if ranks.is_first():
        tokenizer = load_tokenizer(source)
        tokenizer.chat_template = read_chat_template(settings.chat_template)
        with atomic_path(folder) as temporary:
            tokenizer.save_pretrained(temporary)
    ranks.barrier()
    return str(folder)
