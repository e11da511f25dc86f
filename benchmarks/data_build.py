"""Claim: `data build` keeps an endpoint's slots at least 95% busy, takes little time of its own, and little memory.

    python -m benchmarks.data_build                              every case below
    python -m benchmarks.data_build --distilabel PYTHON --data-designer PYTHON
                                                                 also these, of the environments of these interpreters

The endpoint is `benchmarks.chat_endpoint`, a process of its own behind real HTTP. `own_ms` is the processor time of the
building process for one row of two calls (questions, answer) over a document of 33,000 characters, modules loaded;
`sdk_ms` is that of the same calls made by the openai client alone, from as many threads. `busy_share` is measured in
the endpoint; `busy_share_before_tail` leaves out the last two calls of each slot, when rows run out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.makers.text import prose

from benchmarks.measure import RESULTS, Measured, in_process, write_result
from longalign.base.files import fingerprint
from longalign.base.machine import describe_machine
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.build import build

CHARACTERS = 33_000  # about 8k tokens of Qwen's tokenizer, 11k of the bundled one
CASES: dict[str, tuple[Any, ...]] = {
    "instant endpoint, 64 slots, paper": ("build", "paper", 64, 0.0, 0.0, 600),
    "instant endpoint, 64 slots, best": ("build", "best", 64, 0.0, 0.0, 600),
    "0.05-5 s a call, 16 slots, paper": ("build", "paper", 16, 0.05, 5.0, 600),
    "0.05-5 s a call, 64 slots, paper": ("build", "paper", 64, 0.05, 5.0, 2400),
    "0.05-5 s a call, 64 slots, best": ("build", "best", 64, 0.05, 5.0, 1200),
    "a million documents, 2,000 rows": ("million", 1_000_000, 2_000),
    "ten thousand documents, 2,000 rows": ("million", 10_000, 2_000),
}
BESIDE = ((64, 300, 0.0), (64, 600, 5.0))
"""Slots, rows, longest call of the runs beside other tools."""


@contextmanager
def endpoint(slots: int, shortest_s: float, longest_s: float) -> Iterator[str]:
    """The base URL of a fake endpoint."""
    options = ["--slots", str(slots), "--shortest", str(shortest_s), "--longest", str(longest_s)]
    command = [sys.executable, "-m", "benchmarks.chat_endpoint", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def stats(url: str) -> Measured:
    """What the endpoint saw."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answered:
        found: Measured = json.load(answered)
    return found


def texts(count: int) -> Iterator[str]:
    """Documents of about 8k tokens."""
    base = "\n\n".join(prose(seed, 60) for seed in range(40))
    for number in range(count):
        start = number * 911 % len(base)
        yield (prose(number, 12) + "\n\n" + base[start:] + base)[:CHARACTERS]


def fill(settings: DataSettings, out: Path, documents: Iterable[tuple[str, int]]) -> None:
    """A corpus of (text, length in tokens) for a build, without the time that reading and comparing takes."""
    build(settings.model_copy(update={"rows": 1}), out, plan_only=True)
    db = sqlite3.connect(out / "rows.work" / "documents.sqlite")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("DELETE FROM documents")
    meta = json.dumps({"source": "books", "title": "t", "language": "en", "origin": "o"})
    db.executemany(
        "INSERT INTO documents VALUES (?, ?, ?, 'en', ?, NULL)",
        ((fingerprint(n), zlib.compress(text.encode(), 1), meta, length) for n, (text, length) in enumerate(documents)),
    )
    db.commit()
    db.close()


