"""How good is the judge? Agreement of its ratings with people's (paper appendix: 300 answers, two experts).

Self-test: each question comes with answers that a person has scored. Leave one out, let the judge score it with the
others as examples, and compare. LongBench-Chat's 50 questions give 150 such scores without new human work. The paper's
figures on its own 300 answers: Spearman between experts 0.817, judge with examples 0.844, without 0.788.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, read_jsonl, write_jsonl
from longalign.base.stage import open_stage
from longalign.config import ChatSettings
from longalign.core.stats import RankCorrelation, rank_correlation
from longalign.errors import ConfigError, DataError
from longalign.eval.answers import VERDICTS, Answer, passing_failures
from longalign.eval.cases import Case, first_given
from longalign.eval.judge import Judge, describe_judge, open_judge, verdict_lines
from longalign.eval.longbench_chat import LongBenchChat
from longalign.eval.rating import Rated
from longalign.eval.results import RESULTS, SCHEMA, SCORES, mean_of_known
from longalign.eval.task import Reads

VERSION = 2  # 2: verdicts are read without what they quote, and asked for again


def validate_judge(settings: ChatSettings, out: Path) -> dict[str, Any]:
    """Stage `judge`: the self-test over all human-scored examples of the cases."""
    if not settings.cases:
        raise ConfigError("judging the judge needs cases with human-scored examples; give --cases and --few-shots")
    files = [name for name in (*settings.cases, settings.few_shots, settings.judge_prompt) if name]
    inputs = Reads({"cases": files}).fingerprints()
    with open_stage(out, "judge", settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.done:
            return stage.summary
        trials = leave_one_out(LongBenchChat(settings).cases())
        if not trials:
            raise DataError(
                f"{', '.join(settings.cases)}: no case has human-scored examples; give them with --few-shots FILE"
            )
        rated = [Rated(case, answer) for case, answer, _ in trials]
        with open_judge(settings, out) as judge:
            verdicts = judge.verdicts(rated, out / VERDICTS, label="judging the judge")
        scores = [_score(judge, one, human, verdicts) for one, (_, _, human) in zip(rated, trials, strict=True)]
        found = agreement(scores)
        facts = asdict(describe_judge(judge, settings.protocol, rated, verdicts))
        results = {
            "schema": SCHEMA,
            "task": "judge",
            **found.to_file(),
            "judge": facts,
            "text": "\n".join([sentence(found), *verdict_lines(facts)]),
        }
        write_jsonl(out / SCORES, scores)
        atomic_write_json(out / RESULTS, results)
        return results if passing_failures(verdicts) else stage.finish(results)


def leave_one_out(cases: Sequence[Case]) -> list[tuple[Case, str, int]]:
    """(case without the example, its answer, its human score) for every example of every case."""
    trials = []
    for case in cases:
        for place, example in enumerate(case.examples):
            rest = case.examples[:place] + case.examples[place + 1 :]
            trials.append((replace(case, key=f"{case.key}:{place}", examples=rest), example.answer, example.score))
    return trials


def _score(judge: Judge, rated: Rated, human: int, verdicts: Mapping[str, Answer]) -> dict[str, Any]:
    ratings = [reading.rating for reading in judge.readings(rated, verdicts)]
    return {
        "key": rated.case.key,
        "rubric": rated.case.rubric,
        "answer": "",
        "human": human,
        "ratings": ratings,
        "score": mean_of_known(ratings),
    }


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of judge and people; `mean_distance` and `mean_excess` of the judge on the scale of ratings
    (None where nothing is scored). Unscored answers are left out and counted."""

    answers: int
    unscored: int
    correlation: RankCorrelation
    mean_distance: float | None
    mean_excess: float | None

    def to_file(self) -> dict[str, Any]:
        """As results hold it: everything side by side."""
        counts = {"answers": self.answers, "unscored": self.unscored}
        distances = {"mean_distance": self.mean_distance, "mean_excess": self.mean_excess}
        return counts | asdict(self.correlation) | distances


def agreement(scores: Sequence[Mapping[str, Any]]) -> Agreement:
    """From rows with `score` (or None) and `human`."""
    pairs = [(row["score"], row["human"]) for row in scores if row["score"] is not None]
    unscored = len(scores) - len(pairs)
    if not pairs:
        none = replace(rank_correlation([0.0], [0.0]), n=0)
        return Agreement(len(scores), unscored, none, None, None)
    judged, human = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    excess = [a - b for a, b in pairs]
    return Agreement(
        len(scores),
        unscored,
        rank_correlation(judged, human),
        sum(map(abs, excess)) / len(excess),
        sum(excess) / len(excess),
    )


def sentence(found: Agreement) -> str:
    """The agreement for a person."""
    got = found.correlation
    if got.spearman is None or got.kendall is None or found.mean_excess is None:
        return f"no agreement can be computed: {got.n} of {found.answers} answers scored, or all alike"
    limits = "" if got.spearman_low is None else f" [{got.spearman_low:.2f}, {got.spearman_high:.2f}]"
    return (
        f"judge and people agree with Spearman {got.spearman:.2f}{limits}, Kendall {got.kendall:.2f} "
        f"on {got.n} answers ({found.unscored} unreadable); the judge gives "
        f"{found.mean_excess:+.2f} on average. In the paper, on other answers: 0.84 with examples, experts 0.82."
    )


def against_people(folder: Path, human: Path) -> dict[str, Any]:
    """Agreement of a finished judged folder's scores with people's: a .jsonl of `key` (or `idx`) and `score`."""
    given: dict[str, float] = {}
    for number, row in enumerate(read_jsonl(human), start=1):
        key, score = first_given(row, "key", "idx"), row.get("score")
        if key is None or not isinstance(score, int | float):
            raise DataError(f"{human}:{number}: each row needs `key` (or `idx`) and a number `score`")
        given[str(key)] = float(score)
    rows = read_jsonl(folder / SCORES)
    matched = [{"score": row["score"], "human": given[row["key"]]} for row in rows if row["key"] in given]
    if not matched:
        raise DataError(f"{human}: none of its keys is a question of {folder}")
    found = agreement(matched)
    counts = {"task": "judge against people", "matched": len(matched), "of": len(given)}
    return counts | found.to_file() | {"text": sentence(found)}
