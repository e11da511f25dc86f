"""How well a local model predicts given tokens: negative log-likelihoods of the targets of tokenised conversations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from longalign.errors import ModelError
from longalign.llm.local import LocalModel

POSITIONS_AT_ONCE = 512
"""Targets whose logits are in memory together."""


@dataclass(frozen=True)
class Tokens:
    """Ids [T] and which of them are targets [T]; the first is never one."""

    ids_T: NDArray[np.int32]
    target_T: NDArray[np.bool_]


class AnswerLoss:
    """A model directory that scores texts, in float32."""

    def __init__(self, path: str, *, batch_tokens: int = 16384, device: str | None = None) -> None:
        """`batch_tokens`: padded tokens run at once. Raises `ModelError` as `LocalModel` does."""
        self.local = LocalModel(path, batch_tokens=batch_tokens, device=device, dtype="float32")
        self.tokenizer: Any = self.local.tokenizer
        self.keeps = "logits_to_keep" in inspect.signature(self.local.model.forward).parameters

    @property
    def name(self) -> str:
        """Directory name and hash of the weights."""
        return self.local.name

    @property
    def window(self) -> int | None:
        """The context in tokens that the model's config promises."""
        return self.local.window

    def mean_nll(self, sequences: Sequence[Tokens]) -> list[float]:
        """Mean negative log-likelihood of each sequence's targets, in nats a token.

        Sequences of like length share a batch, padded at the end, where a causal model does not look. Raises
        `ModelError` where memory does not hold one sequence.
        """
        means = [0.0] * len(sequences)
        for batch in self._batches(sequences):
            try:
                nll = self._nll([sequences[place] for place in batch])
            except torch.OutOfMemoryError:
                longest = max(len(sequences[place].ids_T) for place in batch)
                raise ModelError(
                    f"{self.local.path}: out of memory on {len(batch)} x {longest:,} tokens; use a larger device, or "
                    "leave long rows out with --max_length_tokens"
                ) from None
            for place, mean in zip(batch, nll, strict=True):
                means[place] = mean
        return means

    def _batches(self, sequences: Sequence[Tokens]) -> Iterator[list[int]]:
        batch: list[int] = []
        for place in sorted(range(len(sequences)), key=lambda at: (-len(sequences[at].ids_T), at)):
            if batch and len(sequences[batch[0]].ids_T) * (len(batch) + 1) > self.local.batch_tokens:
                yield batch
                batch = []
            batch.append(place)
        if batch:
            yield batch

    @torch.inference_mode()
    def _nll(self, sequences: Sequence[Tokens]) -> list[float]:
        longest = max(len(sequence.ids_T) for sequence in sequences)
        ids_BT = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask_BT, target_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            length = len(sequence.ids_T)
            ids_BT[row, :length] = torch.from_numpy(sequence.ids_T.astype(np.int64))
            mask_BT[row, :length] = 1
            target_BT[row, :length] = torch.from_numpy(sequence.target_T)
        sums = [0.0] * len(sequences)
        counts = target_BT.sum(1).tolist()
        # a position's logits predict the token after it
        at_P = target_BT.any(0).nonzero()[:, 0] - 1
        kept = {"logits_to_keep": at_P.to(self.local.device)} if self.keeps else {}
        logits_BPV = self.local.model(
            input_ids=ids_BT.to(self.local.device),
            attention_mask=mask_BT.to(self.local.device),
            use_cache=False,
            **kept,
        ).logits
        if not self.keeps:
            logits_BPV = logits_BPV[:, at_P]
        for row in range(len(sequences)):
            mine_P = target_BT[row, at_P + 1].nonzero()[:, 0]
            wanted_P = ids_BT[row, at_P[mine_P] + 1]
            for start in range(0, len(mine_P), POSITIONS_AT_ONCE):
                part = slice(start, start + POSITIONS_AT_ONCE)
                logits_MV = logits_BPV[row, mine_P[part].to(logits_BPV.device)].float()
                nll_M = cross_entropy(logits_MV, wanted_P[part].to(logits_MV.device), reduction="none")
                sums[row] += float(nll_M.double().sum())
        return [total / count if count else float("nan") for total, count in zip(sums, counts, strict=True)]
