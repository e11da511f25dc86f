"""`data show` and `ask`: what a person sees."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from longalign.cli import main
from longalign.data.show import row_text, show_rows, target_picture
from longalign.errors import ConfigError, DataError, EndpointError
from longalign.eval.ask import ask, cut_middle, estimated_tokens
from tests.llm.chat_server import Answer, ChatServer
from tests.llm.conftest import make_model
from tests.makers.chat_templates import NEXT_ROLE_CLOSES

SYSTEM = {"role": "system", "content": "nobody answers"}
DOCUMENT = (
    "The river Oder rises in the Sudetes. " + "Nothing happens here. " * 400 + "Its mouth is the Szczecin Lagoon."
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("ask") / "tiny")


@pytest.fixture
def document(tmp_path: Path) -> Path:
    (tmp_path / "oder.txt").write_text(DOCUMENT)
    return tmp_path / "oder.txt"


def test_the_offline_stand_in_answers_from_the_document(document: Path) -> None:
    answer = ask("offline", document, "Where is the mouth of the Oder?")
    assert answer["answer"] == "Its mouth is the Szczecin Lagoon."
    assert answer["notice"] == ""
    assert json.dumps(answer)


def test_an_endpoint_gets_the_prompt_of_a_training_row(document: Path) -> None:
    with ChatServer(lambda body, times: Answer("In the lagoon.")) as server:
        answer = ask(server.spec, document, "Where is its mouth?")
    assert server.bodies[0]["messages"] == [{"role": "user", "content": f"{DOCUMENT}\n\nWhere is its mouth?"}]
    assert (answer["answer"], answer["model"]) == ("In the lagoon.", "test-model")


def test_the_request_takes_the_same_extras_as_a_build(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--chat_template_kwargs.enable_thinking false --top_p 0.9 --system_prompt Briefly. --max_new_tokens 99"
    with ChatServer(lambda body, times: Answer("Well.\n</think>\nIn the lagoon.")) as server:
        main(["ask", "Where?", "--document", str(document), "--model", server.spec, *words.split()])
    (body,) = server.bodies
    assert capsys.readouterr().out == "In the lagoon.\n"
    assert body["messages"][0] == {"role": "system", "content": "Briefly."}
    assert (body["top_p"], body["max_tokens"]) == (0.9, 99)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_document_above_the_window_is_cut_in_its_middle_with_a_notice(document: Path) -> None:
    with ChatServer() as server:
        answer = ask(server.spec, document, "Where is its mouth?", window=600, max_new_tokens=100)
    sent = server.bodies[0]["messages"][0]["content"]
    assert estimated_tokens(sent) <= 500
    assert sent.startswith("The river Oder rises")
    assert "Szczecin Lagoon.\n\nWhere" in sent
    assert "cut in the middle" in answer["notice"]


def test_a_local_models_own_window_and_tokens_decide(document: Path, model_dir: Path) -> None:
    answer = ask(str(model_dir), document, "Where?", max_new_tokens=4)
    assert answer["prompt_tokens"] <= 2048 - 4
    assert answer["prompt_tokens"] > 1900
    assert "2,048 tokens" in answer["notice"]


def test_mistakes_are_one_clear_line(document: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        ask("offline", tmp_path / "none.txt", "What?")
    with pytest.raises(ConfigError, match="question is empty"):
        ask("offline", document, " ")
    with (
        ChatServer(lambda body, times: Answer("", finish_reason="content_filter")) as server,
        pytest.raises(EndpointError, match="no answer"),
    ):
        ask(server.spec, document, "What?")
    with pytest.raises(ConfigError, match="no room"):
        ask("openai:m@http://127.0.0.1:9/v1", document, "What?", window=100, max_new_tokens=100)


@given(st.text(max_size=200), st.integers(0, 250))
def test_the_longest_beginning_and_end_that_fit_are_kept(text: str, room: int) -> None:
    kept = cut_middle(text, lambda part: len(part) <= room)
    if len(text) <= room:
        assert kept == text
    elif kept is not None:
        assert len(kept) <= room
        ends = kept.split("[...]", 1)
        assert text.startswith(ends[0].rstrip("\n")) or len(ends[0]) <= 2
    else:
        assert room < len("[...]")


def test_a_row_is_shown_with_its_ends_and_its_evidence() -> None:
    row = {
        "id": "r1",
        "task": "extraction",
        "messages": [{"role": "user", "content": DOCUMENT + "\n\nWhere?"}, {"role": "assistant", "content": "There."}],
        "evidence": [{"text": "Its mouth", "position": 0.99}],
    }
    text = row_text(row)
    assert text.splitlines()[:2] == ["=== r1 ===", "task: extraction"]
    assert "characters ...]" in text
    assert "[assistant] There." in text
    assert "evidence at 99%: Its mouth" in text
    assert len(text) < 1500


def test_json_gives_every_token_of_every_row_and_nothing_else_on_stdout(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {
            "id": f"r{n}",
            "messages": [{"role": "user", "content": f"第{n}? 👩‍🚀"}, {"role": "assistant", "content": "é 狗"}],
        }
        for n in range(5)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"messages": [SYSTEM]}]))
    show_rows(tmp_path / "rows.jsonl", tokenizer=str(model_dir), as_json=True)
    printed = capsys.readouterr()
    shown = json.loads(printed.out)["rows"]
    assert [row["id"] for row in shown] == [row["id"] for row in rows]
    assert "no answer in the conversation" in printed.err
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_dir)
    for row, expected in zip(shown, rows, strict=True):
        text = tokenizer.apply_chat_template(expected["messages"], tokenize=False)
        assert "".join(token["text"] for token in row["tokens"]) == text
        assert "".join(token["text"] for token in row["tokens"] if token["target"]) == "é 狗<|im_end|>"
        assert [token["id"] for token in row["tokens"]] == tokenizer(text, add_special_tokens=False)["input_ids"]
    template = tmp_path / "open.jinja"
    template.write_text(NEXT_ROLE_CLOSES)
    two = {"messages": rows[0]["messages"] * 2}
    (tmp_path / "two.jsonl").write_text(json.dumps(two) + "\n" + json.dumps(two))
    show_rows(tmp_path / "two.jsonl", tokenizer=str(model_dir), as_json=True, rows=1, chat_template=str(template))
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["rows"]) == 1
    assert printed.err.count("assistant turns that teach no stopping: 1.") == 1


def test_a_row_whose_targets_cannot_be_told_ends_with_its_number_and_nothing_printed(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "a"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (tmp_path / "t.jinja").write_text("{% for m in messages | sort(attribute='content') %}{{ m.content }}{% endfor %}")
    with pytest.raises(DataError, match=r"^rows\.jsonl row 1: .*--chat_template FILE"):
        show_rows(
            tmp_path / "rows.jsonl", tokenizer=str(model_dir), as_json=True, chat_template=str(tmp_path / "t.jinja")
        )
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match="tokenizer"):
        show_rows(tmp_path / "rows.jsonl", as_json=True)


def test_targets_are_drawn_where_they_are(model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"messages": [{"role": "user", "content": "brown fox " * 60}, {"role": "assistant", "content": "lazy dog"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    show_rows(tmp_path / "rows.jsonl", rows=1, tokenizer=str(model_dir))
    shown = capsys.readouterr().out
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model_dir)
    picture = target_picture(tokenizer, row)
    assert picture in shown
    bar = picture.splitlines()[1]
    assert len(bar) == 80
    assert bar.lstrip(".") in ("#", ":", ":#", "#:", ":#:")
    assert picture.splitlines()[2].startswith("targets:")
    assert "<|im_end|>" in picture
