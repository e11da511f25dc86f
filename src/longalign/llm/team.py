"""Two models behind one interface: the writer of questions and answers, and a checker of another family.

A dialogue yields a `CheckRequest` for what the checker is to judge. Without a team it is a request like any other, and
the writer judges itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longalign.llm.base import LanguageModel, Outcome, Request, check_extras, close_model


@dataclass(frozen=True, kw_only=True)
class CheckRequest(Request):
    """A request for the checker, where a build has one. Its ledger key is that of the same plain request."""


class Team:
    """`model` writes, `checker` judges; rows carry the writer's name.

    Both answer in rounds if one of them is a local model, which must not be called from several threads.
    """

    def __init__(self, model: LanguageModel, checker: LanguageModel) -> None:
        self.model = model
        self.checker = checker
        self.name = model.name
        self.batched = model.batched or checker.batched

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`."""
        checks = [index for index, request in enumerate(requests) if isinstance(request, CheckRequest)]
        others = [index for index, request in enumerate(requests) if not isinstance(request, CheckRequest)]
        for model, places in ((self.model, others), (self.checker, checks)):
            if places:
                for position, outcome in model.complete([requests[place] for place in places]):
                    yield places[position], outcome

    def check_extras(self, request: Request) -> None:
        """Extras of requests are the writer's; see `base.check_extras`."""
        check_extras(self.model, request)

    def close(self) -> None:
        """Release what both hold."""
        close_model(self.model)
        close_model(self.checker)
