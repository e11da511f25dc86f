"""`Case`, a judged question, and the files of cases about documents: LongBench-Chat, LongCite, LongBench, our own.

Users fetch the public files themselves; none of them ships here. The fields of a row tell its format (questions of
several turns are read in mt_bench.py):

    LongBench-Chat   idx, prompt (document and question), query, answer          few_shots.json by idx - 1
    LongCite         idx, dataset, query, context, answer [list], few_shot_scores [{answer, score}]
    LongBench        input, context, answers [list], dataset, language, _id
    our own          key, prompt, query, reference, and optionally dataset, language, rubric, document, examples

Several answers (a list) are alternatives: the best match counts, as in LongBench's metrics and in LongCite's scorer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from longalign.base.files import fingerprint
from longalign.errors import DataError
from longalign.eval.judge_prompt import SCALES, Example, RubricName
from longalign.eval.longbench_metrics import metric_of
from longalign.eval.token_view import CJK
from longalign.llm.alternatives import write_alternatives
from longalign.llm.prompt import row_message

LONGBENCH = {
    "single-document QA": ("narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh"),
    "multi-document QA": ("hotpotqa", "2wikimqa", "musique", "dureader"),
    "summary": ("gov_report", "qmsum", "multi_news", "vcsum"),
}
"""The paper's three groups of LongBench's data sets (`hotpotqa_e` of LongBench-E belongs to `hotpotqa`)."""
JUDGED = tuple(name for sets in LONGBENCH.values() for name in sets)
"""LongBench's other data sets (classes, counts, passages, code) have metrics that only its own protocol knows."""
SUMMARY_SETS = (*LONGBENCH["summary"], "summ")
SUMMARISE = {"en": "Write a summary of the text above.", "zh": "请总结上文的内容。"}


@dataclass(frozen=True)
class Case:
    """One question: what the model is given, what a right answer says, and how it is judged.

    `document` names the text asked about, so that questions over one text can be told from independent ones.
    `follows`: key of the turn before in the same conversation. An empty `reference` is none; several right answers are
    written as `alternatives.py` does. `category` groups cases beside their data set.
    """

    key: str
    prompt: str
    query: str
    reference: str
    dataset: str
    language: str
    rubric: RubricName
    document: str
    examples: tuple[Example, ...] = ()
    category: str = ""
    follows: str | None = None


RowReader = Callable[[Path, str, int, Mapping[str, Any]], list[Case]]
"""(file, what its keys begin with, number of the row, row) -> the cases of a row. `DataError` names what is wrong."""


def read_cases(paths: Sequence[Path], read_row: RowReader) -> list[Case]:
    """Cases of .json (list) or .jsonl files; of several files, keys start with the file's name.

    `DataError` names file, row and field of what cannot be used.
    """
    cases: list[Case] = []
    for path in paths:
        prefix = f"{path.stem}/" if len(paths) > 1 else ""
        for number, row in enumerate(read_rows(path), start=1):
            if not isinstance(row, dict):
                raise DataError(f"{path}: case {number} is not an object")
            cases += read_row(path, prefix, number, row)
    keys = Counter(case.key for case in cases)
    if doubled := next((key for key, count in keys.items() if count > 1), None):
        raise DataError(f"{paths[0]}: key {doubled!r} occurs more than once; answers are stored by key")
    return cases


def document_rows(
    few_shots: Path | None = None, rubric: Literal["auto", "chat", "qa", "summary"] = "auto"
) -> RowReader:
    """Reads questions about a document, each a case of its own; `few_shots` holds a list of examples for each."""
    shots = read_rows(few_shots) if few_shots else None
    if shots is not None and not all(isinstance(entry, list) for entry in shots):
        raise DataError(f"{few_shots}: expected a list of lists of {{answer, score}}, one list a case")

    def read_row(path: Path, prefix: str, number: int, row: Mapping[str, Any]) -> list[Case]:
        if "turns" in row:
            raise DataError(f"{path}: has `turns`, as MT-Bench's questions; use `eval mt-bench`")
        return [_case(path, prefix, number, row, shots, rubric)]

    return read_row


