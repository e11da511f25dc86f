"""Tokenizers: opening one, counting tokens fast (without torch), and chat templates for tokenizers that have none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import fingerprint, fingerprint_path
from longalign.base.sources import missing, model_dir
from longalign.errors import ConfigError, ModelError, first_line


class TokenCounter:
    """Counts tokens of plain text: no special tokens, no chat template."""

    def __init__(self, name: str) -> None:
        """`name`: model directory, hub id or `builtin:` name. Raises `ModelError` when it has no fast tokenizer."""
        self.name = name
        folder = Path(model_dir(name))
        file = folder / "tokenizer.json"
        self._tokenizer: Any
        if file.is_file():
            from tokenizers import Tokenizer

            self._tokenizer = Tokenizer.from_file(str(file))
            self.fingerprint = fingerprint_path(file)
        else:
            self._tokenizer = _from_hub(name)
            self.fingerprint = fingerprint(self._tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text."""
        return [len(item) for item in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def ends(self, text: str) -> NDArray[np.int64]:
        """Character offset behind each token of a text, ascending."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array([end for _, end in encoding.offsets], dtype=np.int64)


def _from_hub(name: str) -> Any:
    backend = getattr(open_tokenizer(name), "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{name}: has no fast tokenizer (tokenizer.json); give another with --tokenizer DIR_OR_ID")
    return backend


def open_tokenizer(name: str | Path, *, trust_remote_code: bool = False, ends_text: bool = False) -> Any:
    """The transformers tokenizer of a model directory, hub id or `builtin:` name.

    Raises `ModelError` when it cannot be loaded, or when `ends_text` is asked for and it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    place = Path(model_dir(str(name).removeprefix("hf:"))).expanduser()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(place) if place.exists() else str(name), trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        if not place.exists():
            raise ModelError(f"tokenizer: {missing(str(name).removeprefix('hf:'))}") from error
        raise ModelError(
            f"{name}: cannot load the tokenizer ({first_line(error)}); give a DIR_OR_ID that has one"
        ) from error
    if ends_text and tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: the tokenizer has no end-of-sequence token; set `eos_token` in its config")
    return tokenizer


def save_with_template(name: str, template: str, folder: str | Path) -> None:
    """Save a copy of a tokenizer in `folder` that has the chat template of a file. Raises as both readers do."""
    tokenizer = open_tokenizer(name, ends_text=True)
    tokenizer.chat_template = read_chat_template(template)
    tokenizer.save_pretrained(folder)


def read_chat_template(path: str) -> str:
    """The Jinja text of a template file. Raises `ConfigError` when it cannot be read or is empty."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"chat_template: {path} cannot be read ({error}); see recipes/templates/") from None
    if not text.strip():
        raise ConfigError(f"chat_template: {path} is empty")
    return text
