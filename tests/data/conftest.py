"""Documents to build rows from, and a tokenizer to count them with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.makers.text import prose
from tests.makers.tokenizers import byte_bpe


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_bpe([prose(0, 40), prose(1, 40, "zh")], vocabulary=900).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    """Twelve English documents and four Chinese ones of about 300 to 3,000 tokens."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(12):
        (folder / f"wikipedia_{number:02}.txt").write_text(prose(100 + number, 8 + 8 * number))
    for number in range(4):
        (folder / f"wudao_{number}.txt").write_text(prose(200 + number, 10 + 10 * number, "zh"))
    return folder
