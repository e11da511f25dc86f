"""A stand-in for a judge: compares words with the reference, and is labelled so wherever its ratings appear.

It gets the judge prompt that an endpoint gets (`longalign.eval.judge`) and answers `[[n]]` on the prompt's scale.
The place on the scale is the token F1 of answer and reference, or the top when the whole reference stands in the
answer; of several references the best match counts. It measures agreement of wording, not quality: it serves to
exercise the path and to compare extractive answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from longalign.core.text import token_f1, words
from longalign.llm.alternatives import read_alternatives
from longalign.llm.base import Failure, Outcome, Reply, Request

NAME = "offline judge 1 (word overlap with the reference, no language model)"
SCALES = (
    re.compile(r"from (\d+) \(.*?\) to (\d+) \("),
    re.compile(r"is (\d+) \(.*?\bor (\d+) \("),
)


class OfflineJudge:
    """See the module; the same prompt always gets the same rating."""

    name = NAME
    batched = True

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`."""
        for index, request in enumerate(requests):
            yield index, judge(request)


def judge(request: Request) -> Outcome:
    """The rating of one judge prompt; a prompt without `<reference>` and `<answer>` is refused."""
    prompt = request.messages[-1]["content"]
    reference, answer = _section(prompt, "reference"), _section(prompt, "answer")
    scale = next((match for pattern in SCALES if (match := pattern.search(prompt))), None)
    if reference is None or answer is None:
        message = "the offline judge reads only prompts with <reference> and <answer>; use a real judge with this one"
        return Failure(kind="rejected", message=message, model=NAME)
    low, high = (int(scale[1]), int(scale[2])) if scale else (1, 10)
    best = max(agreement(answer, accepted) for accepted in read_alternatives(reference))
    rating = low + round((high - low) * best)
    return Reply(text=f"[[{rating}]]", model=NAME)


def agreement(answer: str, reference: str) -> float:
    """0 to 1: 1 when the whole reference stands in the answer, else token F1."""
    wanted, given = words(reference), words(answer)
    if wanted and _contains(given, wanted):
        return 1.0
    return token_f1(given, wanted)


def _contains(given: list[str], wanted: list[str]) -> bool:
    return any(given[start : start + len(wanted)] == wanted for start in range(len(given) - len(wanted) + 1))


def _section(prompt: str, name: str) -> str | None:
    """The text of the last `<name>` section (an answer cannot open the reference's: that comes before it)."""
    if name == "answer":
        start, end = prompt.rfind(f"\n<{name}>\n"), prompt.rfind(f"</{name}>")
    else:
        start = prompt.find(f"\n<{name}>\n")
        end = prompt.find(f"\n</{name}>", start)
    if start < 0 or end < start:
        return None
    return prompt[start + len(name) + 3 : end].strip()
