"""Prompt files: the built-in ones of nine languages agree, and one's own are checked, fall back and are read again."""

import re
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from longalign.errors import ConfigError
from longalign.llm.check_prompts import FIELD, SECTIONS, checks_hash, read_check, readers, write
from longalign.llm.prompt import (
    LANGUAGES,
    TASKS,
    QuestionsAsked,
    answer_request,
    prompt_hash,
    prompt_language,
    questions_request,
    read_request,
    sections,
    wording_for,
    wordings,
)
from longalign.llm.prompt_check import check_file
from longalign.llm.prompt_init import write_prompts
from longalign.llm.prompt_texts import read_again


@pytest.fixture(autouse=True)
def _as_at_the_start_of_a_build() -> Iterator[None]:
    read_again()
    yield
    read_again()


def own(folder: Path, **texts: str) -> str:
    read_again()
    for language, text in texts.items():
        (folder / f"{language}.md").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_built_in_file_passes_the_check_of_ones_own_and_asks_for_the_same(language: str) -> None:
    with as_file(files("longalign.llm") / "prompts" / f"{language}.md") as path:
        assert check_file(path) == sections(prompt_language(language))
    assert len(readers(prompt_language(language))) == len(readers("en"))
    for name, english in sections("en").items():
        text = sections(prompt_language(language))[name]
        assert language == "en" or text != english
        assert text.count("\n\n") == english.count("\n\n")
        for mark in ("`1: `", "`2: `", "`yes`", "`no`"):
            if language != "zh":
                assert text.count(mark) == english.count(mark), (name, mark)
        assert text.count("UNKNOWN") == english.count("UNKNOWN") or language == "zh"


def test_no_two_languages_share_a_text_so_every_prompt_tells_its_language() -> None:
    for name in (*SECTIONS, "answer", "closed_book", "questions"):
        assert len({sections(language)[name] for language in LANGUAGES}) == len(LANGUAGES)
    assert len({checks_hash(language) for language in LANGUAGES}) == len(LANGUAGES)


def test_a_language_without_prompts_gets_english_ones_which_ask_for_the_documents_language() -> None:
    assert [prompt_language(code) for code in ("en", "de", "pt", "other", "")] == ["en", "de", "en", "en", "en"]
    assert "language of the document" in sections("en")["questions"]


def test_what_ones_own_file_leaves_out_is_built_in_and_english_last(tmp_path: Path) -> None:
    folder = own(tmp_path, en="## answer\nMine.\n\n## task legal\nWho owes what?", it="## closed_book\nMio.")
    english, italian, german = (sections(wording_for(code, folder)) for code in ("en", "it", "de"))
    assert (english["answer"], english["closed_book"]) == ("Mine.", sections("en")["closed_book"])
    assert (italian["answer"], italian["closed_book"]) == ("Mine.", "Mio.")
    assert (german["answer"], german["task legal"]) == (
        sections("de")["answer"],
        "Who owes what?",
    )
    assert wording_for("pt", folder) == wording_for("en", folder)
    assert {prompt_hash(wording_for(code, folder)) for code in ("en", "it", "de")}.isdisjoint(
        {prompt_hash(language) for language in LANGUAGES}
    )


