"""A model behind a ledger: calls that were made are not made again, and money is metered and capped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from longalign.errors import LongAlignError, RunError
from longalign.llm.base import Failure, LanguageModel, Outcome, Request, close_model, tokens_usd
from longalign.llm.budget import LATER, MAX_TOKENS_PER_BYTE
from longalign.llm.endpoint import Endpoint
from longalign.llm.ledger import Ledger, prompt_bytes, request_key


class LedgeredModel:
    """A model behind a ledger: remembers, meters, and never passes the cap.

    Before a call, its worst case is reserved: the cap on new tokens plus one token per byte of prompt. Where that no
    longer fits, calls wait for those under way; at the end they go one by one, each held against what it is likely to
    cost at most (`Budget.tokens_per_byte`). Only such a call could pass the cap, by what its prompt is denser than
    `MARGIN` times any prompt before it. `price` is dollars per million prompt and completion tokens; None means
    unknown, and then cost is unknown too, not zero.
    """

    def __init__(
        self,
        model: LanguageModel,
        ledger: Ledger,
        *,
        price: tuple[float, float] | None,
        max_cost_usd: float | None = None,
    ) -> None:
        self.model = model
        self.ledger = ledger
        self.name = model.name
        self.batched = model.batched
        self.price = price
        self.max_cost_usd = max_cost_usd
        if max_cost_usd is not None and isinstance(model, Endpoint):
            model.retry_unanswered = False  # one reservation, one attempt that may be charged

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; remembered replies come first and cost nothing."""
        misses: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            key = request_key(self.name, request)
            if (known := self.ledger.find(key)) is not None:
                yield index, known
            elif self.ledger.batches.known(key):
                raise RunError(f"{self.ledger.path}: this call is in a batch already; go on with --executor batch")
            else:
                misses.setdefault(key, []).append(index)
        waiting = list(misses)
        while waiting:  # under a cap, what must wait for these calls to end comes in the next round
            calls: dict[str, int] = {}
            later: list[str] = []
            refused: list[str] = []
            for key in waiting:
                request = requests[misses[key][0]]
                likely = self._prompt_usd(request, self.ledger.budget.tokens_per_byte)
                worst = self.worst_usd(request)
                call = self.ledger.begin(key, worst, self.max_cost_usd, likely_usd=likely, patient=not calls)
                if call is None:
                    refused.append(key)
                elif call == LATER:
                    later.append(key)
                else:
                    calls[key] = call
            waiting = later
            for key, outcome in self._ask({key: requests[misses[key][0]] for key in calls}, calls):
                for index in misses[key]:
                    yield index, outcome
            message = f"${self.ledger.spent_usd():.4f} of ${self.max_cost_usd} spent; the next call could pass the cap"
            for index in (index for key in refused for index in misses[key]):
                yield index, Failure(kind="over_budget", message=message, model=self.name)

    def _ask(self, requests: dict[str, Request], calls: dict[str, int]) -> Iterator[tuple[str, Outcome]]:
        """The outcomes of calls that were begun, each recorded before it is given on."""
        keys = list(requests)
        try:
            for position, outcome in self.model.complete(list(requests.values())) if keys else ():
                key = keys[position]
                cost_usd = self._cost_usd(requests[key], outcome)
                outcome = replace(outcome, cost_usd=cost_usd)
                self.ledger.end(calls.pop(key), key, requests[key], outcome, cost_usd)
                yield key, outcome
        except LongAlignError as error:
            give_back = self.ledger.lose if getattr(error, "maybe_billed", False) else self.ledger.release
            give_back(calls.values())
            raise
        except BaseException:
            self.ledger.lose(calls.values())
            raise

    def close(self) -> None:
        """Close the file and the model's connections."""
        self.ledger.close()
        close_model(self.model)

    def worst_usd(self, request: Request) -> float:
        """The most that one call can cost."""
        return self._prompt_usd(request, MAX_TOKENS_PER_BYTE)

    def _prompt_usd(self, request: Request, tokens_per_byte: float) -> float:
        """The cost of all new tokens and of a prompt with so many tokens a byte."""
        if not self.price or not any(self.price):
            return 0.0
        most = prompt_bytes(request) * tokens_per_byte * getattr(self.model, "worst_prompt_price", 1.0)
        return tokens_usd(self.price, most, request.max_new_tokens)

    def _cost_usd(self, request: Request, outcome: Outcome) -> float | None:
        if self.price is None:
            return None
        return self._own_cost_usd(request, outcome) + outcome.lost_attempts * self.worst_usd(request)

    def _own_cost_usd(self, request: Request, outcome: Outcome) -> float:
        assert self.price is not None
        if outcome.prompt_tokens and outcome.completion_tokens is not None:  # a prompt of no tokens is a count unknown
            priced = outcome.priced_prompt_tokens
            prompt = outcome.prompt_tokens if priced is None else priced
            return tokens_usd(self.price, prompt, outcome.completion_tokens)
        if isinstance(outcome, Failure) and not outcome.maybe_billed:
            return 0.0
        return self.worst_usd(request)
