"""A data card says what is on record and nothing else; a push sends it, the rows, and no path of this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.data.choose.card import card
from longalign.data.choose.push import push
from longalign.data.choose.select import SelectHow, select
from longalign.errors import ConfigError, RunError
from tests.data.choose.rows import row, write
from tests.makers.text import prose


def test_the_card_of_a_selection_tells_the_build_it_came_from(tmp_path: Path) -> None:
    secret = tmp_path / "home-of-somebody"
    secret.mkdir()
    (secret / "essay.txt").write_text(prose(7, 400), encoding="utf-8")
    (secret / "test.jsonl").write_text(json.dumps({"question": "What is asked of the model in this test, and why?"}))
    settings = DataSettings(
        documents=(str(secret / "essay.txt"),),
        rows=3,
        min_length_tokens=200,
        decontaminate=(str(secret / "test.jsonl"),),
    )
    built = build(settings, tmp_path / "long.jsonl")
    select(str(tmp_path / "long.jsonl"), tmp_path / "best.jsonl", SelectHow(keep="2"))
    text = Path(card(tmp_path / "best.jsonl")["out"]).read_text(encoding="utf-8")
    assert "home-of-somebody" not in text
    _, head, body = text.split("---\n", 2)
    front = yaml.safe_load(head)
    assert front["license"] == "unknown"
    assert front["language"] == ["en"]
    assert front["size_categories"] == ["n<1K"]
    assert f"| rows accepted of those tried | 3 of {built['tried']} |" in body
    assert "2 of 3 rows of `long.jsonl`" in body
    assert "texts of test.jsonl" in body
    assert "| documents | essay.txt |" in body
    for reason, count in built["rejected_by_reason"].items():
        assert f"| {reason} | {count} |" in body
    with pytest.raises(RunError, match="exists already"):
        card(tmp_path / "best.jsonl")


def test_a_card_without_records_invents_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", [row(1, license="CC0"), row(2)])
    text = Path(card(file)["out"]).read_text(encoding="utf-8")
    assert text.count("Not on record beside these rows.") == 2
    assert "| CC0 | 1 |" in text
    assert "language:" not in text
    plan = push(file, "me/mine", plan_only=True)
    assert set(plan["files"]) == {"README.md", "mine.jsonl"}
    assert not plan["pushed"]
    with pytest.raises(ConfigError, match="ORG/NAME"):
        push(file, "mine")


@contextmanager
def hub() -> Iterator[tuple[str, list[tuple[str, Any, str]]]]:
    """What of the hub's protocol a commit of small files needs; (address, what was sent, in order)."""
    sent: list[tuple[str, Any, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            body = [json.loads(line) for line in data.splitlines()]
            sent.append((self.path, body, self.headers.get("Authorization", "")))
            page = f"http://{self.headers['Host']}/datasets/me/mine"
            reply: Any = {"url": page}
            if "/preupload/" in self.path:
                files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in body[0]["files"]]
                reply = {"files": files}
            if "/commit/" in self.path:
                reply = {"commitUrl": f"{page}/commit/1", "commitOid": "1", "success": True}
            payload = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_push_is_one_commit_of_rows_and_card(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", [row(1), row(2)])
    with hub() as (address, sent):
        environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
        words = f"-m longalign data push {file} --repo me/mine --private --json"
        command = [sys.executable, *words.split()]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"].endswith("/commit/1")
    assert "hf_secret" not in done.stdout + done.stderr
    made, _, committed = (each for each in sent if "validate" not in each[0])
    asked = made[1][0]
    assert (made[0], asked["type"]) == ("/api/repos/create", "dataset")
    assert asked.get("visibility") == "private" or asked.get("private") is True  # by the age of the hub's client
    assert {token for _, _, token in sent} == {"Bearer hf_secret"}
    files = {
        part["value"]["path"]: base64.b64decode(part["value"]["content"])
        for part in committed[1]
        if part["key"] == "file"
    }
    assert set(files) == {"README.md", "mine.jsonl"}
    assert files["mine.jsonl"] == file.read_bytes()
    gone = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert gone.returncode == 2
    assert "the hub did not take it" in gone.stderr
    assert "Traceback" not in gone.stderr
