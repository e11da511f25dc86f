"""Questions over long documents with reference answers: LongBench-Chat, its LongCite variant, LongBench, our own.

Users fetch the public files themselves; nothing of them ships here. Read forms, by the fields of the first row:

    LongBench-Chat   idx, prompt (document and question), query, answer          few_shots.json by idx - 1
    LongCite         idx, dataset, query, context, answer [list], few_shot_scores [{answer, score}]
    LongBench        input, context, answers [list], dataset, language, _id
    ours             key, prompt, query, reference, and optionally dataset, language, rubric, document, examples
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from longalign.data.prompt import row_message
from longalign.errors import DataError
from longalign.eval.judge import SCALES, Example, RubricName
from longalign.eval.token_view import CJK
from longalign.run import fingerprint

SUMMARY_SETS = ("gov_report", "qmsum", "multi_news", "vcsum", "summ")
SUMMARISE = {"en": "Write a summary of the text above.", "zh": "请总结上文的内容。"}


@dataclass(frozen=True)
class Case:
    """One question: what the model is given, what a right answer says, and how it is judged.

    `document` names the text asked about, so that questions over one text can be told from independent ones.
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


def read_cases(
    path: Path, few_shots: Path | None = None, rubric: Literal["auto", "chat", "qa", "summary"] = "auto"
) -> list[Case]:
    """Cases of a .json (list) or .jsonl file. `DataError` names file, row and field of what cannot be used."""
    rows = _rows(path)
    shots = _rows(few_shots) if few_shots else None
    if shots is not None and not all(isinstance(entry, list) for entry in shots):
        raise DataError(f"{few_shots}: expected a list of lists of {{answer, score}}, one list a case")
    cases = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: case {number} is not an object")
        cases.append(_case(path, number, row, shots, rubric))
    keys = [case.key for case in cases]
    if doubled := next((key for key in keys if keys.count(key) > 1), None):
        raise DataError(f"{path}: key {doubled!r} occurs more than once; answers are stored by key")
    return cases


def _case(path: Path, number: int, row: dict[str, Any], shots: Sequence[Any] | None, rubric: str) -> Case:
    where = f"{path}: case {number}"
    dataset = str(row.get("dataset") or "longbench-chat")
    name = _rubric(where, row, dataset, rubric)
    reference = _reference(where, row)
    query = str(row.get("query") or row.get("input") or "")
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
    key = str(row.get("key") or row.get("idx") or row.get("_id") or number)
    return Case(
        key, prompt, query, reference, dataset, language, name, document, _examples(where, number, row, name, shots)
    )


def _rubric(where: str, row: Mapping[str, Any], dataset: str, asked: str) -> RubricName:
    if asked != "auto":
        return cast(RubricName, asked)
    if "rubric" in row:
        if row["rubric"] not in SCALES:
            raise DataError(f"{where}: rubric {row['rubric']!r} is unknown; there are {', '.join(SCALES)}")
        return cast(RubricName, row["rubric"])
    if dataset == "longbench-chat":
        return "chat"
    return "summary" if dataset.startswith(SUMMARY_SETS) else "qa"


def _reference(where: str, row: Mapping[str, Any]) -> str:
    value = next((row[name] for name in ("reference", "answer", "answers") if row.get(name)), None)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: field `answer` (or `reference`, `answers`) must be a text or a list of texts")
    return texts[0] if len(texts) == 1 else "\n".join(f"({n}) {text}" for n, text in enumerate(texts, start=1))


def _examples(
    where: str, number: int, row: Mapping[str, Any], rubric: RubricName, shots: Sequence[Any] | None
) -> tuple[Example, ...]:
    found = row.get("examples") or row.get("few_shot_scores") or []
    if shots is not None:
        place = int(row.get("idx") or number) - 1
        if not 0 <= place < len(shots):
            raise DataError(f"{where}: there are {len(shots)} lists of examples, none for number {place + 1}")
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


def _rows(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: expected a list with at least one entry")
    return rows
