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
from transformers import AutoModelForCausalLM, LogitsProcessorList
from transformers.utils import logging

from longalign.errors import ModelError
from longalign.llm.base import Outcome, Request
from longalign.llm.chat_prompts import ChatPrompts, kind_of
from longalign.llm.prefix import Family, can_share, copied, families, read_beginning
from longalign.llm.sampling import GumbelNoise


class LocalModel(ChatPrompts):
    """A causal language model in this process."""

    batched = True
    share_prefixes = False

    def __init__(
        self,
        path: str,
        *,
        batch_tokens: int = 16384,
        device: str | None = None,
        dtype: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        share_prefixes: bool = True,
    ) -> None:
        """`device`: default cuda if there, else cpu. `dtype`: default the checkpoint's on cuda, float32 on cpu.

        `share_prefixes`: read a beginning that several prompts of one call have in common once; off, each prompt is
        read by itself.
        """
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
        self.share_prefixes = share_prefixes and can_share(self.model)

    @cached_property
    def _config(self) -> Any:
        return self.model.config

    @cached_property
    def _end_ids(self) -> int | list[int] | None:
        return self.model.generation_config.eos_token_id  # type: ignore[no-any-return]

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; yields batch by batch, longest prompts first."""
        prompts = self.prompts_of(requests)
        alone = set(range(len(prompts)))
        for family in families(prompts, [kind_of(request) for request in requests]) if self.share_prefixes else ():
            try:
                yield from self._run_family(family, prompts, requests, alone)
            except torch.OutOfMemoryError:  # a beginning and its copies need more than one prompt at a time
                torch.cuda.empty_cache()
        for batch in self.batches(prompts, requests, alone):
            yield from self._run(batch, prompts, requests)

    def _run_family(
        self, family: Family, prompts: list[list[int]], requests: Sequence[Request], alone: set[int]
    ) -> Iterator[tuple[int, Outcome]]:
        """Prompts with a common beginning; those that are answered leave `alone`."""
        start = time.monotonic()
        with torch.inference_mode():
            cache = read_beginning(self.model, prompts[family.members[0]][: family.tokens])
        for batch in self.batches(prompts, requests, family.members):
            with torch.inference_mode():
                new_ids = self.generate(
                    [prompts[i] for i in batch],
                    [requests[i] for i in batch],
                    shared_tokens=family.tokens,
                    past_key_values=copied(self.model, cache, len(batch)),
                )
            wall_s, start = time.monotonic() - start, time.monotonic()
            for index, ids in zip(batch, new_ids, strict=True):
                alone.discard(index)
                yield index, self.outcome(ids, requests[index], prompts[index], wall_s)

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

    def generate(
        self, prompts: list[list[int]], requests: list[Request], *, shared_tokens: int = 0, **more: Any
    ) -> list[list[int]]:
        """New token ids of each prompt; `more` goes to transformers. All requests are alike but for their messages.

        `shared_tokens`: so many tokens at the beginning are in `past_key_values` already; padding stands behind them.
        """
        width = max(map(len, prompts))
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.stop_ids[0]
        ids_BT = torch.full((len(prompts), width), pad_id, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for row, prompt in enumerate(prompts):
            rest = width - len(prompt) + shared_tokens  # where it begins
            ids_BT[row, :shared_tokens] = torch.tensor(prompt[:shared_tokens], dtype=torch.long)
            ids_BT[row, rest:] = torch.tensor(prompt[shared_tokens:], dtype=torch.long)
            mask_BT[row, :shared_tokens] = mask_BT[row, rest:] = 1
        options = dict(more)
        if requests[0].stop:
            options |= {"stop_strings": list(requests[0].stop), "tokenizer": self.tokenizer}
        if any(request.temperature > 0 for request in requests):
            options["logits_processor"] = LogitsProcessorList([GumbelNoise(requests, self.device)])
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
