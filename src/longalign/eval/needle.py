"""Needle retrieval over lengths x depths (paper section 4.2, Figure 4), for any local model or endpoint.

A register entry that no training row can hold (held-out words) is hidden in real text among others like it, and
asked for. Prompts have the asked length with everything counted. Scoring is exact; intervals are Wilson's.

Scoring a needle answer exactly, name and value apart.

A model tuned on short rows only may still find the value but no longer restate the name beyond the lengths it
was tuned on; one number would hide which of the two was lost.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longalign.base.files import atomic_write_json, atomic_write_text, random_for
from longalign.base.progress import Progress
from longalign.base.stage import open_stage
from longalign.bundled.register import Fact, draw_facts, find_facts
from longalign.config import EvalSettings, NeedleSettings
from longalign.data.source import documents_fingerprint, read_documents
from longalign.errors import ConfigError
from longalign.eval.haystack import Haystack, hide
from longalign.eval.subject import Subject, alone, model_fingerprint, open_subject
from longalign.eval.task import ANSWERS, RESULTS, SCORES, Answer, Item, mean_of, passing_failures, spend, tally
from longalign.eval.token_view import TokenView

VERSION = 1
DEFAULT_HAYSTACK = {"en": "builtin:python-docs-heldout", "zh": "builtin:chinese-heldout"}
HAYSTACKS_OF_TEXT = 4  # read documents until they could fill the longest prompt this many times


@dataclass(frozen=True)
class NeedleItem:
    """One question, where its needle stands, and what else was there to be found."""

    item: Item
    length: int
    depth: float
    prompt_tokens: int
    needle_token: int
    repeats_text: bool
    needle: Fact
    others: tuple[Fact, ...]


def needle(settings: EvalSettings, out: Path) -> dict[str, Any]:
    """Stage `needle`: writes `answers.jsonl`, `scores.jsonl` and `results.json` into `out`, returns the results."""
    wanted = settings.needle or NeedleSettings()
    settings = alone(settings, "needle", wanted)
    haystack = wanted.haystack or (DEFAULT_HAYSTACK[wanted.language],)
    inputs = {"model": model_fingerprint(settings), "haystack": documents_fingerprint(haystack)}
    with open_stage(out, "needle", settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.done:
            return stage.summary
        with open_subject(settings, out) as subject:
            items = needle_items(wanted, read_texts(haystack), subject.view)
            answers = subject.ask([i.item for i in items], out / ANSWERS, "needle")
            forced = _forced(wanted, subject, items, out)
        scores = [score_row(item, answers[item.item.key], forced.get(item.item.key)) for item in items]
        results = {
            "task": "needle",
            "label": settings.label or subject.model.name,
            "model_seed": settings.model_seed,
            **subject.describe(),
            "haystack": list(haystack),
            "language": wanted.language,
            "distractors": wanted.distractors,
            **summarize(scores, subject.window),
            "spend": spend(list(answers.values())),
        }
        atomic_write_text(out / SCORES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in scores))
        atomic_write_json(out / RESULTS, results)
        return results if passing_failures(answers) else stage.finish(results)


def read_texts(paths: Sequence[str]) -> Iterator[str]:
    """Texts of documents, one at a time."""
    return (document.text for document in read_documents(paths))


def needle_items(settings: NeedleSettings, texts: Iterable[str], view: TokenView) -> list[NeedleItem]:
    """All questions, each from its own key (seed, length, depth, number), so none depends on another."""
    if not settings.lengths:
        raise ConfigError("needle lengths are empty; give at least one, for example --lengths 512,1024")
    longest = max(settings.lengths)
    haystack = Haystack.build(texts, view, HAYSTACKS_OF_TEXT * longest)
    depths = depth_grid(settings.depths)
    cells = [(n, d, k) for n in sorted(set(settings.lengths)) for d in depths for k in range(settings.needles)]
    items = []
    with Progress("needle prompts", total=len(cells), unit="prompt") as bar:
        for length, depth, number in cells:
            items.append(_item(settings, haystack, view, length, depth, number))
            bar.advance()
    return items


def depth_grid(count: int) -> list[float]:
    """`count` depths from 0 (start) to 1 (end); a single one is the middle."""
    return [0.5] if count == 1 else [round(float(d), 4) for d in np.linspace(0, 1, count)]


def _item(
    settings: NeedleSettings, haystack: Haystack, view: TokenView, length: int, depth: float, number: int
) -> NeedleItem:
    key = f"{length}/{depth:g}/{number}"
    rng = random_for(settings.seed, "needle", settings.language, key)
    facts = draw_facts(rng, 1 + settings.distractors, split="heldout", language=settings.language)
    stream = haystack.stream(rng, length)
    prompt = hide(view, stream, length, facts[0], depth, facts[1:], rng.random(settings.distractors).tolist())
    others = tuple(fact for fact in find_facts(prompt.content) if fact.name != facts[0].name)
    item = Item(key, ({"role": "user", "content": prompt.content},), settings.max_new_tokens)
    return NeedleItem(
        item, length, depth, prompt.length_tokens, prompt.needle_token, prompt.repeats_text, facts[0], others
    )


def _forced(
    settings: NeedleSettings, subject: Subject, items: Sequence[NeedleItem], out: Path
) -> dict[str, dict[str, float]]:
    """Token accuracy by key, where it was asked for and logits can be had."""
    if not settings.forced_tokens:
        return {}
    if not hasattr(subject.model, "tokenizer"):
        raise ConfigError("needle.forced_tokens needs the logits of a local model; leave it out for endpoints")
    from longalign.eval.forced import FORCED, forced_accuracy

    questions = [(item.item.key, item.item.messages, item.needle) for item in items]
    found = forced_accuracy(subject.model, questions, out / FORCED)
    return {key: {"name": row.name, "value": row.value} for key, row in found.items()}


def score_row(item: NeedleItem, answer: Answer, forced: dict[str, float] | None = None) -> dict[str, Any]:
    """One line of `scores.jsonl`: the question, what was said, what of it is right; null where there is no answer."""
    score = None if answer.text is None else asdict(score_needle(answer.text, item.needle, item.others))
    return {
        "key": item.item.key,
        "length": item.length,
        "depth": item.depth,
        "prompt_tokens": item.prompt_tokens,
        "reported_prompt_tokens": answer.prompt_tokens,
        "needle_token": item.needle_token,
        "repeats_text": item.repeats_text,
        "question": item.needle.question,
        "expected": item.needle.sentence,
        "answer": answer.text,
        "failure": answer.failure,
        "score": score,
        "forced": forced,
    }


def summarize(scores: Sequence[dict[str, Any]], window: int | None) -> dict[str, Any]:
    """Cells {length: {depth: ...}}, totals by length, and notes on what limits them."""
    lengths = sorted({row["length"] for row in scores})
    depths = sorted({row["depth"] for row in scores})
    cells = {
        str(length): {
            f"{depth:g}": cell(r for r in scores if (r["length"], r["depth"]) == (length, depth)) for depth in depths
        }
        for length in lengths
    }
    by_length = {}
    for length in lengths:
        rows = [row for row in scores if row["length"] == length]
        by_length[str(length)] = {
            **cell(rows),
            "realised_tokens": _spread(rows, "prompt_tokens"),
            "reported_tokens": _spread(rows, "reported_prompt_tokens"),
            "beyond_window": None if window is None else length > window,
        }
    return {"cells": cells, "by_length": by_length, "overall": cell(scores), "notes": _notes(scores, by_length, window)}


def cell(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Counts and shares of a group of questions. Failed ones are left out of shares, and bound them."""
    rows = list(rows)
    scored = [row["score"] for row in rows if row["score"] is not None]
    forced = [row["forced"] for row in rows if row.get("forced")]
    out = tally([score["value"] for score in scored], len(rows))
    out["worst"], out["best"] = (round((out["right"] + n) / len(rows), 6) for n in (0, out["failed"]))
    for part in ("name", "value", "exact"):
        out[f"{part}_accuracy"] = mean_of(scored, part)
    for part in ("name_words", "value_words"):
        out[part] = mean_of(scored, part)
    for part in ("name", "value"):
        out[f"forced_{part}"] = mean_of(forced, part)
    return out


