"""A scripted model for one dialogue: a function of the request replies, and every request is kept."""

from __future__ import annotations

from collections.abc import Callable, Generator

from longalign.data.instruct import Attempt
from longalign.llm.base import Outcome, Reply, Request
from longalign.llm.check_prompts import ADDED, read_check
from longalign.llm.offline import answer

Script = Callable[[Request], str | Outcome | None]


def run(
    dialogue: Generator[Request, Outcome, Attempt], script: Script = lambda request: None
) -> tuple[Attempt, list[Request]]:
    """The attempt and its requests; where the script gives None, the offline stand-in replies."""
    asked: list[Request] = []
    try:
        request = next(dialogue)
        while True:
            asked.append(request)
            said = script(request)
            if said is None:
                said = answer(request)
            request = dialogue.send(Reply(text=said, model="scripted") if isinstance(said, str) else said)
    except StopIteration as stop:
        return stop.value, asked


def section_of(request: Request) -> str:
    """Which ingredient's request it is; empty for questions and answers."""
    asked = read_check(request.messages[-1]["content"])
    return "" if asked is None or asked.section in ADDED else asked.section
