"""The loss of single tokens of a text of any length, under a local model.

A text is read in pieces with a key-value cache, and logits are computed for one piece at a time and for the wanted
tokens only: 128k tokens of a vocabulary of 150k would otherwise need 80 GB of logits. `AnswerLoss` has means over
batches of shorter sequences.
"""

from __future__ import annotations

import inspect

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from longalign.errors import ModelError
from longalign.llm.local import LocalModel
from longalign.llm.prefix import layer_kinds

PIECE_TOKENS = 1024


class TokenLoss:
    """A `LocalModel` that scores texts, in the precision it was loaded in; the loss itself in float32 or better."""

    def __init__(self, local: LocalModel, *, piece_tokens: int = PIECE_TOKENS) -> None:
        """`piece_tokens`: tokens whose logits are in memory together."""
        self.local, self.tokenizer = local, local.tokenizer
        self.piece_tokens = piece_tokens
        self.keeps = "logits_to_keep" in inspect.signature(local.model.forward).parameters
        kinds = layer_kinds(local.model)
        self.in_pieces = bool(kinds) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
        """Whether reading can stop and go on; a model with recurrent states reads a text at once."""

    def nll(self, ids_T: NDArray[np.int32], target_T: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Negative log-likelihood of each target in nats, in order. The first token is never a target.

        Raises `ModelError` where memory or the model's position table does not hold the text.
        """
        targets = np.flatnonzero(target_T)
        if len(targets) and targets[0] == 0:
            raise ValueError("the first token has nothing before it and cannot be a target")
        try:
            with torch.inference_mode():
                return self._nll(ids_T, targets)
        except torch.OutOfMemoryError:
            raise ModelError(
                f"{self.local.path}: out of memory on a text of {len(ids_T):,} tokens; use a larger device or "
                "shorter lengths"
            ) from None
        except IndexError:
            raise ModelError(
                f"{self.local.path}: cannot read {len(ids_T):,} tokens (its config promises {self.local.window}); "
                "use shorter lengths"
            ) from None

    def _nll(self, ids_T: NDArray[np.int32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
        model, device = self.local.model, self.local.device
        ids_1T = torch.from_numpy(ids_T.astype(np.int64))[None].to(device)
        end = int(targets[-1]) if len(targets) else 0  # what stands behind the last target changes nothing
        step = self.piece_tokens if self.in_pieces else max(end, 1)
        cache = DynamicCache(config=model.config) if self.in_pieces else None
        found = []
        for start in range(0, end, step):
            stop = min(start + step, end)
            # a position's logits predict the token after it
            at = targets[(targets > start) & (targets <= stop)] - 1 - start
            at_P = torch.from_numpy(at).to(device)
            kept = {"logits_to_keep": at_P if len(at) else 1} if self.keeps else {}
            logits_1PV = model(
                input_ids=ids_1T[:, start:stop], past_key_values=cache, use_cache=cache is not None, **kept
            ).logits
            if len(at):
                logits_PV = logits_1PV[0] if self.keeps else logits_1PV[0, at_P]
                wide_PV = logits_PV if logits_PV.dtype == torch.float64 else logits_PV.float()
                found.append(cross_entropy(wide_PV, ids_1T[0, start + 1 + at_P], reduction="none").double().cpu())
        return torch.cat(found).numpy() if found else np.zeros(0)
