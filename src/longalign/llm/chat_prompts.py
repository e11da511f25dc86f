"""Chats as token ids and back, by a model's tokenizer and chat template: what does not need its weights.

`LocalModel` and `VllmModel` compute with the weights; a pool of copies on a cluster divides requests by this alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint_path
from longalign.base.sources import model_dir
from longalign.base.tokenizers import open_tokenizer
from longalign.errors import ModelError
from longalign.llm.base import Call, Message, Outcome, Request
from longalign.llm.reply import Given, read_reply
from longalign.llm.thoughts import OPENED, marks_thoughts

PROBE = "probe"
LAST_TOKENS = 8
"""Tokens at the end of a prompt that show whether the chat template opened thoughts there."""


class ChatPrompts:
    """The tokenizer and chat template of a model directory, hub id or `builtin:NAME`."""

    def __init__(
        self,
        path: str,
        *,
        batch_tokens: int = 16384,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
    ) -> None:
        """`chat_template`: Jinja text, in the place of the tokenizer's own. Raises `ModelError` where there is none."""
        self.path = model_dir(path)
        self._spec = path
        self.batch_tokens = batch_tokens
        self.trust_remote_code = trust_remote_code
        self.tokenizer = open_tokenizer(path, trust_remote_code=trust_remote_code)
        if chat_template:
            self.tokenizer.chat_template = chat_template
        if not self.tokenizer.chat_template:
            raise ModelError(
                f"{path}: the tokenizer has no chat template, so it cannot be asked questions; give one with "
                "--chat_template FILE.jinja (recipes/templates/), or put a `chat_template.jinja` into the directory"
            )

    @property
    def spec(self) -> str:
        """The model as a person named it."""
        return self._spec

    @property
    def name(self) -> str:
        """Directory name and content hash (or hub id and commit), so that cached replies follow the weights."""
        return self._name

    @cached_property
    def _name(self) -> str:
        folder = Path(self.path)
        if folder.exists():
            return f"{folder.resolve().name}#{fingerprint_path(folder)[:12]}"
        return f"{self._spec}#{getattr(self._config, '_commit_hash', None) or 'unknown'}"

    @property
    def window(self) -> int | None:
        """The context in tokens that the model's config promises."""
        window = getattr(self._config, "max_position_embeddings", None)
        return None if window is None else int(window)

    @cached_property
    def _config(self) -> Any:
        """The model's config."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.path, trust_remote_code=self.trust_remote_code)

    @cached_property
    def _end_ids(self) -> int | list[int] | None:
        """End-of-text ids, by the model."""
        from transformers import GenerationConfig

        try:
            return GenerationConfig.from_pretrained(self.path).eos_token_id  # type: ignore[no-any-return]
        except OSError:
            return getattr(self._config, "eos_token_id", None)

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

    def prompts_of(self, requests: Sequence[Request]) -> list[list[int]]:
        """Token ids of every request's prompt. Raises `ModelError` for extras that cannot be honoured."""
        for request in requests:
            self.check_extras(request)
        return [self.prompt_ids(request.messages, **request.template_options) for request in requests]

    def check_extras(self, request: Request) -> None:
        """Raise `ModelError` for extras that a model without a server cannot honour."""
        if request.extra_body:
            raise ModelError(
                f"extra_body: {self._spec} runs in this process, where no server takes it; "
                "local models take top_p, system_prompt and chat_template_kwargs"
            )
        for name in request.template_options:
            if not re.search(rf"\b{re.escape(name)}\b", str(self.tokenizer.chat_template)):
                raise ModelError(f"{name}: the chat template of {self._spec} knows nothing of that name; leave it out")

    def batches(
        self, prompts: Sequence[Sequence[int]], requests: Sequence[Request], members: Iterable[int] | None = None
    ) -> Iterator[list[int]]:
        """Indices of requests that are answered together, longest prompts first; a batch divides into itself.

        `members`: only these of them.
        """
        chosen = range(len(prompts)) if members is None else members
        batch: list[int] = []
        for index in sorted(chosen, key=lambda i: (kind_of(requests[i]), -len(prompts[i]), i)):
            if batch:
                longest = len(prompts[batch[0]]) + requests[index].max_new_tokens
                alike = kind_of(requests[index]) == kind_of(requests[batch[0]])
                if not alike or longest * (len(batch) + 1) > self.batch_tokens:
                    yield batch
                    batch = []
            batch.append(index)
        if batch:
            yield batch

    @cached_property
    def stop_ids(self) -> list[int]:
        """End-of-text ids, and the token with which the chat template ends an assistant turn."""
        ids: set[int] = set()
        for value in (self._end_ids, self.tokenizer.eos_token_id):
            ids.update([value] if isinstance(value, int) else value or [])
        turns = [{"role": "user", "content": PROBE}, {"role": "assistant", "content": PROBE}]
        text = self.tokenizer.apply_chat_template(turns, tokenize=False)
        after = self.tokenizer(text[text.rindex(PROBE) + len(PROBE) :], add_special_tokens=False)["input_ids"]
        if after and after[0] in set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder):
            ids.add(after[0])
        return sorted(ids)

    def outcome(
        self, ids: Sequence[int], request: Request, prompt: Sequence[int], wall_s: float, ended: str | None = None
    ) -> Outcome:
        """What new token ids say. `ended`: a finish reason that is neither a stop nor the cap."""
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
        opened = OPENED.search(self.tokenizer.decode(list(prompt[-LAST_TOKENS:]))) is not None
        reason = ended or ("stop" if stopped else "length")
        given = Given(content=text.strip(), finish_reason=reason, opened=opened)
        outcome = read_reply(given, request, call)
        return replace(outcome, text=outcome.text.strip())

    @cached_property
    def _silent_ids(self) -> frozenset[int]:
        """Special tokens that are no text; those that mark thoughts are kept, to be read."""
        special: dict[int, str] = {token: self.tokenizer.decode([token]) for token in self.tokenizer.all_special_ids}
        return frozenset(token for token, text in special.items() if not marks_thoughts(text))


def kind_of(request: Request) -> tuple[int, tuple[str, ...]]:
    """Requests of one kind may be answered together."""
    return request.max_new_tokens, request.stop
