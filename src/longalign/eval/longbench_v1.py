"""Task `longbench_v1`: LongBench as published: its prompts, its caps of new tokens, its metrics (arXiv 2308.14508).

The files are the user's: the data sets' `.jsonl` files and, of LongBench's folder `config`, `dataset2prompt.json` and
`dataset2maxlen.json`. Results are percents by data set, their mean, and, for LongBench-E, by length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.config import LongBenchV1Settings
from longalign.errors import DataError
from longalign.eval.answers import Answer
from longalign.eval.cases import read_rows
from longalign.eval.longbench_metrics import METRICS, NO_TEMPLATE, check_libraries, longbench_score, metric_of
from longalign.eval.results import Compared, Mean, ModelFacts, Row, mean_figure, mean_of_known, rounded
from longalign.eval.task import ExactTask, Question, Reads, kinds, shown
from longalign.eval.token_view import TokenView, cut_to

SLOT = re.compile(r"\{(context|input)\}")
BINS = ((4_000, "0-4k"), (8_000, "4-8k"))
"""LongBench-E's groups by words of the text; longer ones are `8k+`."""


@dataclass(frozen=True, kw_only=True)
class LongBenchQuestion(Question):
    """A row of a data set. `kind` is the data set as its file names it; `words`: the length that the row states."""

    classes: tuple[str, ...]
    words: int | None
    document: str
    cut_tokens: int


@dataclass(frozen=True, kw_only=True)
class LongBenchResults:
    """Shares (0-1) over all questions, by data set, and by data set and length; `macro`: the mean of the data sets."""

    overall: Mean
    macro: float | None
    by_kind: dict[str, Mean]
    by_length: dict[str, dict[str, Mean]]
    notes: list[str]


class LongBenchV1(ExactTask[LongBenchV1Settings, LongBenchQuestion]):
    """Task `longbench_v1`."""

    name = "longbench_v1"
    title = "LongBench by its own metrics"
    settings_class = LongBenchV1Settings
    compared = Compared(cluster="document", scale=(0, 1))
    graded = True
    listed = "by_kind"

    def reads(self) -> Reads:
        wanted = self.settings
        return Reads({"cases": wanted.cases, "prompts": [wanted.prompts], "max_lengths": [wanted.max_lengths]})

    def check(self) -> None:
        check_libraries([self._dataset(Path(path)) for path in self.settings.cases])
        self._config()

    def _dataset(self, path: Path) -> str:
        name = metric_of(path.stem)
        if name is None:
            raise DataError(f"{path}: no data set of LongBench; files are named as there: {', '.join(METRICS)}")
        return name

    def _config(self) -> tuple[Mapping[str, str], Mapping[str, int]]:
        found = []
        for path in (self.settings.prompts, self.settings.max_lengths):
            try:
                found.append(json.loads(Path(path).read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{path}: cannot be read ({error}); give LongBench's config/dataset2prompt.json as prompts and "
                    "config/dataset2maxlen.json as max_lengths"
                ) from None
        return found[0], found[1]

    def questions(self, view: TokenView) -> list[LongBenchQuestion]:
        prompts, caps = self._config()
        made: list[LongBenchQuestion] = []
        for path in map(Path, self.settings.cases):
            dataset = self._dataset(path)
            if dataset not in prompts or dataset not in caps:
                raise DataError(f"{self.settings.prompts}: has no prompt, or no cap, for {dataset}")
            rows = read_rows(path)[: self.settings.limit]
            for number, row in enumerate(rows, 1):
                made.append(
                    self._question(
                        f"{path}: case {number}", path.stem, number, row, prompts[dataset], caps[dataset], view
                    )
                )
        return made

    def _question(
        self, where: str, kind: str, number: int, row: Any, prompt: str, cap: int, view: TokenView
    ) -> LongBenchQuestion:
        answers = row.get("answers") if isinstance(row, dict) else None
        if not isinstance(answers, list) or not answers or "context" not in row:
            raise DataError(f"{where}: needs `input`, `context` and `answers` (a list with at least one)")
        text = SLOT.sub(lambda slot: str(row.get(slot[1]) or ""), prompt)
        kept, cut_tokens = cut_to(text, view, self.settings.window)
        return LongBenchQuestion(
            key=f"{kind}/{row.get('_id', number)}",
            messages=({"role": "user", "content": kept},),
            expected=str(answers[0]),
            also_right=tuple(str(answer) for answer in answers[1:]),
            kind=kind,
            max_new_tokens=cap,
            classes=tuple(row.get("all_classes") or ()),
            words=row.get("length"),
            document=fingerprint(row["context"])[:16],
            cut_tokens=cut_tokens,
        )

    def score(self, question: LongBenchQuestion, answer: str) -> float:
        dataset = metric_of(question.kind)
        assert dataset is not None
        return longbench_score(dataset, answer, question.accepted, question.classes)

    def row(self, question: LongBenchQuestion, answer: Answer, reading: Any = None) -> Row:
        found = super().row(question, answer, reading)
        return {
            **found,
            "question": found["question"][-1000:],
            "expected": list(question.accepted),
            "document": question.document,
            "length_words": question.words,
            "cut_tokens": question.cut_tokens,
        }

    def summarise(self, rows: Sequence[Row], model: ModelFacts) -> LongBenchResults:
        by_kind = {name: [row for row in rows if row["kind"] == name] for name in kinds(rows)}
        figures = {name: _mean(group) for name, group in by_kind.items()}
        cut = sum(row["cut_tokens"] > 0 for row in rows)
        plain = [name for name in by_kind if name.removesuffix("_e") in NO_TEMPLATE]
        notes = [f"{cut} of {len(rows)} prompts were cut in the middle"] if cut else []
        if plain:
            notes.append(f"asked with the chat template, which the published runner leaves out: {', '.join(plain)}")
        return LongBenchResults(
            overall=_mean(rows),
            macro=rounded(mean_of_known(figure.mean for figure in figures.values())),
            by_kind=figures,
            by_length={name: _bins(group) for name, group in by_kind.items() if name.endswith("_e")},
            notes=notes,
        )

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        lines = [f"LongBench of {results['label']}: {_percent(results['macro']).strip()} (mean of the data sets)"]
        for name, row in results["by_kind"].items():
            lines.append(f"{name:>22} {_percent(row['mean'])}  {shown(row)}, {row['scored']} of {row['questions']}")
            for length, part in results["by_length"].get(name, {}).items():
                lines.append(f"{length:>22} {_percent(part['mean'])}")
        return lines + [f"note: {note}" for note in results["notes"]]


def _percent(share: float | None) -> str:
    text = "-" if share is None else f"{100 * share:.2f}"
    return f"{text:>7}"


def _mean(rows: Sequence[Row]) -> Mean:
    return mean_figure(
        [row["score"] for row in rows if row["score"] is not None], len(rows), LongBenchV1.compared.scale
    )


def _bins(rows: Sequence[Row]) -> dict[str, Mean]:
    """LongBench-E's groups by length of the text in words."""
    names = [name for _, name in BINS] + ["8k+"]
    groups: dict[str, list[Row]] = {name: [] for name in names}
    for row in rows:
        length = row["length_words"]
        if length is None:
            raise DataError(f"{row['key']}: LongBench-E's rows need `length`")
        groups[next((name for limit, name in BINS if length < limit), "8k+")].append(row)
    return {name: _mean(group) for name, group in groups.items()}
