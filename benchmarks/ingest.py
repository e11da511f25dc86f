"""Documents become a corpus file: documents and megabytes a second on one core by kind, and memory by their number.

    python -m benchmarks.ingest             # writes benchmarks/results/ingest.json and the claim in docs/guide/data.md
    python -m benchmarks.ingest --quick     # fewer documents, about a minute

Kinds: real files of Debian packages (tests/makers/real_files.py), and their texts again as rows. Everything that
`data build` does before its first call is timed: reading, the quality check, counting of tokens, shingles, writing.
Seconds are processor time of the process and its workers, all on one core. Memory: invented documents of 200 bytes, and
the parts that grow with the number of documents alone, for a million documents with the shingles of 2 kB each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tests.makers.real_files import package

from benchmarks.demo import quote
from benchmarks.measure import RESULTS, Measured, in_process, timed_with_peak, write_result
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.core.shingles import shingles
from longalign.core.text_quality import checked
from longalign.data.corpus import open_corpus
from longalign.data.document_draw import DocumentSummary, candidates
from longalign.data.document_table import DocumentTable
from longalign.data.documents import Document, Reading, documents_at
from longalign.data.sketches import Sketches
from longalign.data.source import read_documents

ROW_CHARACTERS = 8000
NUMBERS = (10_000, 50_000, 200_000)
MILLION = 1_000_000
SHINGLES = 350
GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "data.md"
COMMAND = "python -m benchmarks.ingest"
DOCUMENT_CHARACTERS = 70
"""About 200 bytes."""
FILES = {
    "text": (".txt", ".txt.gz", ".rst", ".md"),
    "HTML": (".html",),
    "PDF": (".pdf", ".pdf.gz"),
}
PACKAGES = ("debian-faq", "debian-history", "debian-policy", "developers-reference")


def files_of(kind: str) -> list[str]:
    """Files of a kind, in a fixed order."""
    found = [path for name in PACKAGES for path in sorted(package("debian", name).rglob("*")) if path.is_file()]
    return [str(path) for path in found if path.name.endswith(FILES[kind]) and "dedication" not in path.name]


def rows_of(kind: str, folder: Path) -> list[str]:
    """The texts of the text files as rows of about 8,000 characters."""
    texts = [document.text for name in files_of("text") for document in documents_at(name, [])]
    rows = [text[n : n + ROW_CHARACTERS] for text in texts for n in range(0, len(text), ROW_CHARACTERS)]
    if kind == "JSONL":
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        path = folder / "rows.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path)
    return [str(path)]


def settings_for(documents: list[str]) -> DataSettings:
    """A build's, with one worker."""
    return DataSettings(documents=tuple(documents), file_workers=1, max_length_tokens=65536, min_length_tokens=24)


def ingest(settings: DataSettings, folder: Path) -> dict[str, object]:
    """The corpus file's report."""
    counter = TokenCounter(settings.tokenizer)
    corpus = open_corpus(folder / "c.sqlite", folder / "left_out.jsonl", settings, counter, "benchmark")
    report = corpus.report
    corpus.close()
    return {"read": report.read, "usable": report.usable, "tokens": report.usable_tokens}


def by_kind(kind: str) -> Measured:
    """The whole, then each step over the same documents."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with TemporaryDirectory() as place:
        settings = settings_for(files_of(kind) if kind in FILES else rows_of(kind, Path(place)))
        list(read_documents(settings.documents[:1]))  # what is loaded once
        whole_s, report = processor_s(lambda: ingest(settings, Path(place)))
        counter = TokenCounter(settings.tokenizer)
        read_s, documents = processor_s(lambda: list(read_documents(settings.documents, how=Reading.of(settings))))
        steps = {"read": read_s}
        for name, step in STEPS.items():
            steps[name] = processor_s(partial(each, step, documents, counter))[0]
    megabytes = sum(len(document.text.encode()) for document in documents) / 1e6
    return {
        "kind": kind,
        "files": len(settings.documents),
        "documents": report["read"],
        "megabytes_of_text": round(megabytes, 2),
        "seconds": round(whole_s, 2),
        "documents_per_s": round(len(documents) / whole_s, 1),
        "megabytes_per_s": round(megabytes / whole_s, 2),
        "megabytes_per_s_by_step": {name: round(megabytes / seconds, 1) for name, seconds in steps.items()},
    }


STEPS: dict[str, Callable[[Document, TokenCounter], object]] = {
    "quality": lambda document, counter: checked(document.text),
    "tokens": lambda document, counter: counter.counts([document.text]),
    "shingles": lambda document, counter: shingles(document.text),
}


def each(step: Callable[[Document, TokenCounter], object], documents: list[Document], counter: TokenCounter) -> None:
    """Do a step for every document."""
    for document in documents:
        step(document, counter)


def processor_s(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of a call, that of its processes included, and what it gave."""
    before = _used_s()
    result = call()
    return max(_used_s() - before, 1e-9), result


