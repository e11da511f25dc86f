"""Task `synthetic`: kinds of long-context questions by length, and the effective window.

RULER showed that the very model LongAlign published reads 4k tokens well of the 128k its window has. So each kind is
measured over lengths, with questions that grow harder by a stated law (`kind.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from longalign.base.files import random_for
from longalign.base.progress import Progress
from longalign.config import SyntheticSettings
from longalign.errors import ConfigError
from longalign.eval.answers import Answer
from longalign.eval.haystack import Haystack
from longalign.eval.needle import DEFAULT_HAYSTACK, HAYSTACKS_OF_TEXT, read_texts
from longalign.eval.results import Compared, Mean, ModelFacts, Row, mean_figure, mean_of
from longalign.eval.synthetic.challenge import Challenge, score
from longalign.eval.synthetic.effective import EffectiveWindow, effective_window
from longalign.eval.synthetic.fit import Fitted, fit
from longalign.eval.synthetic.kind import Planted
from longalign.eval.synthetic.kinds import chosen
from longalign.eval.task import Cost, ExactTask, Question, Reads, kinds, shown
from longalign.eval.token_view import TokenView


@dataclass(frozen=True, kw_only=True)
class SyntheticQuestion(Question):
    """A question, its length, and where its answer stands (in tokens; empty where it is all over the text)."""

    challenge: Challenge
    length: int
    prompt_tokens: int
    answer_tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SyntheticMean(Mean):
    """Mean share of right values, and the share of answers that are wholly right."""

    right: float | None


@dataclass(frozen=True, kw_only=True)
class SyntheticResults:
    """Means over all, by kind, by length (as text) and by both (`cells`), and the effective windows."""

    overall: SyntheticMean
    by_kind: dict[str, SyntheticMean]
    by_length: dict[str, SyntheticMean]
    cells: dict[str, dict[str, SyntheticMean]]
    effective_window: EffectiveWindow | None
    effective_window_by_kind: dict[str, EffectiveWindow | None]
    haystack: list[str]
    language: str
    notes: list[str]


class Synthetic(ExactTask[SyntheticSettings, SyntheticQuestion]):
    """Task `synthetic`."""

    name = "synthetic"
    title = "Synthetic suite"
    settings_class = SyntheticSettings
    compared = Compared(figure="score.share", scale=(0, 1))
    graded = True
    listed = "by_kind"

    def reads(self) -> Reads:
        return Reads(documents={"haystack": self.haystack})

    def check(self) -> None:
        chosen(self.settings.tasks)
        if not self.settings.lengths:
            raise ConfigError("synthetic lengths are empty; give at least one, for example --lengths 1000,4000")

    @property
    def haystack(self) -> Sequence[str]:
        """The documents that planted sentences stand in."""
        return self.settings.haystack or (DEFAULT_HAYSTACK[self.settings.language],)

    def questions(self, view: TokenView) -> list[SyntheticQuestion]:
        wanted = self.settings
        found = chosen(wanted.tasks)
        lengths = sorted(set(wanted.lengths))
        haystack = None
        if any(isinstance(kind, Planted) for kind in found.values()):
            haystack = Haystack.build(read_texts(self.haystack), view, HAYSTACKS_OF_TEXT * lengths[-1])
        cells = [(name, length, k) for name in found for length in lengths for k in range(wanted.questions)]
        made = []
        with Progress("synthetic prompts", total=len(cells), unit="prompt") as bar:
            for name, length, number in cells:
                key = f"{name}/{length}/{number}"
                rng = self._rng(key)
                fitted = fit(found[name], name, length, view, haystack, rng, wanted.language)
                made.append(_question(key, name, length, fitted, wanted.max_new_tokens or found[name].max_new_tokens))
                bar.advance()
        return made

    def _rng(self, key: str) -> Callable[[str], np.random.Generator]:
        return lambda part: random_for(self.settings.seed, "synthetic", self.settings.language, key, part)

    def score(self, question: SyntheticQuestion, answer: str) -> dict[str, Any]:
        return asdict(score(question.challenge, answer))

    def row(self, question: SyntheticQuestion, answer: Answer, reading: Any = None) -> Row:
        return {
            **super().row(question, answer, reading),
            "question": question.challenge.question,
            "length": question.length,
            "prompt_tokens": question.prompt_tokens,
            "reported_prompt_tokens": answer.prompt_tokens,
            "answer_tokens": list(question.answer_tokens),
        }

    def summarise(self, rows: Sequence[Row], model: ModelFacts) -> SyntheticResults:
        names, lengths = kinds(rows), sorted({row["length"] for row in rows})
        by_kind = {name: [row for row in rows if row["kind"] == name] for name in names}
        threshold = self.settings.threshold

        def window(groups: Sequence[Sequence[Row]], key: str) -> EffectiveWindow | None:
            rng = random_for(self.settings.seed, "synthetic", "effective window", key)
            return effective_window([_by_length(group) for group in groups], threshold, rng)

        return SyntheticResults(
            overall=_mean(rows),
            by_kind={name: _mean(group) for name, group in by_kind.items()},
            by_length={str(n): _mean([row for row in rows if row["length"] == n]) for n in lengths},
            cells={
                name: {str(n): _mean([row for row in group if row["length"] == n]) for n in lengths}
                for name, group in by_kind.items()
            },
            effective_window=window(list(by_kind.values()), "all"),
            effective_window_by_kind={name: window([group], name) for name, group in by_kind.items()},
            haystack=list(self.haystack),
            language=self.settings.language,
            notes=_notes(lengths, model.model_window_tokens),
        )

    def cost(self, window: int) -> Cost:
        wanted = self.settings
        return Cost(np.repeat(np.array(sorted(set(wanted.lengths))), wanted.questions * len(chosen(wanted.tasks))))

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        lengths = list(results["by_length"])
        lines = [
            f"synthetic suite of {results['label']}: mean share of right values by length, {shown(results['overall'])}"
        ]
        lines.append(f"{'':>18} {''.join(f'{length:>9}' for length in lengths)}  effective window (95%)")
        rows = {**results["cells"], "all": results["by_length"]}
        windows = {**results["effective_window_by_kind"], "all": results["effective_window"]}
        for name, row in rows.items():
            figures = "".join(f"{_figure(row[length]['mean']):>9}" for length in lengths)
            lines.append(f"{name:>18} {figures}  {window_text(windows[name])}")
        failed = results["overall"]["failed"]
        lines += [f"note: {failed} of {results['overall']['questions']} have no answer"] if failed else []
        return lines + [f"note: {note}" for note in results["notes"]]


def window_text(found: Mapping[str, Any] | None) -> str:
    """`4,096 (1,024 to 4,096); 8,192 of its own short score`."""
    if found is None:
        return "nothing scored"

    def tokens(value: int | None) -> str:
        return "none" if value is None else f"{value:,}"

    own = f"; {tokens(found['of_own'])} by its own short score" if found["of_own"] != found["tokens"] else ""
    return f"{tokens(found['tokens'])} ({tokens(found['low'])} to {tokens(found['high'])}){own}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _question(key: str, name: str, length: int, fitted: Fitted, max_new_tokens: int) -> SyntheticQuestion:
    return SyntheticQuestion(
        key=key,
        messages=({"role": "user", "content": fitted.content},),
        expected=", ".join(fitted.challenge.expected),
        kind=name,
        max_new_tokens=max_new_tokens,
        challenge=fitted.challenge,
        length=length,
        prompt_tokens=fitted.length_tokens,
        answer_tokens=fitted.answer_tokens,
    )


def _mean(rows: Sequence[Row]) -> SyntheticMean:
    scores = [row["score"] for row in rows if row["score"] is not None]
    mean = mean_figure([score["share"] for score in scores], len(rows), Synthetic.compared.scale)
    return SyntheticMean(**vars(mean), right=mean_of(scores, "right"))


def _by_length(rows: Sequence[Row]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["score"] is not None:
            found.setdefault(row["length"], []).append(row["score"]["share"])
    return found


def _notes(lengths: Sequence[int], window: int | None) -> list[str]:
    beyond = [f"{length:,}" for length in lengths if window is not None and length > window]
    return (
        [f"lengths {', '.join(beyond)} exceed the model's window of {window:,} tokens; asked anyway"] if beyond else []
    )
