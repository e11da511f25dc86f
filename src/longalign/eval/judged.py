"""`JudgedTask`: a model answers and a judge rates (paper section 4.2). Base of LongBench-Chat, LongBench and MT-Bench.

The model gets document and question; what its window cannot hold is cut out of the middle, with room left for the
answer. The judge scores each answer several times, its examples in another order each time; ratings are averaged.
An unreadable verdict is missing, not zero: it is counted, and bounds say what it could change. An answer without a text
(nothing, or only thoughts) is the model's answer all the same: it gets the lowest rating, and the judge is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import random_for
from longalign.config import ChatSettings, EvalSettings
from longalign.core.text import CHARACTERS_PER_TOKEN
from longalign.errors import ConfigError
from longalign.eval.answers import ANSWERS, NO_ANSWER, VERDICTS, Answer, passing_failures, spend
from longalign.eval.cases import Case, RowReader, document_rows, read_cases
from longalign.eval.conversation import ask_in_turns
from longalign.eval.endings import FINISH
from longalign.eval.judge import (
    Judge,
    JudgeFacts,
    check_judge,
    describe_judge,
    open_judge,
    rated_answers,
    verdict_lines,
)
from longalign.eval.judge_prompt import Rubric
from longalign.eval.judged_figures import JudgedFigures, summarize
from longalign.eval.rating import Rated
from longalign.eval.results import Compared, Measured, mean_of_known
from longalign.eval.subject import Subject, open_subject
from longalign.eval.task import Cost, JudgeCost, Reads, Task, interval_text
from longalign.eval.token_view import cut_middle
from longalign.llm.base import Message
from longalign.llm.open import expected_cost_usd

JUDGE_PROMPT_TOKENS = 640
"""Question, reference, three examples and the answer: about 32,000 a pass over LongBench-Chat's 50 (the paper)."""
JUDGE_NEW_TOKENS = 100


@dataclass(frozen=True)
class AssumedCases:
    """Assumed contents of a missing file, for planning: number of questions, and tokens of their prompts."""

    questions: int
    tokens: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class JudgedResults(JudgedFigures):
    """The figures, where the cases came from, and the judge."""

    cases: str
    judge: JudgeFacts