def test_every_request_in_ones_own_words_is_read_back(tmp_path: Path) -> None:
    changed = re.sub(
        r"^(?!----|##)(?=\S)", "* ", "\n".join(f"## {k}\n{v}" for k, v in sections("en").items()), flags=re.M
    )
    changed = changed.replace("* supported:", "supported:").replace("* answerable:", "answerable:")
    for label in ("complete", "correct", "helpfulness", "logicality", "faithfulness", "completeness"):
        changed = changed.replace(f"* {label}:", f"{label}:")
    folder = own(tmp_path, en=changed + "\n## task legal\nWho owes what?\n", de="## answer\nKurz.\n")
    for wording in wordings(folder):
        language = wording if isinstance(wording, str) else wording.language
        for task in (*TASKS, "legal"):
            asked = read_request(questions_request("A text.", task, 7, wording), folder)
            assert asked == QuestionsAsked("A text.", task, 7, language)
        got = read_request(answer_request("A text.", "Why?", wording), folder)
        assert (got.document, got.language) == ("A text.", language)
        for section in SECTIONS:
            names = dict.fromkeys(FIELD.findall(re.escape(sections(wording)[section])), "x")
            read = read_check(write(section, wording, before="A text.", **names), folder)
            assert read is not None
            assert (read.section, read.before, read.values) == (section, "A text.", names)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("## answers\nx", r"de\.md:1: section `answers`: .*do you mean `answer`"),
        ("## zzz\nx", r"de\.md:1: .*there are questions, general"),
        ("## answer\nx\n\n## answer\ny", r"de\.md:4: section `answer`: is there twice"),
        ("## answer\n\n## general\ny", r"de\.md:1: .*is empty"),
        ("## general\nx\n\n## questions\n----\n{task} {cuont}", r"de\.md:4: section `questions`: lacks \{count\}"),
        ("## questions\n----\n{task} {count} {count}", r"de\.md:1: .*more than once"),
        ("## questions\n{task} {count}", r"de\.md:1: .*must begin with a line `----`"),
        ("## general\n{question}", r"de\.md:1: .*holds \{question\}, which is not filled in here"),
        ("## check\n----\n{question} {answer}\nsupported: x\ncomplete: y", r"lacks a line that begins with `correct:`"),
        ("## task answer\nx", r"called `answer` already"),
        ("Hello\n\n## answer\nx", r"de\.md:1: text before the first section"),
        ("## answer\nx\n##general\ny", r"de\.md:3: `##general` is no heading"),
        ("", r"de\.md: no section in it"),
    ],
)
def test_a_mistake_is_said_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        wordings(own(tmp_path, de=text))


def test_other_files_and_missing_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no prompt file in it"):
        wordings(str(tmp_path))
    with pytest.raises(ConfigError, match="data prompts init"):
        wordings(str(tmp_path / "nowhere"))
    own(tmp_path, README="What this is")
    assert sections(wording_for("de", own(tmp_path, de="## answer\r\nKurz.\r\n")))["answer"] == "Kurz."
    (tmp_path / "de.md").write_bytes(b"## answer\n\xff\xfe")
    read_again()
    with pytest.raises(ConfigError, match=r"de\.md: cannot be read as UTF-8"):
        wordings(str(tmp_path))
    with pytest.raises(ConfigError, match=r"german\.md: a prompt file is named by its language"):
        wordings(own(tmp_path, german="## answer\nx", de="## answer\nx"))


def test_files_edited_while_a_build_runs_count_from_the_next_one_on(tmp_path: Path) -> None:
    folder = own(tmp_path, en="## answer\nOne.")
    wording = wording_for("en", folder)
    (tmp_path / "en.md").write_text("## answer\nTwo.", encoding="utf-8")
    assert (sections(wording)["answer"], wording_for("en", folder)) == ("One.", wording)
    read_again()
    assert sections(wording_for("en", folder))["answer"] == "Two."


def test_the_files_to_edit_are_the_built_in_prompts_and_none_is_overwritten(tmp_path: Path) -> None:
    wrote = write_prompts(tmp_path / "a")
    assert set(wrote["prompts"]) == set(LANGUAGES)
    for language in LANGUAGES:
        assert wrote["prompts"][language]["prompt"] == prompt_hash(language)
        assert sections(wording_for(language, wrote["folder"])) == sections(language)
    assert list(write_prompts(tmp_path / "b", ["it", "de"])["prompts"]) == ["it", "de"]
    assert "to translate" in write_prompts(tmp_path / "c", ["it"])["text"]
    (tmp_path / "b" / "de.md").unlink()
    (tmp_path / "b" / "it.md").write_text("## answer\nMio.\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"it\.md: exists"):
        write_prompts(tmp_path / "b", ["de", "it"])
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["it.md"]
    with pytest.raises(ConfigError, match="ISO 639-1"):
        write_prompts(tmp_path / "d", ["../x"])
