"""A model directory or hub id answered by vLLM in this process (`vllm:DIR`), many requests at once.

vLLM pins a torch of its own, so it is no extra of ours: install it first, then this package beside it. Prompts and
replies are read as those of a `LocalModel`; the numbers differ, so replies have a name of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from longalign.errors import ConfigError, ModelError
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.chat_prompts import ChatPrompts

SETTINGS = {
    "VLLM_LOGGING_LEVEL": "CRITICAL",  # also of its own processes, whose tracebacks nobody asked for
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # when a core in a process of its own is killed, vLLM waits for it for ever
}
"""Read by vLLM when it is imported; what a person has set stays."""
LOUDER = "VLLM_LOGGING_LEVEL=ERROR shows what it says itself"
ENDED_HERE = (None, "stop", "length")
"""Finish reasons that the tokens show, too."""


class EngineError(ModelError):
    """vLLM has stopped and answers nothing more; a new one may."""


class VllmModel(ChatPrompts):
    """vLLM's offline engine."""

    batched = True

    def __init__(
        self,
        path: str,
        *,
        gpus: int = 1,
        dtype: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        engine: Mapping[str, Any] | None = None,
    ) -> None:
        """`gpus`: as many share the weights. `engine`: further arguments of `vllm.LLM`.

        Raises `ConfigError` without vLLM, `ModelError` where it cannot load the model.
        """
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            import vllm
        except ImportError:
            raise ConfigError(
                "`vllm:` models need vLLM, which brings a torch of its own: in a new environment, "
                "`pip install vllm`, then `pip install longalign`"
            ) from None
        super().__init__(path, trust_remote_code=trust_remote_code, chat_template=chat_template)
        self._sampling = vllm.SamplingParams
        several = {"tensor_parallel_size": gpus, "distributed_executor_backend": "mp"} if gpus > 1 else {}
        arguments = {"dtype": dtype or "auto", "use_tqdm_on_load": False, **several, **(engine or {})}
        try:
            self.engine = vllm.LLM(model=self.path, trust_remote_code=trust_remote_code, **arguments)
        except Exception as error:  # its own, torch's, pydantic's, of a process that ended
            raise ModelError(f"{path}: vLLM cannot load it ({_said(error)}); {LOUDER}") from None

    @property
    def name(self) -> str:
        """That of the same weights, with the engine."""
        return f"vllm:{self._name}"

    @property
    def window(self) -> int | None:
        """The context in tokens that the engine has room for."""
        return int(self.engine.llm_engine.model_config.max_model_len)

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`. Raises `EngineError` when vLLM stops."""
        prompts = self.prompts_of(requests)
        window = self.window or 0
        fitting = [index for index, prompt in enumerate(prompts) if len(prompt) < window]
        for index in set(range(len(prompts))) - set(fitting):
            message = f"a prompt of {len(prompts[index]):,} tokens in a window of {window:,}; lower --max_length_tokens"
            yield index, Failure(kind="too_long", message=message, model=self.name)
        start = time.monotonic()
        try:
            answers = self.engine.generate(
                [{"prompt_token_ids": prompts[index]} for index in fitting],
                [self._parameters(requests[index]) for index in fitting],
                use_tqdm=False,
            )
        except Exception as error:
            raise EngineError(f"{self._spec}: vLLM stopped ({_said(error)}); {LOUDER}") from None
        wall_s = time.monotonic() - start
        for index, answer in zip(fitting, answers, strict=True):
            given = answer.outputs[0]
            ended = None if given.finish_reason in ENDED_HERE else str(given.finish_reason)
            yield index, self.outcome(list(given.token_ids), requests[index], prompts[index], wall_s, ended)

    def _parameters(self, request: Request) -> Any:
        return self._sampling(
            max_tokens=request.max_new_tokens,
            temperature=request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=request.seed,
            stop=list(request.stop) or None,
            stop_token_ids=self.stop_ids,
            skip_special_tokens=False,
        )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:240]}"
