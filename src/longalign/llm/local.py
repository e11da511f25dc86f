"""A Hugging Face model directory or hub id as a language model: chat template, batched greedy or sampled generation.

Prompts are sorted by length and run in batches of at most `batch_tokens` tokens, prompt and new ones; those of
unlike length are padded on the left, masked, with positions counted from the first real token. Prompts with a long
common beginning are read together (prefix.py): the beginning once, then padding and the rest of each. Sampling adds
Gumbel noise from a generator per request to the nucleus of `top_p`, so a reply depends on its seed and not on what
shares the batch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessorList
from transformers.utils import logging

from longalign.base.files import fingerprint_path
from longalign.base.sources import model_dir
from longalign.base.tokenizers import open_tokenizer
from longalign.errors import ModelError
from longalign.llm.base import Call, Message, Outcome, Request
from longalign.llm.prefix import Family, can_share, copied, families, read_beginning
from longalign.llm.reply import Given, read_reply
from longalign.llm.sampling import GumbelNoise
from longalign.llm.thoughts import OPENED, marks_thoughts

PROBE = "probe"
LAST_TOKENS = 8
"""Tokens at the end of a prompt that show whether the chat template opened thoughts there."""


class LocalModel:
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

        `chat_template`: Jinja text, in the place of the tokenizer's own. `share_prefixes`: read a beginning that
        several prompts of one call have in common once; off, each prompt is read by itself.
        """
        logging.disable_progress_bar()
        self.path = model_dir(path)
        self.batch_tokens = batch_tokens
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        wanted = dtype or ("auto" if self.device.type == "cuda" else "float32")
        self.tokenizer = open_tokenizer(path, trust_remote_code=trust_remote_code)
        try:
            self.model = AutoModelForCausalLM.from_pretrained(
                self.path,
                dtype=wanted if wanted == "auto" else getattr(torch, wanted),
                trust_remote_code=trust_remote_code,
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:240]
            raise ModelError(f"{path}: cannot be loaded as a Hugging Face causal language model ({reason})") from None
        if chat_template:
            self.tokenizer.chat_template = chat_template
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{path}: the tokenizer has no chat template, so it cannot be asked questions; give one with "
                "--chat_template FILE.jinja (recipes/templates/), or put a `chat_template.jinja` into the directory"
            )
        self.model.to(self.device).eval()
        self.share_prefixes = share_prefixes and can_share(self.model)
        self._spec = path

    @cached_property
    def name(self) -> str:
        """Directory name and content hash (or hub id and commit), so that cached replies follow the weights."""
        folder = Path(self.path)
        if folder.exists():
            return f"{folder.resolve().name}#{fingerprint_path(folder)[:12]}"
        return f"{self._spec}#{getattr(self.model.config, '_commit_hash', None) or 'unknown'}"

    @property
    def window(self) -> int | None:
        """The context in tokens that the model's config promises."""
        window = getattr(self.model.config, "max_position_embeddings", None)
        return None if window is None else int(window)

    def prompt_ids(self, messages: Sequence[Message], **template_options: Any) -> list[int]:
        """Token ids of a chat up to where the assistant answers; `template_options` go to the chat template."""
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=True, **template_options
            )
        except Exception as error:  # templates raise their own errors, e.g. for a system role they do not know
            raise ModelError(f"{self._spec}: the chat template refuses the messages ({error})") from None
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # callers know the window
        return list(ids)

    def check_extras(self, request: Request) -> None:
        """Raise `ModelError` for extras that a model in this process cannot honour."""
        if request.extra_body:
            raise ModelError(
                f"extra_body: {self._spec} runs in this process, where no server takes it; "
                "local models take top_p, system_prompt and chat_template_kwargs"
            )
        for name in request.template_options:
            if not re.search(rf"\b{re.escape(name)}\b", str(self.tokenizer.chat_template)):
                raise ModelError(f"{name}: the chat template of {self._spec} knows nothing of that name; leave it out")

    @cached_property
    def stop_ids(self) -> list[int]:
        """End-of-text ids, and the token with which the chat template ends an assistant turn."""
        ids: set[int] = set()
        for value in (self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id):
            ids.update([value] if isinstance(value, int) else value or [])
        turns = [{"role": "user", "content": PROBE}, {"role": "assistant", "content": PROBE}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        after = self.tokenizer(text[text.rindex(PROBE) + len(PROBE) :], add_special_tokens=False)["input_ids"]
        if after and after[0] in set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder):
            ids.add(after[0])
        return sorted(ids)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; yields batch by batch, longest prompts first."""
        for request in requests:
            self.check_extras(request)
        prompts = [self.prompt_ids(request.messages, **request.template_options) for request in requests]
        alone = set(range(len(prompts)))
        for family in families(prompts, [_kind(request) for request in requests]) if self.share_prefixes else ():
            try:
                yield from self._run_family(family, prompts, requests, alone)
            except torch.OutOfMemoryError:  # a beginning and its copies need more than one prompt at a time
                torch.cuda.empty_cache()
        for batch in self._batches(prompts, requests, alone):
            yield from self._run(batch, prompts, requests)

    def _batches(
        self, prompts: list[list[int]], requests: Sequence[Request], members: Iterable[int] | None = None
    ) -> Iterator[list[int]]:
        chosen = range(len(prompts)) if members is None else members
        batch: list[int] = []
        for index in sorted(chosen, key=lambda i: (_kind(requests[i]), -len(prompts[i]), i)):
            if batch:
                longest = len(prompts[batch[0]]) + requests[index].max_new_tokens
                alike = _kind(requests[index]) == _kind(requests[batch[0]])
                if not alike or longest * (len(batch) + 1) > self.batch_tokens:
                    yield batch
                    batch = []
            batch.append(index)
        if batch:
            yield batch

    def _run_family(
        self, family: Family, prompts: list[list[int]], requests: Sequence[Request], alone: set[int]
    ) -> Iterator[tuple[int, Outcome]]:
        """Prompts with a common beginning; those that are answered leave `alone`."""
        start = time.monotonic()
        with torch.inference_mode():
            cache = read_beginning(self.model, prompts[family.members[0]][: family.tokens])
        for batch in self._batches(prompts, requests, family.members):
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
                yield index, self._outcome(ids, requests[index], prompts[index], wall_s)

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
            yield index, self._outcome(ids, requests[index], prompts[index], wall_s)

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

    def _outcome(self, ids: list[int], request: Request, prompt: list[int], wall_s: float) -> Outcome:
        ends = [position for position, token in enumerate(ids) if token in self.stop_ids]
        stopped = bool(ends)
        kept = ids[: ends[0]] if ends else ids
        text = str(self.tokenizer.decode([token for token in kept if token not in self._silent_ids]))
        for stop in request.stop:
            if stop in text:
                text, stopped = text[: text.index(stop)], True
        call = Call(
            prompt_tokens=len(prompt),
            completion_tokens=len(kept) + bool(ends),
            model=self.name,
            wall_s=wall_s,
        )
        opened = OPENED.search(self.tokenizer.decode(prompt[-LAST_TOKENS:])) is not None
        given = Given(content=text.strip(), finish_reason="stop" if stopped else "length", opened=opened)
        outcome = read_reply(given, request, call)
        return replace(outcome, text=outcome.text.strip())

    @cached_property
    def _silent_ids(self) -> frozenset[int]:
        """Special tokens that are no text; those that mark thoughts are kept, to be read."""
        special: dict[int, str] = {token: self.tokenizer.decode([token]) for token in self.tokenizer.all_special_ids}
        return frozenset(token for token, text in special.items() if not marks_thoughts(text))


def _kind(request: Request) -> tuple[int, tuple[str, ...]]:
    """What requests of one batch have in common."""
    return (request.max_new_tokens, request.stop)