def _spread(rows: Sequence[dict[str, Any]], field: str) -> dict[str, float] | None:
    values = [row[field] for row in rows if row[field] is not None]
    return {"min": min(values), "mean": round(sum(values) / len(values), 1), "max": max(values)} if values else None


def _notes(scores: Sequence[dict[str, Any]], by_length: dict[str, Any], window: int | None) -> list[str]:
    notes = []
    if beyond := [length for length, row in by_length.items() if row["beyond_window"]]:
        notes.append(f"lengths {', '.join(beyond)} exceed the model's window of {window} tokens; asked anyway")
    if failed := sum(row["score"] is None for row in scores):
        notes.append(f"{failed} of {len(scores)} questions have no answer and are left out of the shares")
    if any(row["repeats_text"] for row in scores):
        notes.append("the haystack is shorter than some prompts, so text repeats in them")
    return notes


WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class NeedleScore:
    """What an answer got right. Shares are over the words of name and value, by position in the full answer."""

    name: bool
    value: bool
    exact: bool
    name_words: float
    value_words: float


def score_needle(answer: str, needle: Fact, others: Sequence[Fact] = ()) -> NeedleScore:
    """`value` is right if the needle's value is given and no other entry's: listing all of them is no retrieval."""
    said = words(answer)
    full = words(needle.sentence)
    name, value = words(needle.name), words(needle.value)
    prefix = full[: len(full) - len(name) - len(value)]
    body = said[len(prefix) :] if said[: len(prefix)] == prefix else said
    wrong = any(_occurs(words(other.value), said, needle.language) for other in others if other.value != needle.value)
    return NeedleScore(
        name=_occurs(name, said, needle.language),
        value=_occurs(value, said, needle.language) and not wrong,
        exact=said == full,
        name_words=_matches(body[: len(name)], name),
        value_words=_matches(body[len(name) :], value),
    )


def words(text: str) -> list[str]:
    """Words without case, punctuation and width variants."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _occurs(part: list[str], whole: list[str], language: str) -> bool:
    if language == "zh":  # spaces between Chinese words carry nothing
        return "".join(part) in "".join(whole)
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def _matches(said: list[str], wanted: list[str]) -> float:
    return sum(a == b for a, b in zip(said, wanted, strict=False)) / len(wanted)
