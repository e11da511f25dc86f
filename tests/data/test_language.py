"""Every document knows its language; an answer in another one is found."""

import re
from pathlib import Path

import pytest

from longalign.data.build import build
from longalign.data.documents import documents_at, make_document
from longalign.data.language import document_language
from longalign.data.verify import wrong_language
from tests.data.test_build import settings
from tests.makers.nine_languages import TEXTS


@pytest.mark.parametrize("language", TEXTS)
def test_long_and_short_texts_of_nine_languages(language: str) -> None:
    text = TEXTS[language]
    assert document_language(text * 40) == language
    assert [document_language(sentence) for sentence in text.split("\n")].count(language) >= 7
    assert document_language(f"{text}\n" + "x" * 30) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("使用 Python 3 的 asyncio 模块编写并发代码", "zh"),
        ("asyncio モジュールで concurrent なコードを書く", "ja"),
        ("The word 河 is Chinese, あ is Japanese", "en"),
        ("Это русский текст о библиотеке", "ru"),
        ("Ένα ελληνικό κείμενο", "el"),
        ("טקסט בעברית", "he"),
        ("ข้อความภาษาไทย", "th"),
        ("ქართული ტექსტი", "ka"),
        ("Bonjour", "en"),  # too short to tell
        ("x = y; z = f(x)\n" * 50, "en"),
        ("12345 !!!", "other"),
        ("ᚠᚢᚦᚨᚱᚲ ᚷᚹᚺᚾᛁᛃ", "other"),
        ("", "other"),
    ],
)
def test_scripts_and_what_stays_open(text: str, language: str) -> None:
    assert document_language(text) == language


def test_source_code_is_english_whatever_its_comments(tmp_path: Path) -> None:
    comments = "".join(f"# {line}\n" for line in TEXTS["fr"].split("\n"))
    for name in ("a.py", "b.txt"):
        (tmp_path / name).write_text(f"{comments}print(1)\n", encoding="utf-8")
    assert [document.language for document in documents_at(tmp_path, [])] == ["en", "fr"]
    assert make_document(comments, origin="rows.jsonl:1").language == "fr"


@pytest.mark.parametrize("document", [*TEXTS, "it", "other"])
def test_an_answer_in_another_language_is_found(document: str) -> None:
    for language, text in TEXTS.items():
        assert wrong_language(text, document) == (document not in (language, "other")), language
    assert not wrong_language("42", document)
    assert not wrong_language("Norwick, 1874", document) or document == "zh"
    assert wrong_language("图书馆于一八七四年在河边开放", document) == (document not in ("zh", "ja", "other"))


def test_only_wanted_languages_are_kept(tmp_path: Path, tokenizer_dir: Path) -> None:
    folder = tmp_path / "town"
    folder.mkdir()
    for language in ("en", "fr", "de"):
        (folder / f"{language}.txt").write_text(TEXTS[language], encoding="utf-8")
    chosen = settings(folder, tokenizer_dir, rows=1, min_length_tokens=50, chinese_share=None, languages=("fr", "de"))
    report = build(chosen, tmp_path / "rows.jsonl")
    assert report["corpus"]["usable_by_language"] == {"de": 1, "fr": 1}
    assert report["corpus"]["dropped_by_reason"] == {"language en not wanted": 1}
    listed = (tmp_path / "rows.documents.jsonl").read_text(encoding="utf-8")
    assert re.search(r"en\.txt.*language en not wanted", listed)
