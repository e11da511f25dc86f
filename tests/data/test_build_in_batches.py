"""`--executor batch`: the rows of plain calls, at half the price; killed at any moment, it carries on with its batches."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.llm.ledger import Ledger
from tests.llm.batch_server import Batch, BatchServer
from tests.llm.chat_server import Answer, Body, ChatServer, stand_in

ROWS = 12
PRICE = (1.0, 2.0)


def settings_for(corpus: Path, tokenizer: Path, server: ChatServer, **changes: object) -> DataSettings:
    given: dict[str, object] = {
        "documents": (str(corpus),),
        "llm": server.spec,
        "rows": ROWS,
        "tokenizer": str(tokenizer),
        "min_length_tokens": 100,
        "max_length_tokens": 8192,
        "price_usd_per_million": PRICE,
        "batch_poll_s": 0.01,
        **changes,
    }
    return DataSettings.model_validate(given)


@pytest.fixture
def plain(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> Path:
    """Rows of plain calls."""
    with BatchServer() as server:
        build(settings_for(corpus_dir, tokenizer_dir, server), tmp_path / "plain.jsonl")
        assert not server.batches
    return tmp_path / "plain.jsonl"


@pytest.mark.parametrize("batch_requests", [2000, 3])
def test_batches_give_the_rows_of_plain_calls_at_half_the_price(
    batch_requests: int, corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, plain: Path
) -> None:
    with BatchServer() as server:
        settings = settings_for(
            corpus_dir, tokenizer_dir, server, executor="batch", batch_requests=batch_requests, concurrency=3
        )
        report = build(settings, tmp_path / "rows.jsonl")
        assert not server.bodies, "no plain call"
        assert max(server.sizes) <= batch_requests
        assert set(server.answered.values()) == {1}
    assert (tmp_path / "rows.jsonl").read_bytes() == plain.read_bytes()
    ledgers = [Ledger(path.with_suffix(".ledger.sqlite")) for path in (plain, tmp_path / "rows.jsonl")]
    assert ledgers[1].spent_usd() == pytest.approx(0.5 * ledgers[0].spent_usd())
    assert ledgers[1].totals().calls == ledgers[0].totals().calls == report["spend"]["calls"]
    assert not ledgers[1].batches.batches(server.model)
    for ledger in ledgers:
        ledger.close()
