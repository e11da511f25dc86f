"""Selection: parts lose nothing, the law of lengths is the stated one, shares are exact."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.data.document_draw import (
    DocumentLengths,
    DocumentSummary,
    candidates,
    cut,
    draw_order,
    histogram,
    language_quotas,
)
from longalign.data.document_table import DocumentTable
from longalign.errors import ConfigError

TEXT = st.text(st.sampled_from("ab. \n中。"), max_size=600)


def word_ends(text: str) -> np.ndarray:
    """Tokens: runs of non-space with the spaces before them, and what is left."""
    ends = [match.end() for match in re.finditer(r"\s*\S{1,3}", text)]
    return np.array(ends if not ends or ends[-1] == len(text) else [*ends, len(text)], dtype=np.int64)


@settings(deadline=None)
@given(TEXT, st.integers(1, 40), st.integers(2, 60), st.integers(0, 3))
def test_parts_cover_the_text_in_order_within_the_limit(text: str, shortest: int, limit: int, seed: int) -> None:
    ends_T = word_ends(text)
    parts = cut(text, ends_T, shortest=shortest, limit=limit, seed=seed, key="k")
    assert "".join(text[part.start : part.end] for part in parts) == (text if len(ends_T) else "")
    assert sum(part.length_tokens for part in parts) == len(ends_T)
    assert all(1 <= part.length_tokens <= limit for part in parts)
    if len(ends_T) <= limit:
        assert len(parts) <= 1


def test_part_lengths_are_spread_evenly_between_the_bounds() -> None:
    text = "word " * 40_000
    ends_T = np.arange(4, len(text), 5)
    lengths = [part.length_tokens for part in cut(text, ends_T, shortest=100, limit=1000, seed=0, key="k")]
    counts = np.histogram(lengths, bins=[100, 325, 550, 775, 1001])[0]
    assert counts.min() > 0.6 * counts.mean()


def test_parts_end_at_paragraphs_where_one_is_near() -> None:
    text = "".join(f"Sentence {n} of a paragraph. It goes on.\n\n" for n in range(500))
    parts = cut(text, word_ends(text), shortest=600, limit=900, seed=0, key="k")
    assert len(parts) > 5
    assert all(text[part.start : part.end].strip().startswith("Sentence") for part in parts)


def entries(*lengths: int, language: str = "en", in_band: bool = True) -> list[DocumentSummary]:
    return [DocumentSummary(f"{language}{i}-{in_band}", language, length, in_band) for i, length in enumerate(lengths)]


def test_the_first_draw_is_proportional_to_length_to_the_exponent() -> None:
    lengths = (1000, 2000, 4000, 8000)
    for exponent in (0.0, 1.0, 2.0):
        weights = np.array(lengths, dtype=float) ** exponent
        first = [draw_order(entries(*lengths), exponent=exponent, seed=seed)[0].length_tokens for seed in range(1500)]
        share = np.array([first.count(length) for length in lengths]) / len(first)
        assert share == pytest.approx(weights / weights.sum(), abs=0.05)


def test_the_order_of_a_document_does_not_depend_on_the_others() -> None:
    some = entries(10, 20, 30, 40)
    order = [entry.id for entry in draw_order(some, exponent=1, seed=3)]
    fewer = [entry.id for entry in draw_order(some[:3], exponent=1, seed=3)]
    assert fewer == [id for id in order if id in {entry.id for entry in some[:3]}]


def test_documents_of_the_wanted_length_come_first_in_every_pass() -> None:
    pool = entries(9000, 9001) + entries(100, 200, in_band=False)
    order = [(entry.in_band, number) for entry, number in candidates(pool, passes=2, exponent=1, seed=0)]
    assert order == [(True, 0), (True, 0), (True, 1), (True, 1), (False, 0), (False, 0), (False, 1), (False, 1)]


def test_a_tenth_is_chinese_where_there_are_both_languages() -> None:
    both = entries(1, 2) + entries(1, 2, language="zh")
    assert language_quotas(both, 50, None) == {"zh": 5, "other": 45}
    assert language_quotas(both, 50, 0.5) == {"zh": 25, "other": 25}
    assert language_quotas(entries(1), 50, None) == {"zh": 0, "other": 50}
    assert language_quotas(entries(1, language="zh"), 50, None) == {"zh": 50, "other": 0}


def test_the_histogram_counts_every_length_once() -> None:
    assert histogram([8192, 16383, 16384, 65536]) == {"8k-16k": 2, "16k-32k": 1, "32k-64k": 0, "64k-128k": 1}
    assert histogram([]) == {}
    assert histogram([10**6]) == {"256k+": 1}


def test_rows_leave_room_for_questions_and_answers() -> None:
    assert DocumentLengths.of(DataSettings(max_length_tokens=65536)).max == 61440
    assert DocumentLengths.of(DataSettings(max_length_tokens=65536, turns=200)).max == 65536 - 8000
    assert DocumentLengths.of(DataSettings(max_length_tokens=256, turns=3, register_entries=4)).max == 128
    assert DocumentLengths.of(DataSettings(max_length_tokens=256, reserve_tokens=100)).max == 156
    with pytest.raises(ConfigError, match="leaves no room"):
        DocumentLengths.of(DataSettings(max_length_tokens=256, reserve_tokens=256))


def test_a_table_of_documents_is_the_documents() -> None:
    some = [
        DocumentSummary(f"id{n}" * (n % 3 + 1), ("en", "zh", "ja")[n % 3], 10 + n % 2, n % 4 > 0) for n in range(40)
    ]
    table = DocumentTable(some)
    assert list(table) == some
    assert (table[7], table[-1], table[3:5], len(table)) == (some[7], some[-1], some[3:5], 40)
    for group, chinese in (("zh", True), ("other", False)):
        alone = [document for document in some if (document.language == "zh") == chinese]
        of_group = list(candidates(table, passes=2, exponent=0.5, seed=1, group=group))
        assert of_group == list(candidates(alone, passes=2, exponent=0.5, seed=1))


def test_the_order_of_known_documents_is_the_one_of_earlier_versions() -> None:
    """Versions before 0.2 sorted by (draw / length ** exponent, id); ledgers of theirs are replayed in that order."""
    some = [DocumentSummary(f"document-{n}", "en", 100 + 37 * n % 900) for n in range(200)]

    def arrival(document: DocumentSummary) -> tuple[float, str]:
        draw = random_for(7, "order", document.id).exponential()
        return draw / float(document.length_tokens) ** 1.0, document.id

    assert draw_order(DocumentTable(some), exponent=1.0, seed=7) == sorted(some, key=arrival)