def build_case(preset: str, slots: int, shortest_s: float, longest_s: float, rows: int) -> Measured:
    """A build against the endpoint."""
    import openai

    with tempfile.TemporaryDirectory() as name, endpoint(slots, shortest_s, longest_s) as url:
        folder = Path(name)
        long = next(texts(1))
        (folder / "one.txt").write_text(long)
        settings = DataSettings(
            preset=preset, documents=(str(folder / "one.txt"),), llm=f"openai:m@{url}", rows=rows,
            min_length_tokens=1000, concurrency=slots,
        )  # fmt: skip
        length = TokenCounter(settings.tokenizer).counts([long])[0]
        fill(settings, folder / "out", ((text, length) for text in texts(rows + rows // 10)))
        with endpoint(slots, 0, 0) as other:  # what is loaded once is not part of a row
            first = settings.model_copy(update={"rows": 8, "llm": f"openai:m@{other}"})
            fill(first, folder / "first", ((text, length) for text in texts(10)))
            build(first, folder / "first")
        wall, cpu = time.perf_counter(), time.process_time()
        report = build(settings, folder / "out")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        seen = stats(url)
        measured = {
            "preset": preset, "slots": slots, "rows": report["rows"], "tried": report["tried"],
            "rows_sha256": report["rows_sha256"], "wall_s": round(wall, 2),
            "rows_per_s": round(report["rows"] / wall, 2), "tokens_a_document": length,
            "cpu_ms": round(1000 * cpu / report["tried"], 2), "slots_busy_share_in_report": report["slots_busy_share"],
            **seen,
        }  # fmt: skip
    if longest_s == 0:
        with endpoint(slots, 0, 0) as url:
            client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
            completions = client.chat.completions  # loads modules
            local = threading.local()

            def ask(text: str) -> None:
                for more in ("1: ", "What?"):
                    local.last = completions.create(
                        model="m", messages=[{"role": "user", "content": f"{text}\n\n{more}"}], max_tokens=640, seed=1
                    )

            cpu = time.process_time()
            with ThreadPoolExecutor(slots) as pool:
                list(pool.map(ask, texts(rows)))
            sdk = 1000 * (time.process_time() - cpu) / rows
        measured |= {"sdk_ms": round(sdk, 2), "own_ms": round(measured["cpu_ms"] - sdk, 2)}
    return measured


def million_case(count: int, rows: int) -> Measured:
    """A build from a corpus file of many short documents, written without its reader, by the offline stand-in."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "one.txt").write_text(prose(0, 4))
        settings = DataSettings(documents=(str(folder / "one.txt"),), rows=rows, min_length_tokens=30)
        short = [prose(number, 4) for number in range(500)]
        fill(settings, folder / "out", ((short[n % 500], 200 + n % 100) for n in range(count)))
        before = peak_mib()
        wall, cpu = time.perf_counter(), time.process_time()
        report = build(settings, folder / "out")
        return {
            "documents": count, "rows": report["rows"], "wall_s": round(time.perf_counter() - wall, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "peak_mib": peak_mib(), "before_mib": before,
        }  # fmt: skip


def peak_mib() -> float:
    """The most memory that this process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def beside(tool: str, python: str, slots: int, rows: int, longest_s: float) -> Measured:
    """The same two calls a document by another tool, and then by us, against the same endpoint at equal concurrency."""
    script = Path(__file__).with_name(f"{tool}_pipeline.py")
    shortest_s = 0.05 if longest_s else 0.0
    with tempfile.TemporaryDirectory() as name, endpoint(slots, shortest_s, longest_s) as url:
        file = Path(name) / "documents.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(rows)), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, str(script), str(file), url, str(slots)]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        found = re.findall(r"DONE (.*)", done.stdout)
        if not found:
            raise RuntimeError(done.stderr[-2000:])
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        theirs = json.loads(found[0]) | {"wall_with_start_s": round(wall, 2), "cpu_with_start_s": round(cpu, 2)}
        theirs |= stats(url)
    ours = build_case("paper", slots, shortest_s, longest_s, rows)
    return {
        "slots": slots, "longest_s": longest_s, tool: theirs, "longalign": ours,
        "time_over_ours": round(theirs["run_wall_s"] / ours["wall_s"], 2),
        "cpu_over_ours": round(1000 * theirs["run_cpu_s"] / (ours["cpu_ms"] * ours["tried"]), 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this; the result file keeps the others")
    parser.add_argument("--distilabel", default="", help="Python of an environment with distilabel")
    parser.add_argument("--data-designer", default="", help="Python of an environment with data-designer")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the instant endpoint; the least is kept")
    parser.add_argument("--note", default="")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "none")
    if asked.one:
        kind, *case = json.loads(asked.one)
        print(json.dumps(build_case(*case) if kind == "build" else million_case(*case)))
        return
    file = asked.results / "data_build.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    rows: dict[str, Measured] = {row["what"]: row for row in known.get("rows", []) if row["what"] in CASES}
    others: dict[str, Measured] = {row["what"]: row for row in known.get("beside", []) if "what" in row}
    commit = describe_machine()["commit"]

    def write() -> None:  # after each case: some take minutes
        order = [rows[name] for name in CASES if name in rows]
        claim = (__doc__ or "").split("\n")[0]
        write_result("data_build", claim, order, folder=asked.results, beside=[*others.values()], note=asked.note)

    for name, case in CASES.items():
        if asked.only in name:
            runs = [in_process("benchmarks.data_build", case) for _ in range(asked.repeats if "instant" in name else 1)]
            least = min(runs, key=lambda run: run.get("cpu_ms", 0))  # other work on the machine only adds
            all_runs = {key: [run[key] for run in runs] for key in ("cpu_ms", "sdk_ms") if len(runs) > 1}
            rows[name] = {"what": name, **least, "runs": all_runs, "commit": commit}
            print(json.dumps(rows[name]), flush=True)
            write()
    for tool, python in (("distilabel", asked.distilabel), ("data_designer", asked.data_designer)):
        for slots, count, longest_s in BESIDE if python else ():
            name = f"{tool}, {slots} slots, calls of up to {longest_s:g} s"
            others[name] = {"what": name, **beside(tool, python, slots, count, longest_s), "commit": commit}
            print(json.dumps(others[name]), flush=True)
            write()


if __name__ == "__main__":
    main()
