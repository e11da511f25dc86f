"""MT-Bench judged as FastChat does it (lm-sys/FastChat, fastchat/llm_judge), with its prompts from the user's copy.

Facts of its gen_judgment.py and common.py, followed here: the single-answer prompts by name; `math` prompts, with
references, for mathematics, reasoning and coding only; the judge of a second turn sees both turns and both references;
temperature 0 and up to 2,048 tokens; the rating is the first `[[n]]` of the verdict, or else the first `[n]`, a decimal
one too; a verdict without one is left out. Here it must also lie on the scale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.config import ChatSettings
from longalign.errors import ConfigError, DataError
from longalign.eval.cases import Case
from longalign.eval.judge_prompt import SCALES, Rubric, RubricName
from longalign.eval.rating import Rated
from longalign.llm.base import Message

WITH_REFERENCE = ("math", "reasoning", "coding", "arena-hard-200")
"""Categories that are judged against reference answers."""
NAMES = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")
RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
RATING_BACKUP = re.compile(r"\[(\d+\.?\d*)\]")
NEW_TOKENS = 2048


@dataclass(frozen=True)
class Template:
    """A prompt of the file: a system message, and a text with named slots."""

    system: str
    text: str


class FastChatWording:
    """See the module."""

    least_new_tokens = NEW_TOKENS
    judges_silence = True
    asks_again = False

    def __init__(self, settings: ChatSettings) -> None:
        if settings.judge_prompt:
            raise ConfigError("judge_prompt and protocol fastchat exclude each other; its prompts are in judge_prompts")
        if not settings.judge_prompts:
            raise ConfigError(
                "protocol fastchat needs FastChat's prompts: --judge_prompts FILE "
                "(fastchat/llm_judge/data/judge_prompts.jsonl of its repository)"
            )
        self.path = Path(settings.judge_prompts)
        self.templates = read_templates(self.path)
        text = "\n".join(template.text for template in self.templates.values())
        self.rubrics: Mapping[RubricName, Rubric] = {"dialogue": Rubric("dialogue", *SCALES["dialogue"], text)}

    def messages(self, rated: Rated, scoring: int, *, again: bool = False) -> tuple[Message, ...]:
        """See `Wording`; all scorings get the same prompt."""
        turns = [*rated.before, (rated.case, rated.answer)]
        with_reference = rated.case.category in WITH_REFERENCE
        name = f"single-{'math-' if with_reference else ''}v1{'-multi-turn' if rated.before else ''}"
        if rated.before:
            values = {f"question_{n}": case.query for n, (case, _) in enumerate(turns, start=1)}
            values |= {f"answer_{n}": said for n, (_, said) in enumerate(turns, start=1)}
        else:
            values = {"question": rated.case.query, "answer": rated.answer}
        if with_reference:
            values |= {f"ref_answer_{n}": case.reference for n, (case, _) in enumerate(turns, start=1)}
        template = self.templates[name]
        try:
            prompt = template.text.format(**values)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DataError(f"{self.path}: prompt `{name}` has a slot that cannot be filled ({error})") from None
        system = [{"role": "system", "content": template.system}] if template.system else []
        return (*system, {"role": "user", "content": prompt})

    def read(self, verdict: str, rated: Rated) -> float | None:
        """See `Wording`; as published, with the limits of the scale."""
        found = RATING.search(verdict) or RATING_BACKUP.search(verdict)
        low, high = SCALES["dialogue"]
        return float(found[1]) if found and low <= float(found[1]) <= high else None

    def prompt_hash(self, rubric: RubricName) -> str:
        """See `Wording`."""
        return fingerprint([[name, t.system, t.text] for name, t in self.templates.items()])[:16]


def read_templates(path: Path) -> dict[str, Template]:
    """The prompts for single answers in FastChat's `judge_prompts.jsonl`."""
    try:
        rows: list[Any] = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        found = {str(row["name"]): Template(str(row["system_prompt"]), str(row["prompt_template"])) for row in rows}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not FastChat's judge_prompts.jsonl ({type(error).__name__}: {error})") from None
    if missing := [name for name in NAMES if name not in found]:
        raise DataError(f"{path}: has no prompt {missing[0]!r}; give FastChat's judge_prompts.jsonl")
    return {name: found[name] for name in NAMES}


def check_references(cases: Sequence[Case]) -> None:
    """Raise `DataError` where a question needs a reference answer that is not there; before any answer is asked for."""
    for case in cases:
        if case.category in WITH_REFERENCE and not case.reference:
            raise DataError(
                f"question {case.key} ({case.category}) has no reference answer; give --references FILE "
                "(FastChat's data/mt_bench/reference_answer/gpt-4.jsonl)"
            )
