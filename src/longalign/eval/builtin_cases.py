"""Cases without a download: the offline stand-in's questions over held-out text, with its answers as reference.

They exercise all of judged evaluation and compare models trained on such rows. They are not LongBench-Chat: the
questions are extractive and made by rules, and results say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from longalign.base.files import fingerprint, random_for
from longalign.errors import DataError
from longalign.eval.cases import Case
from longalign.eval.haystack import Haystack
from longalign.eval.token_view import CharacterView
from longalign.llm.base import Failure, Request, complete_all
from longalign.llm.open import open_model
from longalign.llm.prompt import Task, answer_request, questions_request, row_message

DATASET = "builtin (offline stand-in questions over held-out text)"
TASKS: tuple[Task, ...] = ("extraction", "general")
ATTEMPTS = 5


def builtin_cases(texts: Iterable[str], *, count: int, tokens: int, seed: int) -> list[Case]:
    """`count` questions, each over its own excerpt of about `tokens` tokens; keyed by seed and number.

    Lengths are estimated from characters, so that every model gets the same cases whatever its tokenizer.
    """
    view = CharacterView()
    haystack = Haystack.build(texts, view, max(8, count // 2) * tokens)
    cases: list[Case] = []
    for number in range(ATTEMPTS * count):
        if len(cases) == count:
            break
        rng = random_for(seed, "builtin case", number)
        document, _ = haystack.stream(rng, tokens).window(tokens)
        if case := _ask(document, TASKS[number % len(TASKS)], seed, f"builtin-{number}"):
            cases.append(case)
    if not cases:
        raise DataError("no question could be made over the held-out text; give --cases FILE or longer documents")
    return cases


def _ask(document: str, task: Task, seed: int, key: str) -> Case | None:
    maker = open_model("offline")
    (listed,) = complete_all(maker, [_request(questions_request(document, task, 1, "en"), seed)])
    if isinstance(listed, Failure) or ": " not in listed.text:
        return None
    query = listed.text.splitlines()[0].split(": ", 1)[1]
    (said,) = complete_all(maker, [_request(answer_request(document, query, "en"), seed)])
    if isinstance(said, Failure) or not said.text.strip():
        return None
    return Case(key, row_message(document, query), query, said.text, DATASET, "en", "chat", fingerprint(document)[:16])


def _request(text: str, seed: int) -> Request:
    return Request(messages=({"role": "user", "content": text},), seed=seed)
