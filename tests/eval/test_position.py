"""Task `position`: its losses are a plain definition's, and a model that cannot see the text before gains nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longalign.base.files import read_jsonl, write_jsonl
from longalign.config import EvalSettings, PositionSettings
from longalign.errors import ConfigError, DataError
from longalign.eval.compare import compare
from longalign.eval.evaluate import evaluate
from longalign.eval.position import Position
from longalign.eval.position_figures import WITH, WITHOUT
from longalign.report.collect import collect
from longalign.report.table import table_sections
from tests.makers.text import filler

LENGTHS = (64, 128, 256)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows about two documents, and one without any."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    documents = [filler(30, offset=10), filler(20, offset=900), filler(30, offset=10)]
    asked = [f"{text}\n\nWhat is page {n}?" for n, text in enumerate(documents)] + ["What is a page?"]
    write_jsonl(
        file,
        [
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"It is old {n}."}]}
            for n, text in enumerate(asked)
        ],
    )
    return file


def wanted(model: Path, documents: Path, rows: Path, **more: Any) -> EvalSettings:
    values = {"documents": (str(documents),), "lengths": LENGTHS, "scored_tokens": 32, "rows": str(rows), **more}
    return EvalSettings(model=str(model), position=PositionSettings(**values))


@pytest.fixture(scope="module")
def measured(tiny_model: Path, documents: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("position") / "out"
    return evaluate(wanted(tiny_model, documents, rows), out), out


class Oracle:
    """Losses from all logits at once, in float64."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, ids: list[int]) -> list[float]:
        """Of every token but the first."""
        with torch.no_grad():
            logp_TV = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [-float(logp_TV[t - 1, ids[t]]) for t in range(1, len(ids))]


def test_losses_by_position_and_behind_more_text_are_a_plain_definitions(
    measured: Any, tiny_model: Path, documents: Path
) -> None:
    results, _ = measured
    loss = Oracle(tiny_model)
    texts = [path.read_text(encoding="utf-8") for path in sorted(documents.iterdir())]
    ids = [loss.tokenizer(text, add_special_tokens=False)["input_ids"][:256] for text in texts]
    whole = [[np.nan, *loss(row)] for row in ids]
    for name, low, high in (("0-64", 0, 64), ("64-128", 64, 128), ("128-256", 128, 256)):
        found = results["by_position"][name]
        assert found["measured"] == 3
        assert found["loss"] == pytest.approx(np.mean([np.nanmean(row[low:high]) for row in whole]), abs=2e-6)
        assert found["perplexity"] == pytest.approx(np.exp(found["loss"]), rel=1e-5)
    behind = {length: [np.mean(loss(row[-length:])[-32:]) for row in ids] for length in LENGTHS}
    for length in LENGTHS[1:]:
        falls = np.subtract(behind[64], behind[length])
        assert results["by_context"][str(length)]["mean"] == pytest.approx(falls.mean(), abs=2e-6)
    assert results["by_kind"]["longer context"]["mean"] == pytest.approx(falls.mean(), abs=2e-6)


def test_losses_of_answers_with_and_without_document_are_a_plain_definitions(
    measured: Any, tiny_model: Path, rows: Path
) -> None:
    results, out = measured
    loss = Oracle(tiny_model)

    def answer(content: str, said: str) -> float:
        asked = [{"role": "user", "content": content}]
        prompt = loss.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        text = loss.tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": said}], tokenize=False)
        tokens = loss.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        first = next(n for n, (_, end) in enumerate(tokens["offset_mapping"]) if end > len(prompt))
        return float(np.mean(loss(tokens["input_ids"])[first - 1 :]))

    made = [row["messages"] for row in read_jsonl(rows)][:3]
    documents = [row[0]["content"].rpartition("\n\n")[0] for row in made]
    others = [documents[1], documents[2][: len(documents[1])], documents[1]]
    scores = [row for row in read_jsonl(out / "scores.jsonl") if row["kind"] == "document"]
    for row, (user, said), document, other in zip(scores, made, documents, others, strict=False):
        question = user["content"].rpartition("\n\n")[2]
        assert row[WITH] == pytest.approx(answer(user["content"], said["content"]), abs=2e-6)
        assert row[WITHOUT] == pytest.approx(answer(question, said["content"]), abs=2e-6)
        shorter = f"{other[: len(document)]}\n\n{question}"
        assert row["another_document"] == pytest.approx(answer(shorter, said["content"]), abs=2e-6)
        assert row["score"] == pytest.approx(row[WITHOUT] - row[WITH], abs=2e-6)
    assert results["by_document"][WITHOUT]["mean"] == pytest.approx(
        np.mean([row["score"] for row in scores[:3]]), abs=2e-6
    )
    assert (scores[3]["score"], scores[3]["failure"]) == (None, "no document before the question")
    assert results["by_kind"]["document"]["failed"] == 1
    assert "note: 1 of 7 not scored: no document before the question" in results["text"]


