"""OpenAI's batch API: upload a file of requests, create a batch, ask how far it is, read its output.

Everything passing (429, 5xx, a lost connection) is tried again for `GIVE_UP_S`, and what creates a batch is never sent
twice blindly: before another attempt, the batch is looked for by its mark, which is in its metadata.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, TypeVar

from longalign.errors import ConfigError, EndpointError
from longalign.llm.batch_lines import URL
from longalign.llm.breaker import retry_after_s
from longalign.llm.refusals import Refusal, body_of, refusal

T = TypeVar("T")
MARK = "longalign"
GIVE_UP_S = 900.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
UNREACHED_ATTEMPTS = 4
"""Without a connection, before anything was answered: the address is wrong, or there is no server."""
ENDED = ("completed", "failed", "expired", "cancelled")
GO_ON = "What was submitted goes on at the provider: run the same command again"


class NoSuchObjectError(Exception):
    """The provider does not know a batch or a file."""


@dataclass(frozen=True)
class Batch:
    """A batch as the provider tells of it. `errors`: why it failed as a whole: (code, line from 1 or None, words)."""

    id: str
    status: str
    completed: int = 0
    failed: int = 0
    output_files: tuple[str, ...] = ()
    errors: tuple[tuple[str, int | None, str], ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status in ENDED


class BatchAPI:
    """The batch API behind one client of the `openai` SDK."""

    def __init__(
        self,
        client: Any,
        sdk: Any,
        base_url: str,
        *,
        key_name: str,
        clean: Callable[[str], str],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clean`: one line without the key, of what a server says."""
        self.base_url = base_url
        self._client, self._sdk = client, sdk
        self._key_name, self._clean, self._sleep = key_name, clean, sleep
        self._answered = False

    def upload(self, name: str, lines: Sequence[bytes]) -> str:
        """The id of a new input file."""
        with TemporaryFile() as file:  # sent from there in pieces: it may be 200 MB
            file.writelines(lines)

            def send() -> Any:
                file.seek(0)
                return self._client.files.create(file=(name, file, "application/jsonl"), purpose="batch")

            return str(self._patiently(send, starts=True).id)

    def create(self, file_id: str, mark: str) -> Batch:
        """A new batch over an input file, or the one that an earlier attempt created."""
        attempted = False

        def send() -> Batch:
            nonlocal attempted
            if attempted and (found := self._look(file_id, mark)) is not None:
                return found
            attempted = True
            return _read(
                self._client.batches.create(
                    input_file_id=file_id, endpoint=URL, completion_window="24h", metadata={MARK: mark}
                )
            )

        return self._patiently(send, starts=True)

    def find(self, file_id: str, mark: str) -> Batch | None:
        """The batch over an input file, where one was created."""
        return self._patiently(lambda: self._look(file_id, mark))

    def retrieve(self, batch_id: str) -> Batch:
        """How far a batch is. Raises `NoSuchObjectError`."""
        return self._patiently(lambda: _read(self._client.batches.retrieve(batch_id)))

    def lines(self, file_id: str) -> Iterator[str]:
        """The lines of an output or error file. Raises `NoSuchObjectError`."""
        content: bytes = self._patiently(lambda: self._client.files.content(file_id).content)
        for line in content.split(b"\n"):
            if line.strip():
                yield line.decode("utf-8", "replace")

    def _look(self, file_id: str, mark: str) -> Batch | None:
        for batch in self._client.batches.list(limit=100):
            if batch.input_file_id == file_id or (batch.metadata or {}).get(MARK) == mark:
                return _read(batch)
        return None

    def _patiently(self, send: Callable[[], T], *, starts: bool = False) -> T:
        """What `send` returns, after as many attempts as it takes. `starts`: a server without the API refuses it."""
        since, pause_s, attempts = time.monotonic(), FIRST_PAUSE_S, 0
        while True:
            asked_s = None
            try:
                answered = send()
                self._answered = True
                return answered
            except self._sdk.APIStatusError as error:
                self._answered = True
                meant = refusal(error.status_code, body_of(error.response))
                words = f"HTTP {error.status_code}: {self._clean(meant.words)}"
                if starts and error.status_code in (404, 405, 501):
                    raise ConfigError(
                        f"{self.base_url}: {words}; this server has no batch API: use --executor local"
                    ) from None
                if error.status_code == 404:
                    raise NoSuchObjectError(words) from None
                if meant.meaning not in ("rate_limit", "overloaded", "server"):
                    raise EndpointError(self._told(meant, words)) from None
                asked_s = retry_after_s(error.response.headers)
            except self._sdk.APIConnectionError as error:
                words = self._clean(str(error.__cause__ or error))
                attempts += 1
                if not self._answered and attempts >= UNREACHED_ATTEMPTS:
                    raise EndpointError(
                        f"{self.base_url} cannot be reached ({words}); start the server or correct the URL after `@`"
                    ) from None
            if time.monotonic() - since > GIVE_UP_S:
                raise EndpointError(f"{self.base_url}: {words}; failing for {GIVE_UP_S:.0f} s. {GO_ON}")
            self._sleep(max(asked_s or 0.0, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _told(self, meant: Refusal, words: str) -> str:
        if meant.meaning == "account":
            return f"{self.base_url}: {words}; the account's quota is used up. {GO_ON} then"
        if meant.meaning == "permission":
            return f"{self.base_url}: {words}; not permitted, check {self._key_name}"
        return (
            f"{self.base_url}: {words}; the batch API refuses this: use --executor local, or a smaller --batch_requests"
        )


def _read(batch: Any) -> Batch:
    counts = getattr(batch, "request_counts", None)
    errors = getattr(getattr(batch, "errors", None), "data", None) or ()
    files = (getattr(batch, "output_file_id", None), getattr(batch, "error_file_id", None))
    return Batch(
        id=batch.id,
        status=batch.status,
        completed=getattr(counts, "completed", None) or 0,
        failed=getattr(counts, "failed", None) or 0,
        output_files=tuple(file for file in files if file),
        errors=tuple((error.code or "", error.line, error.message or error.code or "") for error in errors),
    )
