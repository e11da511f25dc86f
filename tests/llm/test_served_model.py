"""A real server, `transformers serve`, seen through the endpoint client: the same replies as the local model's."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longalign.llm.base import Request, complete_all, open_model

MISSING = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs transformers[serving]; not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def base_url(model_dir: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model_dir), "--device", "cpu"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        assert server.poll() is None, "transformers serve did not start"
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_a_served_model_and_the_same_model_here_give_the_same_replies(base_url: str, model_dir: Path) -> None:
    texts = ["what does the document say", "the quick brown fox", "ask the lazy dog about the system"]
    requests = [Request(messages=({"role": "user", "content": text},), max_new_tokens=12) for text in texts]
    served = complete_all(open_model(f"openai:{model_dir}@{base_url}", concurrency=1), requests)
    local = complete_all(open_model(str(model_dir), device="cpu"), requests)
    for there, here in zip(served, local, strict=True):
        assert there.text.strip() == here.text
        assert there.prompt_tokens == here.prompt_tokens
        assert type(there) is type(here)
