"""Scores from a model: the losses are those of plain transformers, behind the contexts that the module names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from longalign.base.sources import model_dir
from longalign.base.tokenizers import open_tokenizer
from longalign.data.choose.context_scores import ScoreHow, score_key, score_rows
from longalign.data.choose.contexts import contexts_of
from longalign.data.choose.given import read_given
from longalign.data.choose.select import SelectHow, select
from longalign.errors import DataError
from tests.data.choose.rows import row, write
from tests.makers.published import smollm2

BASE = "builtin:tiny-base"
DOCUMENT = "The mill was built in 1702. " + "Rain fell on the hills. " * 8 + "The river runs south."


def some_rows(folder: Path) -> Path:
    evidence = [{"turn": 0, "text": "The mill was built in 1702.", "start": 0, "end": 27, "position": 0.06}]
    first = row(1, document=DOCUMENT, question="When was it built?", answer="In 1702.", evidence=evidence)
    short = row(2, document="A short one.", question="Is it short?", answer="Yes.")
    bare: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    }
    return write(folder / "rows.jsonl", [first, short, bare, row(4, document="Long. " * 300)])


def plain_loss(messages: list[dict[str, str]]) -> float:
    """By transformers' own loss over one conversation, without a batch."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = open_tokenizer(BASE)
    model = AutoModelForCausalLM.from_pretrained(model_dir(BASE), dtype=torch.float32).eval()
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    text = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
    before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    labels = ids.clone()
    labels[:, :before] = -100
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


def test_scores_are_differences_of_plain_losses(tmp_path: Path) -> None:
    rows = list(read_given(str(some_rows(tmp_path))))
    found = score_rows(rows, len(rows), ScoreHow(BASE, short_window=12), tmp_path / "scores.jsonl")
    first, short, bare, long = (found[score_key(each)] for each in rows)

    answer = {"role": "assistant", "content": "In 1702."}
    tokenizer = open_tokenizer(BASE)
    start = tokenizer(DOCUMENT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"][-12][0]
    texts = {
        "whole": f"{DOCUMENT}\n\nWhen was it built?",
        "short": f"{DOCUMENT[start:]}\n\nWhen was it built?",
        "question": "When was it built?",
        "blanked": f"[...]{DOCUMENT[27:]}\n\nWhen was it built?",
    }
    loss = {name: plain_loss([{"role": "user", "content": text}, answer]) for name, text in texts.items()}
    assert first.whole == pytest.approx(loss["whole"], abs=2e-5)
    assert first.gain == pytest.approx(loss["short"] - loss["whole"], abs=3e-5)
    assert first.document == pytest.approx(loss["question"] - loss["whole"], abs=3e-5)
    assert first.evidence == pytest.approx(loss["blanked"] - loss["whole"], abs=3e-5)
    assert first.evidence_in_window == 0.0
    assert (short.gain, short.evidence) == (0.0, None)  # nothing of it is out of the short window
    assert (bare.gain, bare.document) == (0.0, None)
    assert "window of 256 tokens" in long.unscored
    assert long.gain is None

    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    (tmp_path / "scores.jsonl").write_text("\n".join([*lines[:2], lines[2][:30]]))  # as a kill leaves it
    again = score_rows(rows, len(rows), ScoreHow(BASE, short_window=12), tmp_path / "scores.jsonl")
    assert again == found
    fitted = score_rows(rows[3:], 1, ScoreHow(BASE, 12, "fit"), tmp_path / "scores.jsonl")
    (cut,) = fitted.values()
    assert cut.scored_tokens <= 256 < cut.tokens
    assert cut.gain is not None
    with pytest.raises(DataError, match="no row could be scored"):
        score_rows(rows[3:], 1, ScoreHow(BASE), tmp_path / "other.jsonl")


def test_a_question_before_the_document_stays_in_the_short_context() -> None:
    tokenizer = open_tokenizer(BASE)
    text = f"When was the mill built?\n\n{DOCUMENT}\n\nThe end of it."
    mine = row(1, document=text, question="When?", answer="In 1702.")
    foreign = {name: value for name, value in mine.items() if name != "document"}
    for given_row, stays in ((mine, False), (foreign, True)):
        shown = tokenizer.decode(contexts_of(tokenizer, given_row, 8).sequences["short"].ids_T)
        assert ("When was the mill built?" in shown) is stays
        assert "Rain fell" not in shown
    unparted = {"messages": [{"role": "user", "content": DOCUMENT}, {"role": "assistant", "content": "Yes."}]}
    assert {"whole", "short"} == set(contexts_of(tokenizer, unparted, 8).sequences)


@pytest.mark.slow
def test_killed_while_scoring_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(n, document=f"House {n}. " + "It rains. " * (n % 7 + 3), support=[n % 5 / 5]) for n in range(60)]
    write(tmp_path / "rows.jsonl", rows)

    def command(out: str) -> list[str]:
        asked = f"data select rows.jsonl --model {BASE} --keep 10% --short_window 8 --per length --out {out} --json"
        return [sys.executable, "-m", "longalign", *asked.split()]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command("best.jsonl"), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as run:
        scores = tmp_path / "best.scores.jsonl"
        while not (scores.exists() and scores.read_bytes().count(b"\n") >= 20):
            assert run.poll() is None, "ended before it could be killed"
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert not (tmp_path / "best.jsonl").exists()
    before = scores.read_bytes().count(b"\n")
    done = subprocess.run(command("best.jsonl"), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{before} rows are scored already" in done.stderr
    how = SelectHow(keep="10%", per=("length",), scoring=ScoreHow(BASE, short_window=8))
    select(str(tmp_path / "rows.jsonl"), tmp_path / "whole.jsonl", how)
    assert (tmp_path / "best.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert json.loads(done.stdout)["kept"] == 6


@pytest.mark.slow
def test_a_real_model_needs_the_document_for_what_stands_at_its_beginning(tmp_path: Path) -> None:
    filling = "The clerk wrote down the weather, the price of bread and the names of the visitors. " * 12
    fact = "The harbour master was called Ezra Lindqvist. "
    asked = {
        "question": "What was the harbour master called?",
        "answer": "The harbour master was called Ezra Lindqvist.",
    }
    evidence = [{"turn": 0, "text": fact.strip(), "start": 0, "end": len(fact) - 1, "position": 0.0}]
    early = row(1, document=fact + filling, evidence=evidence, **asked)
    late = row(2, document=filling + fact, **asked)
    rows = list(read_given(str(write(tmp_path / "rows.jsonl", [early, late]))))
    found = score_rows(rows, 2, ScoreHow(str(smollm2()), short_window=64), tmp_path / "scores.jsonl")
    first, second = (found[score_key(each)] for each in rows)
    assert first.gain is not None
    assert second.gain is not None
    assert first.gain > 1.0 > abs(second.gain)
    assert (first.evidence or 0) > 1.0
