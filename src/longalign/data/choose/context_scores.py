"""How much an answer needs its whole document, told by a local model.

With L(context) the mean negative log-likelihood of the answer's tokens (all targets of the row, nats a token, float32):

    gain      = L(short) - L(whole)     what the whole document adds to its last tokens before the question
    document  = L(question) - L(whole)  what the document adds to the question alone
    evidence  = L(blanked) - L(whole)   what is lost where only the evidence is taken out

GATEAU (arXiv 2410.15633) compares two models of short and long context on the answer (homologous models' guidance) and
asks whether the model attends to the parts that its answer depends on (contextual awareness measurement); LongPO
(arXiv 2502.13922) compares one model's answers behind short and long contexts. Here it is one model behind several
contexts: no second model is needed, nothing depends on attention weights, and each figure is a difference of losses.
A document no longer than the short window has a gain of 0: nothing in it is out of a short context's sight.

A row's scores depend on the row, the model and the window only: the contexts of one row share a batch, rows do not.
They are kept in a file, a line a row, synced; a killed run goes on where it was and gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from longalign.base.files import append_jsonl, fingerprint, read_jsonl
from longalign.base.progress import Progress, say
from longalign.data.choose.contexts import contexts_of
from longalign.data.choose.given import Given
from longalign.data.tokenize import evidence_texts
from longalign.errors import DataError

VERSION = 1
PLACES = 5
OverWindow = Literal["unscored", "fit"]


@dataclass(frozen=True, kw_only=True)
class ContextScores:
    """One row's. `gain`, `document`, `evidence` as above, None where a context is missing; `whole`: L(whole).

    tokens: of the whole row, exactly. scored_tokens: of what was scored, less where the row was cut to fit.
    unscored: why there are no scores, or empty.
    """

    tokens: int
    scored_tokens: int = 0
    whole: float | None = None
    gain: float | None = None
    document: float | None = None
    evidence: float | None = None
    evidence_in_window: float | None = None
    unscored: str = ""


@dataclass(frozen=True)
class ScoreHow:
    """How rows are scored. `over_window`: what becomes of rows longer than the model's window: left without scores,
    or scored on the end of their document that fits."""

    model: str
    short_window: int = 1024
    over_window: OverWindow = "unscored"
    batch_tokens: int = 16384


def score_rows(rows: Iterable[Given], total: int, how: ScoreHow, file: Path) -> dict[str, ContextScores]:
    """Scores by `score_key`, in `file` and returned; those that are there already are not computed again.

    Raises `ModelError` for a model that cannot be loaded, `DataError` where no row can be scored.
    """
    from longalign.llm.answer_loss import AnswerLoss

    model = AnswerLoss(how.model, batch_tokens=how.batch_tokens)
    stamp = fingerprint("context scores", VERSION, model.name, how.short_window, how.over_window)
    known = {line["row"]: ContextScores(**line["scores"]) for line in read_jsonl(file) if line.get("stamp") == stamp}
    if known:
        say(f"{file}: {len(known):,} rows are scored already")
    found: dict[str, ContextScores] = {}
    with Progress("scores", total=total, unit="row", done=min(len(known), total)) as bar:
        for given in rows:
            key = score_key(given)
            if key in found:
                continue
            if key in known:
                found[key] = known[key]
                continue
            found[key] = scores_of(model, given, how)
            append_jsonl(file, {"stamp": stamp, "row": key, "id": given.id, "scores": asdict(found[key])})
            bar.advance()
    reasons = Counter(scores.unscored for scores in found.values() if scores.unscored)
    if found and reasons.total() == len(found):
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
        raise DataError(
            f"no row could be scored by {how.model} ({why}); take a model of longer context, or --over_window fit"
        )
    return found


def score_key(given: Given) -> str:
    """Names what is scored: conversation, tools, template variables and evidence."""
    row = given.row
    parts = (row["messages"], row.get("tools"), row.get("chat_template_kwargs"), evidence_texts(row.get("evidence")))
    return fingerprint(*parts)[:24]


def scores_of(model: Any, given: Given, how: ScoreHow) -> ContextScores:
    """One row's scores. `model`: an `AnswerLoss`."""
    try:
        contexts = contexts_of(model.tokenizer, given.row, how.short_window)
        tokens = contexts.sequences["whole"].length_tokens
        if model.window is not None and tokens > model.window:
            if how.over_window == "unscored":
                return ContextScores(
                    tokens=tokens, unscored=f"longer than the model's window of {model.window:,} tokens"
                )
            contexts = contexts_of(model.tokenizer, given.row, how.short_window, fit=model.window)
    except DataError as error:
        return ContextScores(tokens=0, unscored=str(error))
    whole = contexts.sequences["whole"]
    losses = dict(zip(contexts.sequences, model.mean_nll(list(contexts.sequences.values())), strict=True))

    def drop(name: Any) -> float | None:
        return round(losses[name] - losses["whole"], PLACES) if name in losses else None

    return ContextScores(
        tokens=tokens,
        scored_tokens=whole.length_tokens,
        whole=round(losses["whole"], PLACES),
        gain=drop("short") if "short" in losses else 0.0,
        document=drop("question"),
        evidence=drop("blanked"),
        evidence_in_window=None if contexts.evidence_in_window is None else round(contexts.evidence_in_window, 4),
    )