def _used_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def by_number(number: int, characters: int) -> Measured:
    """Peak memory of making the corpus of so many invented documents, and of drawing from it."""
    with TemporaryDirectory() as place:
        path = Path(place) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(
                json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in invented(number, characters)
            )
        megabytes = path.stat().st_size / 1e6
        settings = settings_for([str(path)])
        report, measured = timed_with_peak(lambda: ingest(settings, Path(place)))
        corpus_megabytes = (Path(place) / "c.sqlite").stat().st_size / 1e6
    return {
        "documents": number,
        "megabytes_of_text": round(megabytes),
        "usable": report["usable"],
        "peak_mib": round(measured["peak_mib"]),
        "seconds": round(measured["cpu_s"]),
        "corpus_megabytes": round(corpus_megabytes),
    }


def of_parts(number: int) -> Measured:
    """Peak memory of what is kept of each document: shingles while they are compared, lengths and ids while drawing."""

    def sketches() -> int:
        kept, rng = Sketches(), np.random.default_rng(0)
        for n in range(number):
            kept.add(id_of(n), 400 + n % 100, np.sort(rng.integers(0, 2**64, SHINGLES, dtype=np.uint64)))
        return sum(1 for _ in kept.repeated(0.8))

    def draw() -> object:
        table = DocumentTable(DocumentSummary(id_of(n), "en", 400 + n % 100) for n in range(number))
        return next(candidates(table, passes=4, exponent=1.0, seed=0))

    found: Measured = {"documents": number, "shingles_each": SHINGLES}
    for name, part in (("sketches", sketches), ("draw", draw)):
        _, measured = timed_with_peak(part)
        found |= {f"{name}_peak_mib": round(measured["peak_mib"]), f"{name}_seconds": round(measured["cpu_s"])}
    return found


def id_of(number: int) -> str:
    """The id of an invented document."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def invented(number: int, characters: int) -> Iterator[str]:
    """Texts of drawn Chinese characters, some much more frequent; one in fifty is a piece of the text before it.

    Chinese, because its language is told by script: the model for others takes most of the time and no memory.
    """
    rng = np.random.default_rng(0)
    before = ""
    for n in range(number):
        if n % 50 == 49:
            yield before[: len(before) // 2]
            continue
        drawn = np.minimum(rng.zipf(1.2, characters), 5000)
        before = "".join(map(chr, 0x4E00 + drawn))
        yield before


def claim(found: Mapping[str, Any]) -> str:
    """The guide's measured claim, as Markdown."""
    machine, parts = found["measured_on"], found["parts"]
    first, last = found["memory"][0], found["memory"][-1]
    steps = list(found["rows"][0]["megabytes_per_s_by_step"])
    return "\n".join(
        [
            f"On one core ({machine['processor']}, shared), commit {machine['commit']}; MB of text, processor time:",
            "",
            f"| kind | documents | MB | documents/s | MB/s | each step alone, MB/s: {', '.join(steps)} |",
            "|---|---|---|---|---|---|",
            *map(_line, found["rows"]),
            "",
            f"Memory above what the program itself takes: {first['peak_mib']} MiB with {first['documents']:,}",
            f"documents of 200 bytes, {last['peak_mib']} MiB with {last['documents']:,}. Most of the growth is",
            f"shingles, of which 160 MB are kept at most. For {parts['documents']:,} documents of 2 kB it takes",
            f"{parts['sketches_peak_mib']} MiB to compare them, and {parts['draw_peak_mib']} MiB to draw rows from.",
        ]
    )


def _line(row: Mapping[str, Any]) -> str:
    steps = ", ".join(map(str, row["megabytes_per_s_by_step"].values()))
    values = (
        f"{row['documents']:,} | {row['megabytes_of_text']} | {row['documents_per_s']:,} | {row['megabytes_per_s']}"
    )
    return f"| {row['kind']} | {values} | {steps} |"


def main() -> None:
    """Measure each case in a process of its own, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10,000 documents at most")
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS, help="numbers of documents for the peak")
    parser.add_argument("--characters", type=int, default=DOCUMENT_CHARACTERS, help="of an invented document")
    parser.add_argument("--note", default="", help="kept with the results, such as what else ran")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        case = json.loads(asked.one)
        print(json.dumps(CASES[case[0]](*case[1:])))
        sys.exit()
    start = time.monotonic()
    environment = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    rows, memory = [], []
    for kind in (*FILES, "JSONL", "Parquet"):
        rows.append(in_process("benchmarks.ingest", ["kind", kind], environment=environment))
        print(json.dumps(rows[-1]), flush=True)
    for number in asked.numbers[:1] if asked.quick else asked.numbers:
        case = ["number", number, asked.characters]
        memory.append(in_process("benchmarks.ingest", case, environment=environment))
        print(json.dumps(memory[-1]), flush=True)
    many = MILLION // 100 if asked.quick else MILLION
    parts = in_process("benchmarks.ingest", ["parts", many], environment=environment)
    print(json.dumps(parts), flush=True)
    more = {"memory": memory, "parts": parts, "note": asked.note, "wall_s": round(time.monotonic() - start)}
    write_result("ingest", (__doc__ or "").split("\n")[0], rows, folder=asked.results, **more)
    if asked.results == RESULTS and not asked.quick:
        found = json.loads((RESULTS / "ingest.json").read_text(encoding="utf-8"))
        GUIDE.write_text(quote(claim(found), GUIDE.read_text(encoding="utf-8"), COMMAND), encoding="utf-8")


CASES: dict[str, Callable[..., Measured]] = {"kind": by_kind, "number": by_number, "parts": of_parts}


if __name__ == "__main__":
    main()
