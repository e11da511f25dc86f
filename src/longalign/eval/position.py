"""Does a model use the text before? Loss by position, and the loss of answers with and without their document.

Cheap signals, in nats a token, from a local model's own predictions: nothing is generated and nothing is judged.

    by position   the loss of tokens 0-1k, 1k-2k, 2k-4k, ... of long documents
    longer        the same last tokens of a document behind more and more of its text: by how much their loss falls
    document      the loss of a row's answer behind its document, behind the question alone, and behind another row's
                  document: a model that reads predicts its answer better from the right document than from either

The first mixes two things, since later positions hold other tokens; the other two compare the same tokens in pairs.
Losses of models with different tokenizers are not comparable: `question` of a row names its token ids, so that
`eval compare` finds no question that such models share.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import append_jsonl, fingerprint, read_jsonl
from longalign.base.progress import Progress
from longalign.config import EvalSettings, PositionSettings
from longalign.data.choose.contexts import leading_question, replaced
from longalign.data.choose.given import content_key, document_and_question, document_place, read_given
from longalign.data.documents import Document
from longalign.data.source import read_documents
from longalign.data.tokenize import sequence_of_row
from longalign.errors import ConfigError, DataError
from longalign.eval.builtin_cases import builtin_cases
from longalign.eval.needle import DEFAULT_HAYSTACK
from longalign.eval.position_figures import ANOTHER, DOCUMENT, LONGER, WITH, WITHOUT, summarize
from longalign.eval.results import Compared, Measured, Row, rounded
from longalign.eval.subject import Subject, open_subject
from longalign.eval.task import Cost, Reads, Task, interval_text
from longalign.eval.token_view import CharacterView
from longalign.llm.base import innermost
from longalign.llm.open import is_endpoint
from longalign.llm.prompt import GAP

LOSSES = "losses.jsonl"
MOST_CHARACTERS_PER_TOKEN = 8
"""Documents are cut at so many characters for each token of the longest length before they are tokenised."""


@dataclass(frozen=True)
class Asked:
    """A row whose answer is scored, and the document of another one."""

    row: dict[str, Any]
    other: str | None


class Position(Task[PositionSettings]):
    """Task `position`. Losses are kept in `losses.jsonl`, a line a document or row; none is computed twice."""

    name = "position"
    title = "Use of the text before"
    settings_class = PositionSettings
    compared = Compared(cluster="document")

    def reads(self) -> Reads:
        files = {"rows": [self.settings.rows]} if self.settings.rows and self.settings.questions else {}
        return Reads(files=files, documents={"documents": self.documents})

    @property
    def documents(self) -> tuple[str, ...]:
        return self.settings.documents or (DEFAULT_HAYSTACK["en"],)

    @property
    def lengths(self) -> list[int]:
        return sorted(set(self.settings.lengths))

    def measure(self, model: EvalSettings, out: Path) -> Measured:
        """Raises `ConfigError` for endpoints and stand-ins: they give no losses of given texts."""
        if is_endpoint(model.model) or model.model.startswith("offline"):
            raise ConfigError(f"position needs the losses of a local model, which `{model.model}` does not give")
        texts: dict[str, Document | Asked] = {f"document/{found.id}": found for found in self.long_documents()}
        texts |= {f"row/{content_key(asked.row)}": asked for asked in self.asked()}
        with open_subject(model, out) as subject:
            rows = self._losses(subject, texts, out / LOSSES)
        if not any(row.get("losses") or row["score"] is not None for row in rows):
            why = next((row["failure"] for row in rows), "no document and no row was asked for")
            raise DataError(f"position: nothing could be scored ({why}); give other lengths, documents or rows")
        figures = summarize(rows, self.lengths, self.settings.scored_tokens, subject.window)
        return Measured(rows=rows, figures=figures, model=subject.facts)

    def _losses(self, subject: Subject, texts: Mapping[str, Document | Asked], log: Path) -> list[Row]:
        """A row a text; what `log` holds is not computed again."""
        from longalign.llm.token_loss import TokenLoss

        scorer = TokenLoss(innermost(subject.model))  # type: ignore[arg-type]
        done = {row["key"]: row for row in read_jsonl(log)}
        with Progress("losses", total=len(texts), unit="text", done=len(texts.keys() & done.keys())) as bar:
            for key, text in texts.items():
                if key in done:
                    continue
                if isinstance(text, Asked):
                    row = answer_row(scorer, text)
                else:
                    row = document_row(scorer, text, self.lengths, self.settings.scored_tokens)
                done[key] = {"key": key, **row}
                append_jsonl(log, done[key])
                bar.advance()
        return [done[key] for key in texts]

    def long_documents(self) -> list[Document]:
        """The longest documents; among those longer than can matter the first. The same for every model."""
        enough = MOST_CHARACTERS_PER_TOKEN * self.lengths[-1]
        if not self.settings.most_documents:
            return []
        seen: set[str] = set()
        new = (d for d in read_documents(self.documents) if not (d.id in seen or seen.add(d.id)))  # type: ignore[func-returns-value]
        return heapq.nlargest(self.settings.most_documents, new, key=lambda d: min(len(d.text), enough))

    def asked(self) -> list[Asked]:
        """The first rows, each with the document of the next row about another one."""
        wanted = self.settings
        if not wanted.questions:
            return []
        rows = [row for row, _ in zip(self._rows(), range(wanted.questions), strict=False)]
        texts = [document_and_question(row)[0] for row in rows]
        return [Asked(row, next_other(texts, at)) for at, row in enumerate(rows)]

    def _rows(self) -> Iterator[dict[str, Any]]:
        wanted = self.settings
        if wanted.rows:
            yield from (given.row for given in read_given(wanted.rows))
            return
        texts = (document.text for document in read_documents(self.documents))
        for case in builtin_cases(texts, count=wanted.questions, tokens=wanted.row_tokens, seed=wanted.seed):
            answer = {"role": "assistant", "content": case.reference}
            yield {"id": case.key, "messages": [{"role": "user", "content": case.prompt}, answer]}

    def cost(self, window: int) -> Cost:
        """What is read, at four characters a token."""
        view = CharacterView()
        try:
            filled = [self._filled(view.count(document.text)) for document in self.long_documents()]
            tokens = [length for lengths in filled for length in lengths]
            for asked in self.asked():
                document, question = document_and_question(asked.row)
                if not document:
                    continue
                tokens += [view.count(document) + view.count(question), view.count(question)]
                tokens += [view.count(asked.other[: len(document)]) + view.count(question)] if asked.other else []
        except DataError as error:
            return Cost(notes=(f"eval.{self.name}: not counted here ({error})",))
        return Cost(np.array(tokens, dtype=np.int64))

    def _filled(self, tokens: int) -> list[int]:
        return [length for length in self.lengths if length <= tokens]

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        lines = [f"use of the text before by {results['label']} (nats a token, 95% t-intervals)"]
        if results["by_position"]:
            lines.append(f"{'position':>12} {'loss':>24} {'perplexity':>11} {'documents':>10}")
        for name, row in results["by_position"].items():
            perplexity = "-" if row["perplexity"] is None else f"{row['perplexity']:,.2f}"
            loss = interval_text(row["loss"], row["low"], row["high"])
            lines.append(f"{name:>12} {loss:>24} {perplexity:>11} {row['measured']:>10}")
        falls = {
            f"last {results['scored_tokens']} tokens of documents": {
                f"behind {name}": row for name, row in results["by_context"].items()
            },
            "answers with their document": results["by_document"],
        }
        for title, found in falls.items():
            if found:
                lines.append(f"{title}: loss falls by")
            for name, row in found.items():
                fall = interval_text(row["mean"], row["low"], row["high"])
                losses = f"{row['loss_before']:.3f} to {row['loss']:.3f}"
                lines.append(f"{name:>20} {fall:>24}, {losses} ({row['measured']})")
        return lines + [f"note: {note}" for note in results["notes"]]


def document_row(scorer: Any, document: Document, lengths: list[int], scored_tokens: int) -> Row:
    """Mean losses of the bins a document fills, and of its last tokens behind each length of text.

    `scorer`: a `TokenLoss`. Positions count the document's own tokens, from 0; a start token stands before them.
    """
    start, ids_T = document_ids(scorer.tokenizer, document.text[: MOST_CHARACTERS_PER_TOKEN * lengths[-1]])
    filled = [length for length in lengths if length <= len(ids_T)]
    ids_T = ids_T[: filled[-1]] if filled else ids_T
    row: Row = {
        "kind": LONGER,
        "document": document.id,
        "question": fingerprint(ids_T.tolist())[:16],
        "failure": None,
        "tokens": len(ids_T),
        "score": None,
        "losses": {},
        "behind": {},
    }
    if not filled:
        return row | {"failure": f"shorter than {lengths[0]:,} tokens"}
    nll_T = with_start(scorer, start, ids_T, 0)
    edges = [0, *filled]
    losses = {str(high): mean(nll_T[low:high]) for low, high in pairwise(edges)}
    behind = {}
    for length in filled:
        last_K = nll_T if length == filled[-1] else with_start(scorer, start, ids_T[-length:], length - scored_tokens)
        behind[str(length)] = mean(last_K[-scored_tokens:])
    if len(filled) == 1:
        why = f"shorter than {lengths[1]:,} tokens" if len(lengths) > 1 else "one length has none to compare it with"
        return row | {"losses": losses, "behind": behind, "failure": why}
    fall = behind[str(filled[0])] - behind[str(filled[-1])]
    return row | {"losses": losses, "behind": behind, "score": rounded(fall)}


def document_ids(tokenizer: Any, text: str) -> tuple[list[int], NDArray[np.int32]]:
    """The start token that a tokenizer puts before a text (or none), and the text's own tokens."""
    ids = tokenizer(text, return_attention_mask=False, verbose=False, split_special_tokens=True)["input_ids"]
    start = [ids[0]] if ids and ids[0] == tokenizer.bos_token_id else []
    own = ids[len(start) :]
    if own and own[-1] == tokenizer.eos_token_id:
        own = own[:-1]
    return start, np.asarray(own, dtype=np.int32)


