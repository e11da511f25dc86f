"""A run folder as the stages leave it, with simulated models instead of trained ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longalign.base.files import atomic_write_json, random_for
from longalign.base.stage import open_stage
from longalign.bundled.skills import short_rows
from longalign.config import ChatSettings, EvalSettings, ExtendSettings, NeedleSettings, ShortSettings, TrainSettings
from longalign.core.batching import plan_steps
from longalign.core.step_plan import save_plan
from longalign.eval import needle, short
from longalign.eval.answers import Answer, spend
from longalign.eval.cases import Case
from longalign.eval.judge import Judge, describe_judge
from longalign.eval.judged import score_row
from longalign.eval.judged_figures import summarize
from longalign.eval.needle_figures import summarize as summarize_needle
from longalign.eval.rating import OwnWording, Rated
from longalign.eval.task import kinds
from longalign.eval.token_view import CharacterView
from longalign.llm.open import open_model
from tests.makers.text import filler

LENGTHS = (128, 256, 512, 1024, 2048)
NEEDLE = NeedleSettings(form="register", lengths=LENGTHS, depths=5, needles=8)
# Needle accuracy by length: the prototype's figures of the tiny recipe.
MODELS = {
    "base": (0.96, 0.90, 0.05, 0.0, 0.0),
    "extended": (0.97, 0.95, 0.94, 0.94, 0.86),
    "sft-short": (0.90, 0.96, 0.94, 0.19, 0.03),
    "sft-long": (0.91, 0.90, 0.90, 0.97, 0.93),
}
SHORT_SKILL = {"base": 0.2, "extended": 0.25, "sft-short": 0.93, "sft-long": 0.92}


@cache
def needle_questions() -> list[needle.NeedleItem]:
    return needle.needle_items(NEEDLE, [filler(400, 1000 * n) for n in range(3)], CharacterView())


def answer(key: str, text: str | None, failure: str | None = None) -> Answer:
    return Answer(key, text, failure, True, "stop", 100, 8, None, "simulated")


def write_scores(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "scores.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def write_needle(folder: Path, label: str, rates: tuple[float, ...], seed: int | None, failed: int = 0) -> None:
    settings = EvalSettings(model=label, label=label, needle=NEEDLE)
    asked = needle.Needle(NEEDLE)
    rate = dict(zip(LENGTHS, rates, strict=True))
    rows = []
    for number, item in enumerate(needle_questions()):
        rng = random_for(seed or 0, label, item.item.key)
        right = rng.random() < rate[item.length]
        wrong = item.others[0].sentence if rng.random() < 0.7 else f"Register entry: {item.needle.name} lost words."
        said = answer(item.item.key, item.needle.sentence if right else wrong)
        if number < failed:
            said = answer(item.item.key, None, "rejected: HTTP 400: <too long> & more")
        rows.append(asked.row(item, said))
    with open_stage(folder, "needle", settings=settings, inputs={"model": label}, version=1) as stage:
        results = {"task": "needle", "label": label, "model_seed": seed, "length_unit": "tokens"}
        results |= {"model_window_tokens": 256 if label == "base" else 2048, **asdict(summarize_needle(rows, None))}
        write_scores(folder, rows)
        atomic_write_json(folder / "results.json", results)
        stage.finish(results)


def write_short(folder: Path, label: str, rate: float, seed: int | None) -> None:
    settings = EvalSettings(model=label, label=label, short=ShortSettings())
    skill = short.Short(ShortSettings())
    rows = []
    for row in short_rows(140, seed=0, split="heldout"):
        right = random_for(seed or 0, label, row["id"]).random() < rate
        asked = short.question_of(row, 48)
        rows.append(skill.row(asked, answer(asked.key, asked.expected if right else "amber")))
    with open_stage(folder, "short", settings=settings, inputs={"model": label}, version=1) as stage:
        names = kinds(rows)
        results = {"task": "short", "label": label, "model_seed": seed, "overall": asdict(short.shares(rows))}
        results["by_kind"] = {name: asdict(short.shares(r for r in rows if r["kind"] == name)) for name in names}
        write_scores(folder, rows)
        atomic_write_json(folder / "results.json", results)
        stage.finish(results)


def write_chat(folder: Path, label: str, mean: float) -> None:
    settings = EvalSettings(model=label, label=label, chat=ChatSettings())
    wording = OwnWording(ChatSettings())
    judge = Judge(open_model("offline-judge"), wording, 2, 64)
    rows, verdicts, rated = [], {}, []
    for n in range(20):
        case = Case(f"{n}", "p", f"What of {n}?", f"It is {n}.", "builtin", "en", "chat", f"d{n // 2}")
        for k in range(2):
            value = int(np.clip(round(random_for(0, label, n, k).normal(mean, 2)), 1, 10))
            text = "unreadable" if n == 3 and k == 1 else f"[[{value}]]"
            verdicts[f"{n}#{k}"] = answer(f"{n}#{k}", text)
        rated.append(Rated(case, f"I think {n}."))
        ratings = [reading.rating for reading in judge.readings(rated[-1], verdicts)]
        rows.append(score_row(case, answer(f"{n}", rated[-1].answer), ratings, wording.rubrics["chat"], 0))
    with open_stage(folder, "chat", settings=settings, inputs={"model": label}, version=1) as stage:
        results = {"task": "chat", "label": label, "model_seed": None, "cases": "builtin (simulated)"}
        results |= asdict(summarize(rows, wording.rubrics))
        results |= {"judge": asdict(describe_judge(judge, "own", rated, verdicts)), "spend": asdict(spend([]))}
        write_scores(folder, rows)
        atomic_write_json(folder / "results.json", results)
        stage.finish(results)


def write_results(folder: Path, name: str, results: dict[str, Any]) -> None:
    """A finished stage that left nothing but results."""
    with open_stage(folder, name, settings=EvalSettings(), inputs={}, version=1) as stage:
        atomic_write_json(folder / "results.json", {"task": name, **results})
        stage.finish(results)


def write_training(folder: Path, settings: ExtendSettings | TrainSettings, seed: int, long_share: float) -> None:
    rng = random_for(seed, str(folder.name))
    short_lengths = rng.integers(60, 256, size=200)
    long_lengths = rng.integers(512, 2048, size=int(200 * long_share))
    lengths = np.concatenate([short_lengths, long_lengths])
    (folder / "tokens").mkdir(parents=True)
    np.save(folder / "tokens" / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
    plan = plan_steps(lengths, window=2048, sequences_per_step=16, strategy=settings.strategy, seed=seed)
    save_plan(plan, folder / "plan.npz")
    name = "extend" if isinstance(settings, ExtendSettings) else "train"
    with open_stage(folder, name, settings=settings, inputs={}, version=1) as stage:
        for step in range(1, 301):
            loss = 1.2 + 3 * np.exp(-step / 60) + rng.normal(0, 0.08)
            append_jsonl_fast(folder / "metrics.jsonl", {"step": step, "loss": loss})
            if step % 50 == 0 and name == "train":
                bands = {"64-127": loss + 0.1, "128-255": loss, "1024-2047": loss + 1 - long_share}
                sources = {"chat": loss, "long": loss + 1 - long_share}
                heldout = {"by_length": bands, "by_source": sources}
                append_jsonl_fast(folder / "metrics.jsonl", {"step": step, "heldout": heldout})
        stage.finish(
            {
                "steps": 300,
                "sequences": len(lengths),
                "final_loss": 1.21,
                "target_tokens_per_s": 3456.7,
                "train_s": 75.2,
            }
        )


def append_jsonl_fast(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")


def write_run(root: Path, seeds: tuple[int, ...] = (0,)) -> Path:
    """The whole recipe, as a finished run leaves it."""
    write_training(root / "extend", ExtendSettings(window=2048), 0, 0.8)
    for seed in seeds:
        for arm, share in (("short", 0.0), ("long", 0.4)):
            place = root / "train" / f"{arm}-seed{seed}"
            write_training(place, TrainSettings(window=2048, seed=seed, strategy="packed"), seed, share)
    for label, rates in MODELS.items():
        for seed in seeds if label.startswith("sft") else (None,):
            place = root / "eval" / (label if seed is None else f"{label}-{seed}")
            write_needle(place / "needle", label, rates, seed)
            write_short(place / "short", label, SHORT_SKILL[label], seed)
            if label.startswith("sft") and seed == seeds[0]:
                write_chat(place / "chat", label, 4 if label == "sft-short" else 7)
    rates = {"padded": 4600, "sorted": 14200, "packed": 16800}
    found = {n: {"tokens_per_s": r, "target_tokens_per_s": r / 4, "wall_s": 1e5 / r} for n, r in rates.items()}
    atomic_write_json(root / "throughput" / "results.json", found)
    return root


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "tiny")
