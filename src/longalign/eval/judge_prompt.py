"""The judge's prompt: filling in question, reference, examples and answer. The verdict is read in verdict.py.

A judge is any `LanguageModel`. It sees the question, the reference, answers to that question which people have
scored (in an order drawn anew for every scoring: in 38 of LongBench-Chat's 50 questions the last example is
the worst, which biases a fixed order), and the answer. It gives a whole number as `[[n]]` (paper section 4.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from longalign.base.files import fingerprint, random_for
from longalign.errors import DataError

RubricName = Literal["chat", "qa", "summary", "dialogue"]
SLOT = re.compile(r"\{\{(question|reference|reference_section|examples|answer)\}\}")
NO_REFERENCE = "(There is no reference: judge by what you know.)"
EXAMPLES_HEADING = "Answers to this question that people have rated:"


@dataclass(frozen=True)
class Example:
    """An answer to the case's question that a person has scored."""

    answer: str
    score: int


@dataclass(frozen=True)
class Rubric:
    """A scale of whole numbers and the prompt that explains it."""

    name: RubricName
    low: int
    high: int
    template: str

    @property
    def prompt_hash(self) -> str:
        """Names the prompt's wording; scores by different wordings are not comparable."""
        return fingerprint(self.template)[:16]

    def share(self, score: float) -> float:
        """A score as 0-100 of the scale."""
        return 100 * (score - self.low) / (self.high - self.low)


SCALES: dict[RubricName, tuple[int, int]] = {"chat": (1, 10), "qa": (1, 3), "summary": (1, 5), "dialogue": (1, 10)}


def rubric(name: RubricName, template: Path | None = None) -> Rubric:
    """The rubric of a task: LongBench-Chat 1-10, question answering 1-3, summaries 1-5, MT-Bench's turns 1-10.

    `template` is a prompt file of one's own: either with `{{question}}`, `{{reference}}` (or `{{reference_section}}`,
    which vanishes where there is none), `{{examples}}`, `{{answer}}`, or in LongBench-Chat's form (`prompt_fs.txt`)
    with `{}` for question, reference, then answer and score of each example, then the answer.
    """
    if template is None:
        text = files("longalign.eval").joinpath(f"prompts/judge_{name}.md").read_text(encoding="utf-8")
    else:
        try:
            text = template.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{template}: judge prompt cannot be read ({error.strerror})") from None
        slots = set(SLOT.findall(text))
        blanks = text.count("{}")
        named = {"question", "answer"} <= slots and slots & {"reference", "reference_section"}
        if not named and (blanks < 3 or blanks % 2 == 0):
            raise DataError(
                f"{template}: a judge prompt needs {{{{question}}}}, {{{{reference}}}} and {{{{answer}}}}, "
                f"or `{{}}` 3 times and twice more for each example; found {blanks} `{{}}`"
            )
    return Rubric(name, *SCALES[name], text)


def judge_prompt(rubric: Rubric, question: str, reference: str, answer: str, examples: Sequence[Example] = ()) -> str:
    """The judge's prompt. Texts are filled in one pass, so a slot's name inside an answer stays text."""
    if not SLOT.search(rubric.template):
        return _fill_blanks(rubric, question, reference, answer, examples)
    shown = [f'<example rating="[[{e.score}]]">\n{e.answer}\n</example>\n\n' for e in examples]
    values: Mapping[str, str] = {
        "question": question,
        "reference": reference or NO_REFERENCE,
        "reference_section": f"<reference>\n{reference}\n</reference>\n\n" if reference else "",
        "examples": f"{EXAMPLES_HEADING}\n\n{''.join(shown)}" if shown else "",
        "answer": answer,
    }
    return SLOT.sub(lambda slot: values[slot[1]], rubric.template)


def _fill_blanks(rubric: Rubric, question: str, reference: str, answer: str, examples: Sequence[Example]) -> str:
    parts = rubric.template.split("{}")
    wanted = (len(parts) - 4) // 2
    if len(examples) != wanted:
        raise DataError(
            f"the judge prompt has room for {wanted} examples and the case has {len(examples)}; "
            "use a prompt with {{examples}}, or give the case's examples with --few-shots"
        )
    values = [question, reference or NO_REFERENCE]
    for example in examples:
        values += [example.answer, str(example.score)]
    values.append(answer)
    return "".join(text for pair in zip(parts, [*values, ""], strict=True) for text in pair)


def shuffled(examples: Sequence[Example], seed: int, case: str, scoring: int) -> list[Example]:
    """The case's examples in the order of one scoring; depends on seed, case and scoring only."""
    order = random_for(seed, "judge", case, scoring).permutation(len(examples))
    return [examples[i] for i in order]
