"""Task `longbench_v2`: one right answer of four, by length and difficulty (LongBench v2, arXiv 2412.15204).

The file is the user's copy of the data set (`.json` or `.jsonl` with `question`, `choice_A` to `choice_D`, `answer`,
`context`). The answer is read as the published runner reads it. `context: false` asks without the text: what a model
gets right then, it knew or guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.config import LongBenchV2Settings
from longalign.errors import DataError
from longalign.eval.answers import Answer
from longalign.eval.cases import read_rows
from longalign.eval.results import Compared, ModelFacts, Row, Tally, tally
from longalign.eval.task import ExactTask, Question, Reads, shown
from longalign.eval.token_view import TokenView, cut_to

LETTERS = "ABCD"
SAID = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))
WITH_TEXT = "Read the text, then answer the question.\n\n<text>\n$DOC$\n</text>\n\n"
ASKED = (
    "Question: $Q$\nChoices:\n(A) $C_A$\n(B) $C_B$\n(C) $C_C$\n(D) $C_D$\n\n"
    'End your reply with one line of this form: "The correct answer is (X)", where X is the letter of your choice.'
)
SLOT = re.compile(r"\$(DOC|Q|C_[A-D])\$")


@dataclass(frozen=True, kw_only=True)
class Choice(Question):
    """A question with four choices. `kind` is its length: short, medium or long."""

    difficulty: str
    domain: str
    document: str
    cut_tokens: int


@dataclass(frozen=True, kw_only=True)
class LongBenchV2Results:
    """Shares of right answers. `no_letter`: answers that name no choice in the form that was asked for (wrong)."""

    overall: Tally
    by_kind: dict[str, Tally]
    by_difficulty: dict[str, Tally]
    by_domain: dict[str, Tally]
    no_letter: int
    with_context: bool
    notes: list[str]


class LongBenchV2(ExactTask[LongBenchV2Settings, Choice]):
    """Task `longbench_v2`; chance is a quarter."""

    name = "longbench_v2"
    title = "LongBench v2"
    settings_class = LongBenchV2Settings
    compared = Compared(cluster="document", scale=(0, 1))
    listed = "by_kind"

    def reads(self) -> Reads:
        wanted = self.settings
        return Reads({"cases": wanted.cases, "prompt": [wanted.prompt] if wanted.prompt else []})

    def questions(self, view: TokenView) -> list[Choice]:
        rows = [
            (path, number, row) for path in self.settings.cases for number, row in enumerate(read_rows(Path(path)), 1)
        ]
        prompt = self._prompt()
        return [self._choice(f"{path}: case {n}", n, row, prompt, view) for path, n, row in rows[: self.settings.limit]]

    def _prompt(self) -> str:
        if self.settings.prompt is None:
            return (WITH_TEXT if self.settings.context else "") + ASKED
        try:
            return Path(self.settings.prompt).read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{self.settings.prompt}: prompt cannot be read ({error.strerror})") from None

    def _choice(self, where: str, number: int, row: Any, prompt: str, view: TokenView) -> Choice:
        needed = ["question", "answer", *(f"choice_{letter}" for letter in LETTERS)]
        needed += ["context"] if self.settings.context else []
        values = row if isinstance(row, dict) else {}
        if missing := [name for name in needed if not isinstance(values.get(name), str)]:
            raise DataError(f"{where}: field `{missing[0]}` must be a text")
        if values["answer"] not in LETTERS:
            raise DataError(f"{where}: `answer` must be A, B, C or D, got {values['answer']!r:.20}")
        texts = {"DOC": str(values.get("context") or ""), "Q": values["question"]}
        texts |= {f"C_{letter}": values[f"choice_{letter}"] for letter in LETTERS}
        text = SLOT.sub(lambda slot: texts[slot[1]].strip(), prompt)
        window = self.settings.window
        kept, cut_tokens = cut_to(text, view, window - self.settings.max_new_tokens if window else None)
        return Choice(
            key=str(values.get("_id", number)),
            messages=({"role": "user", "content": kept},),
            expected=values["answer"],
            kind=str(values.get("length", "all")),
            max_new_tokens=self.settings.max_new_tokens,
            difficulty=str(values.get("difficulty", "all")),
            domain=str(values.get("domain", "all")),
            document=fingerprint(texts["DOC"])[:16],
            cut_tokens=cut_tokens,
        )

    def score(self, question: Choice, answer: str) -> float:
        return float(letter_of(answer) == question.expected)

    def row(self, question: Choice, answer: Answer, reading: Any = None) -> Row:
        found = super().row(question, answer, reading)
        return {
            **found,
            "question": found["question"][-2000:],
            "letter": None if answer.text is None else letter_of(answer.text),
            "difficulty": question.difficulty,
            "domain": question.domain,
            "document": question.document,
            "cut_tokens": question.cut_tokens,
        }

    def summarise(self, rows: Sequence[Row], model: ModelFacts) -> LongBenchV2Results:
        cut = sum(row["cut_tokens"] > 0 for row in rows)
        silent = sum(row["score"] is not None and row["letter"] is None for row in rows)
        notes = [f"{cut} of {len(rows)} prompts were cut in the middle"] if cut else []
        if silent:
            notes.append(f"{silent} of {len(rows)} answers name no choice; raise --max_new_tokens if they were cut")
        return LongBenchV2Results(
            overall=_share(rows),
            by_kind=_by(rows, "kind"),
            by_difficulty=_by(rows, "difficulty"),
            by_domain=_by(rows, "domain"),
            no_letter=silent,
            with_context=self.settings.context,
            notes=notes,
        )

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        text = "" if results["with_context"] else " without the text"
        lines = [f"LongBench v2 of {results['label']}{text}: {shown(results['overall'])}, chance 0.250"]
        for group in ("by_difficulty", "by_kind", "by_domain"):
            lines += [f"{name:>34} {shown(row)} of {row['scored']}" for name, row in results[group].items()]
        failed = results["overall"]["failed"]
        notes = [f"{failed} of {results['overall']['questions']} have no answer"] if failed else []
        return lines + [f"note: {note}" for note in [*notes, *results["notes"]]]


def letter_of(answer: str) -> str | None:
    """The choice that an answer names, as the published runner reads it; None where it names none."""
    plain = answer.replace("*", "")
    found = next((match for pattern in SAID if (match := pattern.search(plain))), None)
    return found[1] if found else None


def _share(rows: Sequence[Row]) -> Tally:
    return tally([row["score"] == 1 for row in rows if row["score"] is not None], len(rows))


def _by(rows: Sequence[Row], name: str) -> dict[str, Tally]:
    values = dict.fromkeys(row[name] for row in rows)
    return {value: _share([row for row in rows if row[name] == value]) for value in values}
