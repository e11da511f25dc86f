"""An endpoint asked through its batch API, behind the ledger: half the price, answers within a day.

What is asked goes out together, as one batch or several, and comes back as the outcomes that plain calls would have.
Every step is written down before it is taken (`batch_store`), so whenever the process dies, the next one finds the
batches, waits for them, and reads what came: no request is paid twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from longalign.config.executor import ExecutorSettings
from longalign.errors import EndpointError
from longalign.llm.base import Failure, Outcome, Request, tokens_usd
from longalign.llm.batch_lines import MOST_BYTES, Line, meaning_of, read_line, request_line
from longalign.llm.batch_queue import BatchQueue
from longalign.llm.batches import GO_ON
from longalign.llm.budget import LATER
from longalign.llm.ledger import Ended, Ledger, request_key
from longalign.llm.ledgered import LedgeredModel
from longalign.llm.openai import OpenAICompatibleModel
from longalign.llm.refusals import Refusal
from longalign.llm.reply import reported_tokens

ATTEMPTS = 3
"""Batches that a request may be in without an answer."""
RECORDED_TOGETHER = 200
"""Outcomes a transaction: each waits for the disk, and until then the output lines are kept."""


class BatchedModel(LedgeredModel):
    """See `LedgeredModel`: remembers and meters alike. What is submitted fits under the cap even in its worst case."""

    def __init__(
        self,
        model: OpenAICompatibleModel,
        ledger: Ledger,
        *,
        price: tuple[float, float] | None,
        max_cost_usd: float | None,
        settings: ExecutorSettings,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`price`: of calls in a batch."""
        super().__init__(model, ledger, price=price, max_cost_usd=max_cost_usd)
        self.batched = True
        self.in_flight = settings.batch_requests
        self.endpoint = model
        self.store = ledger.batches
        api = model.batch_api(sleep)
        self.queue = BatchQueue(model.name, api, self.store, settings, usd_of=self._usd_of, sleep=sleep)
        self._tries: Counter[str] = Counter()
        self._forms: Counter[str] = Counter()
        self._last_words: dict[str, str] = {}
        self._rejected: dict[str, str] = {}

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; remembered replies come first and cost nothing."""
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            key = request_key(self.name, request)
            if (known := self.ledger.find(key)) is not None:
                yield index, known
            else:
                places.setdefault(key, []).append(index)
        asked = {key: requests[found[0]] for key, found in places.items()}
        if asked:
            self.queue.carry_on()
        while asked:
            for outcomes in (self._came, self._given_up, self._submit):
                for key, outcome in outcomes(dict(asked)):
                    del asked[key]
                    for index in places[key]:
                        yield index, outcome
            for came in self.queue.wait() if asked else ():
                self._tries.update(came.unanswered)
                self._last_words |= dict.fromkeys(came.unanswered, came.why)
                self._rejected |= came.rejected

    def _came(self, asked: Mapping[str, Request]) -> Iterator[tuple[str, Outcome]]:
        """Outcomes of what came back, each recorded before it is given on. What got no answer is forgotten."""
        came = [key for key in asked if self.store.line(key) is not None]
        stop = ""
        for start in range(0, len(came), RECORDED_TOGETHER):
            ended: list[Ended] = []
            unanswered: list[str] = []
            for key in came[start : start + RECORDED_TOGETHER]:
                meant = self._read(key, asked[key])
                if isinstance(meant, Refusal) and meant.meaning in ("account", "permission", "unknown_model"):
                    words = self.endpoint.clean(meant.words)
                    stop = f"{self.endpoint.base_url}: HTTP {meant.status} for requests of a batch: {words}"
                elif meant is None or isinstance(meant, Refusal):
                    unanswered.append(key)
                    if meant is not None:
                        self._tries[key] += 1
                        self._last_words[key] = self.endpoint.clean(meant.words)
                else:
                    usd = self._cost_usd(asked[key], meant)
                    ended.append(Ended(self.store.number(key), key, asked[key], replace(meant, cost_usd=usd), usd))
            self.store.drop(unanswered)
            self.ledger.end_together(ended, *(self.store.forget(call.key) for call in ended))
            for call in ended:
                self.store.left(call.key)
            for call in ended:
                yield call.key, call.outcome
                self._watch(call.outcome)
        if stop:
            self._drop_refused()
            raise EndpointError(f"{stop}. {GO_ON} when that is mended")

    def _read(self, key: str, request: Request) -> Outcome | Refusal | None:
        """What the line of a request means; None where it is to be asked again in another form."""
        line = read_line(self.store.line(key) or "")
        assert line is not None  # only lines that can be read are collected
        meant = meaning_of(line, request, self.endpoint.read_body, self.name)
        return None if self._adapts(key, meant, line, request) else meant

    def _adapts(self, key: str, meant: Outcome | Refusal, line: Line, request: Request) -> bool:
        """Whether a refused request is to be asked again in another form, as the endpoint wants it."""
        refused = isinstance(meant, Failure) and meant.kind == "rejected"
        if not refused or self._forms[key] >= ATTEMPTS or not self.endpoint.adapts(line, request):
            return False
        self._forms[key] += 1
        return True

    def _drop_refused(self) -> None:
        """Before the run ends over refusals: those not read yet cost nothing, and are asked again next time."""
        lines = {key: read_line(self.store.line(key) or "") for key in self.store.arrived}
        self.store.drop([key for key, line in lines.items() if line is None or not line.answered])

    def _given_up(self, asked: Mapping[str, Request]) -> Iterator[tuple[str, Outcome]]:
        """Failures of requests that no batch answers."""
        for key, request in asked.items():
            if key in self._rejected:
                failure = Failure(kind="rejected", message=self._rejected.pop(key), model=self.name)
            elif self._tries[key] >= ATTEMPTS:
                message = f"{self._last_words.pop(key)} ({self._tries.pop(key)} batches)"
                failure = Failure(kind="unavailable", message=message, model=self.name)
            else:
                continue
            self.ledger.end(self.ledger.budget.hold(0.0), key, request, failure, 0.0)
            yield key, failure
            self._watch(failure)

    def _watch(self, outcome: Outcome) -> None:
        """Raises where so many requests in a row are refused that it is not their own fault."""
        if isinstance(outcome, Failure) and outcome.kind in ("rejected", "malformed"):
            try:
                self.endpoint.breaker.lost(f"{self.endpoint.base_url}: {outcome.message}")
            except EndpointError:
                self._drop_refused()
                raise
        elif not isinstance(outcome, Failure):
            self.endpoint.breaker.success()

    def _submit(self, asked: Mapping[str, Request]) -> Iterator[tuple[str, Outcome]]:
        """Submit what is in no batch; yields failures of what cannot be submitted.

        Under a cap, what may fit when others have turned out cheaper than their worst case waits for them.
        """
        waited_for, room = bool(self.queue.open), self.queue.room
        held: dict[str, tuple[int, float]] = {}
        failures: dict[str, Failure] = {}

        def lines() -> Iterator[tuple[str, bytes]]:
            for key, request in asked.items():
                if room is not None and len(held) >= room:
                    return
                if self.store.known(key):
                    continue
                line = request_line(key, self.endpoint.batch_body(request))
                if len(line) > MOST_BYTES:
                    size = f"a request of {len(line):,} bytes; a batch holds {MOST_BYTES:,}"
                    failures[key] = Failure(
                        kind="too_long", message=f"{size}: lower --max_length_tokens", model=self.name
                    )
                    continue
                worst = self.worst_usd(request)
                reserved = self.ledger.budget.reserve(worst, worst, self.max_cost_usd, patient=False)
                if reserved is None or (reserved[0] == LATER and not held and not waited_for):
                    spent = f"${self.ledger.spent_usd():.4f} of ${self.max_cost_usd} spent"
                    message = f"{spent}; the next call could pass the cap"
                    failures[key] = Failure(kind="over_budget", message=message, model=self.name)
                elif reserved[0] != LATER:
                    held[key] = reserved
                    yield key, line

        self.queue.submit(lines(), held)
        yield from failures.items()

    def _usd_of(self, line: Line) -> float | None:
        """What a line costs as far as it says so itself."""
        if not line.answered or self.price is None:
            return 0.0
        usage = line.body.get("usage") if isinstance(line.body, Mapping) else None
        counts = usage if isinstance(usage, Mapping) else {}
        prompt, completion = reported_tokens(counts.get("prompt_tokens"), counts.get("completion_tokens"))
        return None if prompt is None or completion is None else tokens_usd(self.price, prompt, completion)
