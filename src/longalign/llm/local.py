"""A Hugging Face model directory or hub id as a language model: chat template, batched greedy or sampled generation.

Prompts are sorted by length and run in batches of at most `batch_tokens` tokens, prompt and new ones; those of
unlike length are padded on the left, masked, with positions counted from the first real token. Sampling adds
Gumbel noise from a generator per request to the nucleus of `top_p`, so a reply depends on its seed and not on what
shares the batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

from longalign.errors import ModelError
from longalign.llm.base import Outcome, Request
from longalign.llm.chat_prompts import ChatPrompts


class LocalModel(ChatPrompts):
    """A causal language model in this process."""

    batched = True

    def __init__(
        self,
        path: str,
        *,
        batch_tokens: int = 16384,
        device: str | None = None,
        dtype: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
    ) -> None:
        """`device`: default cuda if there, else cpu. `dtype`: default the checkpoint's on cuda, float32 on cpu."""
        logging.disable_progress_bar()
        super().__init__(
            path, batch_tokens=batch_tokens, trust_remote_code=trust_remote_code, chat_template=chat_template
        )
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        wanted = dtype or ("auto" if self.device.type == "cuda" else "float32")
        try:
            self.model = AutoModelForCausalLM.from_pretrained(
                self.path,
                dtype=wanted if wanted == "auto" else getattr(torch, wanted),
                trust_remote_code=trust_remote_code,
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:240]
            raise ModelError(f"{path}: cannot be loaded as a Hugging Face causal language model ({reason})") from None
        self.model.to(self.device).eval()

    @cached_property
    def _config(self) -> Any:
        return self.model.config

    @cached_property
    def _end_ids(self) -> int | list[int] | None:
        return self.model.generation_config.eos_token_id  # type: ignore[no-any-return]

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; yields batch by batch, longest prompts first."""
        prompts = self.prompts_of(requests)
        for batch in self.batches(prompts, requests):
            yield from self._run(batch, prompts, requests)

    def _run(
        self, batch: list[int], prompts: list[list[int]], requests: Sequence[Request]
    ) -> Iterator[tuple[int, Outcome]]:
        start = time.monotonic()
        try:
            new_ids = self._generate([prompts[i] for i in batch], [requests[i] for i in batch])
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if len(batch) == 1:
                raise ModelError(
                    f"{self._spec}: out of memory on a prompt of {len(prompts[batch[0]])} tokens; "
                    "use a larger device, a shorter window, or --dtype bfloat16"
                ) from None
            self.batch_tokens = self.batch_tokens // 2  # stays halved: the next batches are like this one
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                yield from self._run(half, prompts, requests)
            return
        wall_s = time.monotonic() - start
        for index, ids in zip(batch, new_ids, strict=True):
            yield index, self.outcome(ids, requests[index], prompts[index], wall_s)

    def _generate(self, prompts: list[list[int]], requests: list[Request]) -> list[list[int]]:
        with torch.inference_mode():
            return self.generate(prompts, requests)

    def generate(self, prompts: list[list[int]], requests: list[Request], **more: Any) -> list[list[int]]:
        """New token ids of each prompt; `more` goes to transformers. All requests are alike but for their messages."""
        width = max(map(len, prompts))
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.stop_ids[0]
        ids_BT = torch.full((len(prompts), width), pad_id, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, prompt in enumerate(prompts):
            ids_BT[row, width - len(prompt) :] = torch.tensor(prompt)
            mask_BT[row, width - len(prompt) :] = 1
        options = dict(more)
        if requests[0].stop:
            options |= {"stop_strings": list(requests[0].stop), "tokenizer": self.tokenizer}
        if any(request.temperature > 0 for request in requests):
            options["logits_processor"] = LogitsProcessorList([_Gumbel(requests, self.device)])
        generated_BT = self.model.generate(
            ids_BT.to(self.device),
            attention_mask=mask_BT.to(self.device),
            max_new_tokens=requests[0].max_new_tokens,
            do_sample=False,  # sampling is greedy choice under Gumbel noise
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=None,
            eos_token_id=self.stop_ids,
            pad_token_id=pad_id,
            **options,
        )
        rows: list[list[int]] = generated_BT[:, width:].tolist()
        return rows


class _Gumbel(LogitsProcessor):  # type: ignore[misc]
    """argmax(logits / temperature + Gumbel noise) is a draw from the softmax; one noise stream per request."""

    def __init__(self, requests: list[Request], device: torch.device) -> None:
        self.top_ps = [1.0 if r.top_p is None else r.top_p for r in requests]
        self.temperatures_B1 = torch.tensor([[r.temperature] for r in requests], device=device)
        self.generators = [torch.Generator().manual_seed(r.seed or 0) for r in requests]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform_BV = torch.stack(
            [torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in self.generators]
        )
        noise_BV = -torch.log(-torch.log(uniform_BV.clamp(1e-300, 1 - 1e-16))).to(scores)
        warm_BV = scores / self.temperatures_B1.clamp_min(1e-6).to(scores)
        for row, top_p in enumerate(self.top_ps):
            if top_p < 1:
                warm_BV[row] = nucleus(warm_BV[row], top_p)
        return torch.where(self.temperatures_B1 > 0, warm_BV + noise_BV, scores)


def nucleus(logits_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Logits with all but the likeliest tokens at minus infinity: the fewest whose probabilities reach `top_p`."""
    ordered_V, places_V = logits_V.sort(descending=True)
    probabilities_V = ordered_V.double().softmax(0)
    ordered_V = ordered_V.masked_fill(probabilities_V.cumsum(0) - probabilities_V >= top_p, float("-inf"))
    return torch.empty_like(logits_V).scatter_(0, places_V, ordered_V)