def _case(
    path: Path, prefix: str, number: int, row: Mapping[str, Any], shots: Sequence[Any] | None, rubric: str
) -> Case:
    where = f"{path}: case {number}"
    dataset = str(row.get("dataset") or ("longbench-chat" if "idx" in row else path.stem))
    if rubric == "auto" and metric_of(dataset) not in (None, *JUDGED):
        raise DataError(
            f"{where}: LongBench scores `{dataset}` by a metric of its own; the judged sets are those of the paper's "
            f"Table 2 ({', '.join(JUDGED)}). Measure it with `eval longbench-v1`, or force a scale with --rubric qa"
        )
    name = _rubric(where, row, dataset, rubric)
    reference = _reference(where, row)
    query = str(first_given(row, "query", "input", default=""))
    language = str(row.get("language") or ("zh" if CJK.search(query or reference) else "en"))
    if not query and name == "summary":
        query = SUMMARISE["zh" if language == "zh" else "en"]
    if not query:
        raise DataError(f"{where}: field `query` (LongBench: `input`) is missing or empty")
    if "prompt" in row:
        prompt = str(row["prompt"])
        document = str(row.get("document") or fingerprint(prompt.replace(query, "").strip())[:16])
    elif "context" in row:
        prompt, document = row_message(str(row["context"]), query), fingerprint(str(row["context"]))[:16]
    else:
        raise DataError(f"{where}: neither `prompt` nor `context` is there; the model needs the document")
    return Case(
        key=prefix + str(first_given(row, "key", "idx", "_id", default=number)),
        prompt=prompt,
        query=query,
        reference=reference,
        dataset=dataset,
        language=language,
        rubric=name,
        document=document,
        examples=_examples(where, number, row, name, shots),
        category=str(row.get("category") or _group(dataset)),
    )


def _group(dataset: str) -> str:
    return next((name for name, sets in LONGBENCH.items() if dataset.removesuffix("_e") in sets), "")


def _rubric(where: str, row: Mapping[str, Any], dataset: str, asked: str) -> RubricName:
    if asked != "auto":
        return cast(RubricName, asked)
    if "rubric" in row:
        if row["rubric"] not in SCALES:
            raise DataError(f"{where}: rubric {row['rubric']!r} is unknown; there are {', '.join(SCALES)}")
        return cast(RubricName, row["rubric"])
    if dataset == "longbench-chat" or "dataset" not in row:
        return "chat"
    return "summary" if dataset.startswith(SUMMARY_SETS) else "qa"


def _reference(where: str, row: Mapping[str, Any]) -> str:
    value = next((row[name] for name in ("reference", "answer", "answers") if row.get(name)), None)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: field `answer` (or `reference`, `answers`) must be a text or a list of texts")
    return write_alternatives(texts)


def _examples(
    where: str, number: int, row: Mapping[str, Any], rubric: RubricName, shots: Sequence[Any] | None
) -> tuple[Example, ...]:
    found = row.get("examples") or row.get("few_shot_scores") or []
    if shots is not None:
        idx = first_given(row, "idx", default=number)
        place = int(idx) - 1 if str(idx).isdigit() else -1
        if not 0 <= place < len(shots):
            raise DataError(f"{where}: there are {len(shots)} lists of examples, numbered from 1; none for `idx` {idx}")
        found = shots[place]
    low, high = SCALES[rubric]
    examples = []
    for entry in found:
        score = entry.get("score") if isinstance(entry, dict) else None
        if not isinstance(score, int) or not low <= score <= high or not isinstance(entry.get("answer"), str):
            raise DataError(
                f"{where}: an example needs `answer` (text) and `score` ({low}-{high}, whole), got {entry!r:.80}"
            )
        examples.append(Example(entry["answer"], score))
    return tuple(examples)


def first_given(row: Mapping[str, Any], *names: str, default: Any = None) -> Any:
    """The first of these fields that holds something. 0 is something: ids may count from it."""
    return next((row[name] for name in names if row.get(name) is not None and row[name] != ""), default)


def read_rows(path: Path) -> list[Any]:
    """The entries of a .json (list) or .jsonl file, at least one."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: expected a list with at least one entry")
    return rows
