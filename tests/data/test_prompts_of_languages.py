"""Every document is asked about in its own language, with built-in prompts or with one's own."""

from pathlib import Path
from typing import Any

import pytest

from longalign.data.build import build
from longalign.data.documents import make_document
from longalign.data.instruct import make_row, row_of
from longalign.errors import ConfigError
from longalign.llm.check_prompts import ADDED, read_check, readers, without_added
from longalign.llm.prompt import LANGUAGES, QuestionsAsked, prompt_hash, prompt_language, read_request, sections
from longalign.llm.prompt_init import write_prompts
from tests.data.scripted import run
from tests.data.test_build import rows_of, settings
from tests.llm.chat_server import ChatServer
from tests.makers.nine_languages import TEXTS


def languages_of(message: str) -> set[str]:
    """In which languages the sections of a message are, the added ones too."""
    found = set()
    while (asked := read_check(message)) is not None and asked.section in ADDED:
        found.add(asked.language)
        message = asked.before
    closed = {language for language in LANGUAGES if message.endswith(sections(language)["closed_book"])}
    if closed:
        return found | closed
    return found | {asked.language if asked else read_request(message).language}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("task", ["general", "summary", "reasoning", "extraction"])
def test_a_document_gives_a_row_whose_every_prompt_is_in_its_language(language: str, task: str, tmp_path: Path) -> None:
    intents = tmp_path / "intents.txt"
    intents.write_text("Tell me more\n", encoding="utf-8")
    document = make_document(TEXTS[language], source="town", title="Norwick", origin="x")
    assert document.language == language
    chosen = settings("x", tmp_path, preset="best", unanswerable_share=0, intents=str(intents), tasks=(task,))
    attempt, asked = run(make_row(document, 0, chosen))
    assert attempt.rejection is None, attempt.rejection
    assert {name for request in asked for name in languages_of(request.messages[-1]["content"])} == {language}
    assert row_of(attempt, chosen)["prompt"] == prompt_hash(prompt_language(language))
    first = asked[0].messages[0]["content"]
    assert any(reader in first for reader in readers(prompt_language(language)))
    assert isinstance(read_request(without_added(first)), QuestionsAsked)
    assert "Tell me more" in first


@pytest.fixture
def town(tmp_path: Path) -> Path:
    folder = tmp_path / "town"
    folder.mkdir()
    for language, text in TEXTS.items():
        (folder / f"{language}.txt").write_text(text, encoding="utf-8")
    return folder


def town_settings(town: Path, tokenizer: Path, **changes: Any) -> Any:
    return settings(
        town, tokenizer, rows=9, max_rows_per_document=1, chinese_share=None, min_length_tokens=50, **changes
    )


def test_a_folder_of_nine_languages_is_asked_about_in_nine(town: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        report = build(town_settings(town, tokenizer_dir, llm=server.spec), tmp_path / "rows.jsonl")
    rows = rows_of(tmp_path / "rows.jsonl")
    for row in rows:
        assert row["prompt"] == prompt_hash(prompt_language(row["language"]))
    prompts = {prompt_language(row["language"]) for row in rows}
    assert report["prompts"] == {language: prompt_hash(language) for language in prompts}
    assert {name for body in server.bodies for name in languages_of(body["messages"][0]["content"])} == prompts
    assert prompts == set(LANGUAGES)


def own(folder: Path, **texts: str) -> str:
    folder.mkdir(exist_ok=True)
    for language, text in texts.items():
        (folder / f"{language}.md").write_text(text, encoding="utf-8")
    return str(folder)


def test_prompts_of_ones_own_are_sent_and_name_the_rows_and_changed_ones_start_new_rows(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    folder = own(tmp_path / "own", en="## answer\nAnswer like a lawyer.\n\n## task legal\nAsk who owes what to whom.\n")
    chosen = settings(corpus_dir, tokenizer_dir, rows=4, chinese_share=0.0, tasks=("legal",), prompts=folder)
    out = tmp_path / "rows.jsonl"
    report = build(chosen, out)
    rows = out.read_bytes()
    (row, *_) = rows_of(out)
    assert (row["task"], report["by_task"]) == ("legal", {"legal": 4})
    assert row["prompt"] == report["prompts"]["en"] != prompt_hash("en")
    moved = Path(folder).rename(tmp_path / "moved")
    build(chosen.model_copy(update={"prompts": str(moved)}), out)
    assert out.read_bytes() == rows
    assert not list((tmp_path / "rows.work").rglob("superseded/**/rows.jsonl"))
    own(moved, en="## answer\nAnswer like a child.\n\n## task legal\nAsk who owes what to whom.\n")
    again = build(chosen.model_copy(update={"prompts": str(moved)}), out)
    assert again["prompts"] != report["prompts"]
    assert [path.read_bytes() for path in (tmp_path / "rows.work").rglob("rows.jsonl")] == [rows]


def test_an_endpoint_gets_ones_own_words_and_files_as_written_change_nothing(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    words = own(tmp_path / "own", en="## answer\nAnswer like a lawyer.", zh="## answer\n像律师那样回答。")
    with ChatServer() as server:
        chosen = settings(corpus_dir, tokenizer_dir, rows=6, chinese_share=0.5, llm=server.spec, prompts=words)
        build(chosen, tmp_path / "a" / "rows.jsonl")
    endings = {body["messages"][0]["content"].rpartition("\n\n")[2] for body in server.bodies}
    assert {"Answer like a lawyer.", "像律师那样回答。"} <= endings
    write_prompts(tmp_path / "same")
    for name, prompts in (("b", None), ("c", str(tmp_path / "same"))):
        build(settings(corpus_dir, tokenizer_dir, rows=4, prompts=prompts), tmp_path / name / "rows.jsonl")
    assert (tmp_path / "b" / "rows.jsonl").read_bytes() == (tmp_path / "c" / "rows.jsonl").read_bytes()


def test_a_mistake_in_a_prompt_file_is_said_before_any_call(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    folder = own(tmp_path / "own", fr="\n## question\nQuoi ?\n")
    with ChatServer() as server, pytest.raises(ConfigError, match=r"fr\.md:2: .*do you mean `questions`"):
        build(settings(corpus_dir, tokenizer_dir, llm=server.spec, prompts=folder), tmp_path / "rows.jsonl")
    own(tmp_path / "own", fr="## answer\nRépondez.\n")
    with ChatServer() as server, pytest.raises(ConfigError, match="## task legal"):
        build(
            settings(corpus_dir, tokenizer_dir, llm=server.spec, prompts=folder, tasks=("legal",)),
            tmp_path / "rows.jsonl",
        )
    assert server.bodies == []
    with pytest.raises(ValueError, match="data prompts init"):  # nothing to look into: said by the settings
        settings(corpus_dir, tokenizer_dir, tasks=("legal",))
