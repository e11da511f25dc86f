"""Invented English and Chinese prose, and documents of it."""

from __future__ import annotations

import numpy as np

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


def filler(sentences: int, offset: int = 0, language: str = "en") -> str:
    """Plain text whose sentences all differ."""
    if language == "zh":
        return "".join(f"第{i + offset}页写着河流向东走了很远。" for i in range(sentences))
    words = ["river", "stone", "maple", "window", "ledger", "candle", "harbour", "meadow", "copper", "orchard"]
    lines = []
    for i in range(offset, offset + sentences):
        a, b, c = (words[(i * k + k) % len(words)] for k in (1, 5, 7))
        lines.append(f"Page {i} says that the {a} near the {b} was older than every {c} in town.")
        if i % 9 == 8:
            lines.append("\n")
    return " ".join(lines)