def with_start(scorer: Any, start: list[int], ids_T: NDArray[np.int32], first: int) -> NDArray[np.float64]:
    """Losses of the tokens from position `first` on; NaN for a first token that nothing stands before."""
    all_T = np.concatenate([np.asarray(start, dtype=np.int32), ids_T])
    target_T = np.arange(len(all_T)) >= first + len(start)
    missing = bool(target_T[0])
    target_T[0] = False
    nll_K = scorer.nll(all_T, target_T)
    return np.concatenate([[np.nan], nll_K]) if missing else nll_K


def mean(nll_K: NDArray[np.float64]) -> float:
    return round(float(np.nanmean(nll_K)), 6)


def answer_row(scorer: Any, asked: Asked) -> Row:
    """Mean losses of a row's answers behind its document, behind the question alone and behind another document."""
    place = document_place(asked.row)
    document, question = document_and_question(asked.row)
    row: Row = {
        "kind": DOCUMENT,
        "document": fingerprint(document)[:16],
        "question": question,
        "failure": None,
        "tokens": 0,
        "score": None,
    }
    if not document:
        return row | {"failure": "no document before the question"}
    head = leading_question(asked.row, document)
    texts = {WITHOUT: head + question}
    if asked.other is not None:
        texts[ANOTHER] = head + asked.other[: len(document)] + GAP + question
    try:
        sequences = {WITH: sequence_of_row(scorer.tokenizer, asked.row)}
        for name, text in texts.items():
            sequences[name] = sequence_of_row(scorer.tokenizer, replaced(asked.row, place, text))
    except DataError as error:
        return row | {"failure": str(error)}
    losses = {name: mean(scorer.nll(found.ids_T, found.target_T)) for name, found in sequences.items()}
    whole = sequences[WITH]
    return {
        **row,
        **losses,
        "question": f"{question} (tokens {fingerprint(whole.ids_T.tolist())[:16]})",
        "tokens": whole.length_tokens,
        "score": rounded(losses[WITHOUT] - losses[WITH]),
    }


def next_other(texts: list[str], at: int) -> str | None:
    """The next text, in a circle, that is there and another one."""
    around = [*texts[at + 1 :], *texts[:at]]
    return next((text for text in around if text and text != texts[at]), None)