def test_a_model_that_cannot_see_the_text_before_gains_nothing(
    tiny_model: Path, documents: Path, rows: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)  # each token is all that its prediction depends on
    model.save_pretrained(tmp_path / "blind")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "blind")
    results = evaluate(wanted(tmp_path / "blind", documents, rows), tmp_path / "out")
    falls = [*results["by_context"].values(), *results["by_document"].values()]
    assert len(falls) == 4
    for fall in falls:
        assert fall["mean"] == pytest.approx(0, abs=2e-6)
        assert fall["loss"] > 1


def test_a_killed_run_goes_on_and_ends_with_the_same_results(
    measured: Any, tiny_model: Path, documents: Path, rows: Path, tmp_path: Path
) -> None:
    results, out = measured
    lines = (out / "losses.jsonl").read_text().splitlines(keepends=True)
    begun = tmp_path / "begun"
    evaluate(wanted(tiny_model, documents, rows), begun)
    (begun / "stage.json").unlink()
    mark = json.loads(lines[0]) | {"score": 7.0}
    (begun / "losses.jsonl").write_text(json.dumps(mark) + "\n" + "".join(lines[1:4]) + lines[4][:20])
    again = evaluate(wanted(tiny_model, documents, rows), begun)
    assert again["by_position"] == results["by_position"]
    assert again["by_document"] == results["by_document"]
    assert read_jsonl(begun / "scores.jsonl")[0]["score"] == 7.0  # what was measured is not measured again


def test_two_models_are_compared_document_by_document(
    measured: Any, tiny_model: Path, documents: Path, rows: Path, tmp_path: Path
) -> None:
    _, out = measured
    evaluate(wanted(tiny_model, documents, rows), tmp_path / "again")
    same = compare(out, tmp_path / "again")
    assert (same["groups"]["all"]["ties"], same["left_out"]) == (6, 1)
    assert set(same["groups"]) == {"all", "kind longer context", "kind document"}


def test_the_page_shows_the_gains_as_a_table(measured: Any) -> None:
    results, out = measured
    (section,) = table_sections(collect([out.parent]))
    assert section.columns == ("all", "longer context", "document")
    ((label, cells),) = section.rows
    assert label == results["label"]
    assert cells[2][1].endswith(" of 3, 1 failed")


def test_short_documents_count_where_they_reach_and_are_named(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    for number, (name, words) in enumerate((("a", 1), ("b", 5), ("c", 400))):
        (tmp_path / f"{name}.txt").write_text(filler(words, offset=1000 * number))
    got = evaluate(wanted(tiny_model, tmp_path, rows, questions=0), tmp_path / "out")
    assert got["by_position"]["128-256"]["measured"] == 1
    assert got["by_position"]["0-64"]["low"] is not None
    assert got["overall"]["questions"] == 3
    assert got["overall"]["failed"] == 2
    assert sum("shorter than" in note for note in got["notes"]) >= 1


def test_nothing_to_score_is_said(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    (tmp_path / "a.txt").write_text("Too short a text to measure anything in it.")
    with pytest.raises(DataError, match="nothing could be scored"):
        evaluate(wanted(tiny_model, tmp_path, rows, questions=0), tmp_path / "out")


@pytest.mark.parametrize("model", ["openai:m@http://localhost:1/v1", "anthropic:m", "offline"])
def test_models_without_losses_are_refused_in_one_line(model: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(filler(5))
    with pytest.raises(ConfigError, match="needs the losses of a local model") as error:
        evaluate(
            EvalSettings(model=model, position=PositionSettings(documents=(str(tmp_path / "a.txt"),))), tmp_path / "out"
        )
    assert "\n" not in str(error.value)


def test_the_cost_is_what_is_read(documents: Path, rows: Path) -> None:
    task = Position(PositionSettings(documents=(str(documents),), lengths=LENGTHS, scored_tokens=32, rows=str(rows)))
    tokens = task.cost(256).prompt_tokens_N
    assert tokens is not None
    assert tokens.tolist()[:9] == [64, 128, 256] * 3
    assert len(tokens) == 9 + 3 * 3  # three rows with their document, without it and with another


@pytest.mark.slow
def test_builtin_rows_are_of_one_seed_and_each_has_another_document() -> None:
    asked = Position(PositionSettings(questions=3, row_tokens=100)).asked()
    assert asked == Position(PositionSettings(questions=3, row_tokens=100)).asked()
    assert asked != Position(PositionSettings(questions=3, row_tokens=100, seed=1)).asked()
    assert all(one.other for one in asked)
