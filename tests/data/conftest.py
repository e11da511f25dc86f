"""Documents to build rows from, and a tokenizer to count them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import byte_bpe

NOUNS = ("harbour", "garden", "engine", "letter", "museum", "river", "orchard", "violin", "station", "glacier")
VERBS = ("repaired", "painted", "measured", "described", "abandoned", "inherited", "photographed", "restored")
PLACES = ("valley", "capital", "island", "province", "monastery", "peninsula", "settlement", "district")
ZH_NOUNS = ("港口", "花园", "引擎", "信件", "博物馆", "河流", "果园", "提琴", "车站", "冰川")
ZH_VERBS = ("修复", "描绘", "测量", "描述", "放弃", "继承", "拍摄", "重建")


def prose(seed: int, sentences: int, language: str = "en") -> str:
    """Sentences about invented things, all different."""
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(sentences):
        noun, verb, place = rng.integers(0, len(NOUNS)), rng.integers(0, len(VERBS)), rng.integers(0, len(PLACES))
        year, tag = rng.integers(1500, 2000), int(rng.integers(10**6))
        if language == "zh":
            lines.append(
                f"编号{tag}的{ZH_NOUNS[noun]}在{year}年被一位学者{ZH_VERBS[verb]}，这件事记录在第{number}卷档案里。"
            )
        else:
            lines.append(
                f"The {NOUNS[noun]} with number {tag} was {VERBS[verb]} in the year {year} "
                f"by a scholar of the {PLACES[place]}, as volume {number} of the archive records."
            )
    return "\n\n".join(("" if language == "zh" else " ").join(lines[i : i + 4]) for i in range(0, len(lines), 4))


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