class JudgedTask(Task[ChatSettings]):
    """A task whose answers a judge rates. Subclasses name themselves and say how their files are read."""

    settings_class = ChatSettings
    version = 2  # 2: verdicts are read without what they quote, and asked for again; silence gets the lowest rating
    compared = Compared(group="dataset", cluster="document")
    protocols: ClassVar[tuple[str, ...]] = ("own",)
    assumed: ClassVar[AssumedCases] = AssumedCases(100, (1_000, 10_000))

    def reads(self) -> Reads:
        wanted = self.settings
        keys = ("few_shots", "references", "judge_prompt", "judge_prompts")
        one = {key: getattr(wanted, key) for key in keys}
        return Reads({"cases": wanted.cases, **{key: [path] for key, path in one.items() if path}})

    def check(self) -> None:
        if self.settings.protocol not in self.protocols:
            raise ConfigError(f"eval.{self.name}.protocol: `{self.settings.protocol}` is for mt_bench only")
        check_judge(self.settings)

    def cases(self) -> list[Case]:
        """The questions. Raises `DataError` for files of another kind."""
        if not self.settings.cases:
            raise ConfigError(f"eval.{self.name} needs `cases`, the files of its questions")
        return read_cases([Path(name) for name in self.settings.cases], self.row_reader())

    def row_reader(self) -> RowReader:
        """How a row of the files is read; the default: a question about a document."""
        few_shots = self.settings.few_shots
        return document_rows(Path(few_shots) if few_shots else None, self.settings.rubric)

    def measure(self, model: EvalSettings, out: Path) -> Measured:
        cases = self.cases()
        with open_subject(model, out) as subject:
            asked = self._ask(cases, subject, out)
        return self._judge(cases, subject, *asked, out)

    def measure_open(self, subject: Subject, out: Path) -> Measured:
        cases = self.cases()
        return self._judge(cases, subject, *self._ask(cases, subject, out), out)

    def _ask(self, cases: Sequence[Case], subject: Subject, out: Path) -> tuple[dict[str, Answer], dict[str, int]]:
        """Answers, and tokens cut from each prompt."""
        wanted = self.settings
        return ask_in_turns(
            subject,
            cases,
            out / ANSWERS,
            fit=lambda prompt, before: fit(prompt, subject, wanted, before),
            max_new_tokens=wanted.max_new_tokens,
        )

    def _judge(
        self, cases: Sequence[Case], subject: Subject, answers: dict[str, Answer], cut_tokens: dict[str, int], out: Path
    ) -> Measured:
        wanted = self.settings
        with open_judge(wanted, out) as judge:
            rated = rated_answers(judge, cases, answers)
            verdicts = judge.verdicts(rated, out / VERDICTS)
        by_key = {one.case.key: one for one in rated}
        rows = []
        for case in cases:
            answer = answers[case.key]
            ratings = ratings_of(case, by_key.get(case.key), answer, verdicts, judge)
            rows.append(score_row(case, answer, ratings, judge.wording.rubrics[case.rubric], cut_tokens[case.key]))
        figures = JudgedResults(
            **vars(summarize(rows, judge.wording.rubrics)),
            cases=", ".join(wanted.cases) or rows[0]["dataset"],
            judge=describe_judge(judge, wanted.protocol, rated, verdicts),
        )
        return Measured(
            rows=rows,
            figures=figures,
            model=subject.facts,
            spend=spend(list(answers.values())),
            waiting=passing_failures(answers) + passing_failures(verdicts),
        )

    def cost(self, window: int) -> Cost:
        """Files of cases that are not here yet count as `assumed`, and a note says so."""
        wanted = self.settings
        tokens_N = np.minimum(self._case_tokens(), (wanted.window or window) - wanted.max_new_tokens)
        absent = [path for path in wanted.cases if not Path(path).exists()]
        if not absent:
            return Cost(tokens_N)
        (shortest, longest), others = self.assumed.tokens, len(absent) - 1
        files = f"{absent[0]}{f' and {others} more' if others else ''}"
        taken = f"{self.assumed.questions} questions of {shortest:,}-{longest:,} tokens{' each' if others else ''}"
        return Cost(tokens_N, (f"{files}: not here yet, taken for {taken}",))

    def judge_cost(self, answers: int) -> JudgeCost:
        """Calls, tokens and money of judging that many answers."""
        wanted = self.settings
        calls = answers * wanted.scorings
        prompt, new = calls * JUDGE_PROMPT_TOKENS, calls * JUDGE_NEW_TOKENS
        cost = expected_cost_usd(wanted.judge, wanted.judge_price_usd_per_million, prompt, new)
        return JudgeCost(wanted.judge, calls, prompt, new, cost)

    def _case_tokens(self) -> NDArray[np.int64]:
        """Tokens of the prompts, before they are cut to the window."""
        wanted = self.settings
        if not wanted.cases:
            return np.full(wanted.questions, wanted.case_tokens)
        found = []
        for path in wanted.cases:
            if Path(path).exists():
                cases = read_cases([Path(path)], self.row_reader())
                found.append(np.array([len(case.prompt) // CHARACTERS_PER_TOKEN for case in cases]))
            else:
                rng = random_for(0, "cases that are not here", path)
                found.append(rng.integers(*self.assumed.tokens, self.assumed.questions))
        return np.concatenate(found)

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        row, judge = results["overall"], results["judge"]
        scale = f" on {row['scale'][0]}-{row['scale'][1]}" if row["scale"] else " of 100"
        mean = ("mean", "low", "high") if row["scale"] else ("share", "share_low", "share_high")
        lines = [f"{cls.name} score of {results['label']}: {interval_text(*(row[name] for name in mean))}{scale}"]
        for name, group in results.get("by_category", {}).items():
            lines.append(f"{name or 'other':>20} {interval_text(*(group[field] for field in mean))}")
        lines.append(f"cases: {results['cases']}; judge: {judge['model']}, {judge['scorings']} scorings each")
        missing = f"{row['failed']} without an answer, {row['unscored']} without a readable verdict"
        lines.append(f"{row['scored']} of {row['questions']} questions scored ({missing})")
        return [*lines, *verdict_lines(judge)]


def fit(
    prompt: str, subject: Subject, settings: ChatSettings, before: Sequence[Message] = ()
) -> tuple[str, int] | None:
    """The prompt as the window allows it after the messages `before`, and how many tokens were cut from its middle.

    None where the conversation so far leaves no room. Raises `ConfigError` if even a first question has none.
    """
    window = settings.window or subject.window
    view = subject.view

    def count(text: str) -> int:
        return view.count(view.render([*before, {"role": "user", "content": text}]))

    if window is None:
        return prompt, 0
    new_tokens = settings.max_new_tokens + subject.thinking_tokens
    room = window - new_tokens
    if room <= count(""):
        if before:
            return None
        raise ConfigError(
            f"a window of {window} tokens leaves no room for a question beside {new_tokens} new tokens; "
            "lower --max_new_tokens (or --thinking_tokens), or raise --window"
        )
    whole = count(prompt)
    if whole <= room:
        return prompt, 0
    keep = room - count("")
    while True:  # tokens next to the cut may merge or split: shrink until the count is right
        cut = cut_middle(prompt, view, keep)
        excess = count(cut) - room
        if excess <= 0 or keep <= 0:
            return cut, whole - count(cut)
        keep -= excess


def ratings_of(
    case: Case, rated: Rated | None, answer: Answer, verdicts: Mapping[str, Answer], judge: Judge
) -> list[float | None]:
    """The ratings of a case's answer, one for each scoring; None for a verdict that cannot be read, or no answer."""
    if rated is not None:
        return [reading.rating for reading in judge.readings(rated, verdicts)]
    lowest = judge.wording.rubrics[case.rubric].low if answer.ending in NO_ANSWER else None
    return [lowest] * judge.scorings


def score_row(
    case: Case, answer: Answer, ratings: Sequence[float | None], scale: Rubric, cut_tokens: int
) -> dict[str, Any]:
    """One line of `scores.jsonl`: the ratings of one answer; null for each verdict that cannot be read."""
    return {
        "key": case.key,
        "dataset": case.dataset,
        "category": case.category,
        "language": case.language,
        "document": case.document,
        "rubric": case.rubric,
        "question": case.query,
        "expected": case.reference,
        "answer": answer.text,
        "failure": answer.failure,
        FINISH: answer.ending,
        "prompt_tokens": answer.prompt_tokens,
        "cut_tokens": cut_tokens,
        "ratings": list(ratings),
        "score": mean_of_known(ratings),
        "worst": sum(r if r is not None else scale.low for r in ratings) / len(ratings),
        "best": sum(r if r is not None else scale.high for r in ratings) / len(ratings),
    }
