"""Needle retrieval over lengths x depths (paper section 4.2, Figure 4), for any local model or endpoint.

A sentence is hidden in real text among others like it, and the model is asked what it says (`needle_forms`). Every
prompt has the requested length, everything counted. Scoring is exact; intervals are Wilson's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longalign.base.files import random_for
from longalign.base.progress import Progress
from longalign.config import NeedleSettings
from longalign.data.source import read_documents
from longalign.errors import ConfigError
from longalign.eval.answers import Answer
from longalign.eval.haystack import Haystack, Plant, hide
from longalign.eval.needle_figures import NeedleFigures, summarize
from longalign.eval.needle_forms import Needle as Hidden
from longalign.eval.needle_forms import draw_needles, needles_of, others_in, score_needle
from longalign.eval.results import Compared, ModelFacts, Row
from longalign.eval.subject import Subject
from longalign.eval.task import Cost, ExactTask, Question, Reads, shown
from longalign.eval.token_view import TokenView
from longalign.llm.base import innermost

DEFAULT_HAYSTACK = {"en": "builtin:python-docs-heldout", "zh": "builtin:chinese-heldout"}
HAYSTACKS_OF_TEXT = 4  # read documents until they could fill the longest prompt this many times


@dataclass(frozen=True, kw_only=True)
class NeedleItem(Question):
    """One question, where its needle stands, and what else was there to be found."""

    length: int
    depth: float
    prompt_tokens: int
    needle_token: int
    repeats_text: bool
    needle: Hidden
    others: tuple[Hidden, ...]


@dataclass(frozen=True, kw_only=True)
class NeedleResults(NeedleFigures):
    """The figures, and what was asked."""

    haystack: list[str]
    language: str
    distractors: int
    form: str


class Needle(ExactTask[NeedleSettings, NeedleItem]):
    """Task `needle`. Token accuracies are kept in `forced.jsonl`."""

    name = "needle"
    title = "Needle"
    settings_class = NeedleSettings
    compared = Compared(figure="score.value", group="length")
    listed = "by_length"

    def reads(self) -> Reads:
        file = self.settings.needle_file
        return Reads(files={"needle_file": [file] if file else []}, documents={"haystack": self.haystack})

    def check(self) -> None:
        if self.settings.form == "sentence":
            needles_of(self.settings.needle_file)
        if self.settings.forced_tokens and self.settings.form != "register":
            raise ConfigError(
                f"needle.forced_tokens reads names and values of form `register`, not {self.settings.form}"
            )

    @property
    def haystack(self) -> Sequence[str]:
        """The documents that needles are hidden in."""
        return self.settings.haystack or (DEFAULT_HAYSTACK[self.settings.language],)

    def questions(self, view: TokenView) -> list[NeedleItem]:
        return needle_items(self.settings, read_texts(self.haystack), view)

    def score(self, question: NeedleItem, answer: str) -> dict[str, Any]:
        return asdict(score_needle(answer, question.needle, question.others))

    def readings(self, questions: Sequence[NeedleItem], subject: Subject, out: Path) -> dict[str, dict[str, float]]:
        return _forced(self.settings, subject, questions, out)

    def row(self, question: NeedleItem, answer: Answer, reading: dict[str, float] | None = None) -> Row:
        return {
            "key": question.key,
            "length": question.length,
            "depth": question.depth,
            "prompt_tokens": question.prompt_tokens,
            "reported_prompt_tokens": answer.prompt_tokens,
            "needle_token": question.needle_token,
            "repeats_text": question.repeats_text,
            "question": question.needle.question,
            "expected": question.expected,
            "answer": answer.text,
            "failure": answer.failure,
            "score": None if answer.text is None else self.score(question, answer.text),
            "forced": reading,
        }

    def summarise(self, rows: Sequence[Row], model: ModelFacts) -> NeedleResults:
        return NeedleResults(
            **vars(summarize(rows, model.model_window_tokens)),
            haystack=list(self.haystack),
            language=self.settings.language,
            distractors=self.settings.distractors,
            form=self.settings.form,
        )

    def cost(self, window: int) -> Cost:
        wanted = self.settings
        return Cost(np.repeat(np.array(wanted.lengths), wanted.depths * wanted.needles))

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        form = results.get("form", "register")
        lines = [
            f"needle retrieval of {results['label']}, form {form} (95% Wilson; lengths in {results['length_unit']})"
        ]
        lines.append(f"{'length':>8} {'value right':>24} {'name right':>11} {'questions':>10} {'failed':>7}")
        for length, row in results["by_length"].items():
            name = "-" if row["name_accuracy"] is None else f"{row['name_accuracy']:.2f}"
            lines.append(f"{length:>8} {shown(row):>24} {name:>11} {row['questions']:>10} {row['failed']:>7}")
        return lines + [f"note: {note}" for note in results["notes"]]


def read_texts(paths: Sequence[str]) -> Iterator[str]:
    """Texts of documents, one at a time."""
    return (document.text for document in read_documents(paths))


def needle_items(settings: NeedleSettings, texts: Iterable[str], view: TokenView) -> list[NeedleItem]:
    """All questions, each from its own key (seed, length, depth, number), so none depends on another."""
    if not settings.lengths:
        raise ConfigError("needle lengths are empty; give at least one, for example --lengths 512,1024")
    longest = max(settings.lengths)
    haystack = Haystack.build(texts, view, HAYSTACKS_OF_TEXT * longest)
    depths = depth_grid(settings.depths)
    cells = [(n, d, k) for n in sorted(set(settings.lengths)) for d in depths for k in range(settings.needles)]
    items = []
    with Progress("needle prompts", total=len(cells), unit="prompt") as bar:
        for length, depth, number in cells:
            items.append(_item(settings, haystack, view, length, depth, number))
            bar.advance()
    return items


def depth_grid(count: int) -> list[float]:
    """`count` depths from 0 (start) to 1 (end); a single one is the middle."""
    return [0.5] if count == 1 else [round(float(d), 4) for d in np.linspace(0, 1, count)]


def _item(
    settings: NeedleSettings, haystack: Haystack, view: TokenView, length: int, depth: float, number: int
) -> NeedleItem:
    key = f"{length}/{depth:g}/{number}"
    rng = random_for(settings.seed, "needle", settings.language, key)
    needle, *distractors = drawn = draw_needles(settings, rng)
    stream = haystack.stream(rng, length)
    depths = (depth, *rng.random(len(distractors)).tolist())
    plants = [Plant(each.sentence, at) for each, at in zip(drawn, depths, strict=True)]
    prompt = hide(view, stream, length, plants, needle.question)
    return NeedleItem(
        key=key,
        messages=({"role": "user", "content": prompt.content},),
        expected=needle.answer,
        max_new_tokens=settings.max_new_tokens,
        length=length,
        depth=depth,
        prompt_tokens=prompt.length_tokens,
        needle_token=prompt.plant_tokens[0],
        repeats_text=prompt.repeats_text,
        needle=needle,
        others=others_in(prompt.content, needle, drawn),
    )


def _forced(
    settings: NeedleSettings, subject: Subject, items: Sequence[NeedleItem], out: Path
) -> dict[str, dict[str, float]]:
    """Token accuracy by key, where it was asked for and logits can be had."""
    if not settings.forced_tokens:
        return {}
    model = innermost(subject.model)
    if not hasattr(model, "tokenizer"):
        raise ConfigError("needle.forced_tokens needs the logits of a local model; leave it out for endpoints")
    from longalign.eval.forced import FORCED, forced_accuracy

    questions = [(item.key, subject.view.render(item.messages), item.needle.fact) for item in items if item.needle.fact]
    found = forced_accuracy(model, questions, out / FORCED)
    return {key: {"name": row.name, "value": row.value} for key, row in found.items()}
