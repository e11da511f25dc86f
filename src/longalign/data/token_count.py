"""Lengths in tokens, by the tokenizer that training will use; fast, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.builtin import model_dir
from longalign.errors import ModelError
from longalign.run import fingerprint, fingerprint_path


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
            self._tokenizer = _from_hub(name if not folder.exists() else str(folder))
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
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{name}: no tokenizer found ({reason}); give --tokenizer DIR_OR_ID") from None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{name}: has no fast tokenizer (tokenizer.json); give another with --tokenizer DIR_OR_ID")
    return backend
