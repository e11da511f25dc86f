"""The batches of one model on their way: submitted, found again after a kill, waited for, and taken in.

Knows nothing of what a request says: a request is a key and a line. What comes back lies in the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from longalign.base.progress import say
from longalign.config.executor import ExecutorSettings
from longalign.errors import EndpointError
from longalign.llm.batch_lines import Line, in_files, read_line
from longalign.llm.batch_store import BatchStore, Submitted
from longalign.llm.batches import GO_ON, Batch, BatchAPI, NoSuchObjectError

SETTLES_S = 10.0
"""A batch that was just created may be missing from the list of batches for a moment."""
SECONDS_BETWEEN_LINES = 60.0
QUEUE_FULL = "token_limit_exceeded"


@dataclass(frozen=True)
class Came:
    """What of a batch has no line now. `rejected`: by key, the words by which the whole batch failed."""

    unanswered: Sequence[str] = ()
    why: str = ""
    rejected: Mapping[str, str] = field(default_factory=dict)


class BatchQueue:
    """See above. `usd_of`: what the request of an output line costs, None where that is not known."""

    def __init__(
        self,
        model: str,
        api: BatchAPI,
        store: BatchStore,
        settings: ExecutorSettings,
        *,
        usd_of: Callable[[Line], float | None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.model, self.api, self.store, self.settings = model, api, store, settings
        self._usd_of, self._sleep = usd_of, sleep
        self._most_requests = settings.batch_requests
        self._most_under_way: int | None = None
        """Requests, where the provider has said that its queue is full."""
        self._carried_on = False
        self._started = self._said_at = time.monotonic()

    @property
    def open(self) -> list[Submitted]:
        """Batches that have not come back."""
        return self.store.batches(self.model)

    @property
    def room(self) -> int | None:
        """Requests that may be submitted now; None where no limit is known."""
        if self._most_under_way is None:
            return None
        return max(0, self._most_under_way - sum(batch.requests for batch in self.open))

    def carry_on(self) -> None:
        """Find batches again whose creation was cut off, and forget those that never came to be."""
        for batch in self.open:
            if batch.state != "creating":
                continue
            assert batch.file_id is not None
            found = self.api.find(batch.file_id, batch.mark)
            left_s = batch.changed_s + SETTLES_S - time.time()
            if found is None and left_s > 0:
                self._sleep(min(left_s, SETTLES_S))
                found = self.api.find(batch.file_id, batch.mark)
            if found is None:
                self.store.collect(batch.mark, {})
            else:
                self.store.submitted(batch.mark, found.id)
        if not self._carried_on and (batches := self.open):
            requests = sum(batch.requests for batch in batches)
            say(f"carrying on with {_several(len(batches))} at {batches[0].url} ({requests:,} requests)")
        self._carried_on = True

    def submit(self, lines: Iterable[tuple[str, bytes]], held: Mapping[str, tuple[int, float]]) -> None:
        """Submit requests in as many batches as it takes, one in memory at a time.

        `held` has the reservation of a request when its line comes.
        """
        for file in in_files(lines, most_requests=self._most_requests):
            mark = self.store.plan(self.model, self.api.base_url, {key: held[key] for key, _ in file})
            file_id = self.api.upload(f"longalign-{mark}.jsonl", [line for _, line in file])
            self.store.creating(mark, file_id)
            self.store.submitted(mark, self.api.create(file_id, mark).id)

    def wait(self) -> Iterator[Came]:
        """Yields once for each batch that has ended, at least one; its lines lie in the store then."""
        self._started = time.monotonic()
        try:
            while True:
                batches, states, turned_away = self.open, [], []
                ended = not batches
                for submitted in batches:
                    state = self._state(submitted)
                    if state is None or state.ended:
                        ended = True
                        yield Came() if state is None else self._take_in(submitted, state)
                    else:
                        states.append(state)
                    if state is not None and any(code == QUEUE_FULL for code, _, _ in state.errors):
                        turned_away.append(submitted)
                        words = state.errors[0][2]
                if turned_away:
                    self._make_smaller(batches, turned_away, words)
                if ended:
                    return
                self._tell(batches, states)
                self._sleep(self.settings.batch_poll_s)
        except KeyboardInterrupt:
            if batches := self.open:
                where = f"{_several(len(batches))} will go on at {batches[0].url}"
                say(f"note: {where}, and be paid; the same command takes up from there")
            raise

    def _state(self, submitted: Submitted) -> Batch | None:
        assert submitted.batch_id is not None
        try:
            return self.api.retrieve(submitted.batch_id)
        except NoSuchObjectError as error:
            self._lost(submitted, error)
            return None

    def _lost(self, submitted: Submitted, error: NoSuchObjectError) -> None:
        """Raises, unless the settings say to go on."""
        if self.settings.lost_batches == "stop":
            raise EndpointError(
                f"{self.api.base_url}: {error}; {submitted.batch_id} was submitted to {submitted.url}: check the key's "
                f"project, or pay for its {submitted.requests:,} requests again with --lost_batches again"
            )
        say(f"note: {submitted.batch_id} is lost; its {submitted.requests:,} requests count at their worst case")
        self.store.lose(submitted.mark)

    def _take_in(self, submitted: Submitted, batch: Batch) -> Came:
        lines: dict[str, tuple[str, float | None]] = {}
        answered = 0
        try:
            for file_id in batch.output_files:
                for text in self.api.lines(file_id):
                    line = read_line(text)
                    if line is not None and line.key not in lines:
                        lines[line.key] = (text, self._usd_of(line))
                        answered += line.answered
        except NoSuchObjectError as error:
            self._lost(submitted, error)
            return Came()
        keys = self.store.keys(submitted.mark)
        left = self.store.collect(submitted.mark, lines)
        rest = submitted.requests - answered
        say(
            f"{batch.id} {batch.status}: {answered:,} requests were answered" + (f", {rest:,} were not" if rest else "")
        )
        if batch.status == "failed":
            return self._failed(submitted, batch, keys)
        return Came(left, f"the batch is {batch.status}")

    def _failed(self, submitted: Submitted, batch: Batch, keys: Sequence[str]) -> Came:
        """A batch that the provider did not begin, which costs nothing."""
        words = "; ".join(words for _, _, words in batch.errors[:2]) or "no reason given"
        if any(code == QUEUE_FULL for code, _, _ in batch.errors):
            return Came()
        bad = {keys[line - 1]: words for _, line, words in batch.errors if line and line <= len(keys)}
        if not bad:
            raise EndpointError(f"{self.api.base_url}: {batch.id} failed: {words}")
        return Came([key for key in keys if key not in bad], words, bad)

    def _make_smaller(self, batches: Sequence[Submitted], turned_away: Sequence[Submitted], words: str) -> None:
        """The provider limits what is under way (tokens by model): submit no more than what it took, or half."""
        taken = sum(batch.requests for batch in batches) - sum(batch.requests for batch in turned_away)
        smallest = min(batch.requests for batch in turned_away)
        if not taken and smallest == 1:
            raise EndpointError(f"{self.api.base_url}: {words} {GO_ON} when others of your batches have ended")
        self._most_under_way = taken or smallest // 2
        self._most_requests = min(self._most_requests, self._most_under_way)
        say(f"note: {words} At most {self._most_under_way:,} requests are submitted at once from now on")
        self._sleep(self.settings.batch_poll_s)

    def _tell(self, batches: Sequence[Submitted], states: Sequence[Batch]) -> None:
        """A line now and then while waiting."""
        now = time.monotonic()
        if now - self._said_at < SECONDS_BETWEEN_LINES:
            return
        self._said_at = now
        done = sum(state.completed + state.failed for state in states)
        requests = sum(batch.requests for batch in batches)
        status = ", ".join(sorted({state.status.replace("_", " ") for state in states}))
        minutes = (now - self._started) / 60
        say(f"{_several(len(batches))} ({status}): {done:,} of {requests:,} requests done, {minutes:.0f} min")


def _several(batches: int) -> str:
    return f"{batches} batch{'es' if batches != 1 else ''}"
