"""Short skills on the page: each model's share, and a paired test of whether it dropped against the reference model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longalign.base.files import random_for
from longalign.core.paired import PairedComparison, paired_comparison
from longalign.core.stats import holm
from longalign.eval.compare import ALPHA, p_text, pair_up, signed
from longalign.report.needle import Share, share, share_text
from longalign.report.stage import Stage
from longalign.report.words import percent, percents

HARMLESS_DROP = 0.05


@dataclass(frozen=True)
class ShortRow:
    """One model. `verdict` compares with the reference; None for the reference itself and what cannot be paired."""

    label: str
    share: Share
    text: tuple[str, str]
    kinds: tuple[str, ...]
    verdict: str | None
    dropped: bool | None
    later: bool

    @property
    def tone(self) -> str:
        """How the verdict is coloured: only what came after the reference is praised or blamed."""
        if self.verdict is None or not self.later:
            return "soft"
        return {True: "bad", False: "good", None: "open"}[self.dropped]


@dataclass(frozen=True)
class ShortSection:
    """The values that the template shows."""

    reference: str | None
    kinds: tuple[str, ...]
    rows: tuple[ShortRow, ...]


def short_section(evaluated: dict[str, list[Stage]], reference: str | None = None) -> ShortSection | None:
    """`reference`: the label to compare with; default: the last but one, which the last is meant to keep up with."""
    if not evaluated:
        return None
    kinds = tuple(
        dict.fromkeys(kind for stages in evaluated.values() for s in stages for kind in (s.results or {})["by_kind"])
    )
    shares = {label: share((s.results or {})["overall"] for s in stages) for label, stages in evaluated.items()}
    if len(evaluated) < 2:
        reference = None
    elif reference not in evaluated:
        reference = list(evaluated)[-2]
    compared: dict[str, PairedComparison] = {}
    for label, stages in evaluated.items():
        if reference and label != reference and (pairs := _pairs(evaluated[reference], stages)):
            before, after, keys = pairs
            clusters = keys if len(set(keys)) < len(keys) else None
            compared[label] = paired_comparison(before, after, random_for(0, "short report", label), clusters)
    adjusted = dict(zip(compared, holm([c.p for c in compared.values()]) if compared else [], strict=True))
    rows = []
    later = False  # only what was trained after the reference can have dropped
    for label, stages in evaluated.items():
        by_kind = tuple(percent(_kind(stages, kind).value) for kind in kinds)
        verdict, dropped = None, None
        if label in compared:
            judgement = judge_drop if later else judge_distance
            verdict, dropped = judgement(compared[label], adjusted[label])
        rows.append(ShortRow(label, shares[label], _text(shares[label]), by_kind, verdict, dropped, later))
        later = later or label == reference
    return ShortSection(reference, kinds, tuple(rows))


def judge_drop(got: PairedComparison, p: float) -> tuple[str, bool | None]:
    """The conclusion about a model against its reference; `p`: Holm's, over all models.

    True: dropped; False: no relevant drop; None: undecided.
    """
    change = _change(got, p)
    if got.low is None:
        return f"cannot tell: too few questions ({change})", None
    if got.p < ALPHA <= p:
        return f"cannot tell: too many comparisons for this difference ({change})", None
    if p < ALPHA and got.difference < 0:
        return f"dropped ({change})", True
    if p < ALPHA:
        return f"not dropped: better ({change})", False
    if got.mean_a < HARMLESS_DROP:
        return f"cannot tell: the reference has too little to lose ({change})", None
    if got.low > -HARMLESS_DROP:
        return f"not dropped ({change})", False
    return f"cannot tell: {got.n} answers cannot rule out a drop of {100 * HARMLESS_DROP:.0f} points ({change})", None


def judge_distance(got: PairedComparison, p: float) -> tuple[str, None]:
    """The difference between the reference and an earlier model."""
    word = "not distinguishable" if p >= ALPHA else "higher" if got.difference > 0 else "lower"
    return f"{word} ({_change(got, p)})", None


def _change(got: PairedComparison, p: float) -> str:
    """The difference in points with its interval and p, which agree, and `p`, Holm's, where that is larger."""
    points = f"{signed(100 * got.difference, 0)} points"
    if got.low is not None and got.high is not None:
        points += f", 95% {signed(100 * got.low, 0)} to {signed(100 * got.high, 0)}"
    adjusted = f", after Holm {p_text(p)}" if p_text(p) != p_text(got.p) else ""
    return f"{points}, {p_text(got.p)}{adjusted}"


def _pairs(reference: Sequence[Stage], stages: Sequence[Stage]) -> tuple[list[float], list[float], list[str]] | None:
    """Right or wrong of the reference and of the model on the same questions, seed by seed, and the questions' keys:
    answers of several seeds to one question belong together."""
    before: list[float] = []
    after: list[float] = []
    keys: list[str] = []
    by_seed = {stage.seed: stage for stage in reference}
    for number, stage in enumerate(stages):
        other = by_seed.get(stage.seed) or reference[number % len(reference)]
        pairs, _ = pair_up(other.scores, stage.scores)
        before += [float(a["score"]["exact"]) for a, _ in pairs]
        after += [float(b["score"]["exact"]) for _, b in pairs]
        keys += [str(a["key"]) for a, _ in pairs]
    return (before, after, keys) if before else None


def _kind(stages: Sequence[Stage], kind: str) -> Share:
    return share(s.results["by_kind"][kind] for s in stages if s.results and kind in s.results["by_kind"])


def _text(share: Share) -> tuple[str, str]:
    """The share, and what stands below it."""
    return share_text(share, f"{percents(share.low, share.high)} of {share.scored}")
