"""The model under test: opening it, counting its prompts, and how fingerprints identify it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from longalign.base.files import fingerprint, fingerprint_path
from longalign.base.sources import model_dir
from longalign.base.tokenizers import open_tokenizer, read_chat_template
from longalign.config import EvalSettings
from longalign.eval.answers import Answer, Item, ask
from longalign.eval.results import ModelFacts
from longalign.eval.token_view import CharacterView, TokenizerView, TokenView
from longalign.llm.base import LanguageModel, close_model, innermost
from longalign.llm.open import is_endpoint, is_vllm, open_model, path_of


@dataclass(frozen=True)
class Subject:
    """A model that answers, and a view of its tokens.

    `window`: the context its config promises, if known. `thinking_tokens`: added to the cap of every question.
    """

    model: LanguageModel
    view: TokenView
    window: int | None
    batch_tokens: int
    thinking_tokens: int = 0

    def ask(self, items: Sequence[Item], log: Path, label: str) -> dict[str, Answer]:
        """See `answers.ask`."""
        if self.thinking_tokens:
            items = [replace(item, max_new_tokens=item.max_new_tokens + self.thinking_tokens) for item in items]
        return ask(self.model, items, log, label=label, batch_tokens=self.batch_tokens)

    @property
    def facts(self) -> ModelFacts:
        """The model's entry in the results."""
        return ModelFacts(self.model.name, self.view.unit, self.window)


@contextmanager
def open_subject(settings: EvalSettings, out: Path) -> Iterator[Subject]:
    """Open the model of `settings`. Replies of endpoints are remembered in `out/ledger.sqlite`: never paid twice."""
    paid = is_endpoint(settings.model)
    model = open_model(
        settings.model,
        ledger=out / "ledger.sqlite" if paid else None,
        batch_tokens=settings.batch_tokens,
        concurrency=settings.concurrency,
        price_usd_per_million=settings.price_usd_per_million,
        max_cost_usd=settings.max_cost_usd,
        trust_remote_code=settings.trust_remote_code,
        chat_template=read_chat_template(settings.chat_template) if settings.chat_template else None,
        extras=settings,
        share_prefixes=settings.share_prefixes,
    )
    inner = innermost(model)
    view: TokenView
    if settings.tokenizer:
        tokenizer = open_tokenizer(settings.tokenizer, trust_remote_code=settings.trust_remote_code)
        view = TokenizerView(tokenizer, settings)
    elif hasattr(inner, "tokenizer"):
        from transformers.utils import logging

        from longalign.base.threads import choose_threads

        logging.set_verbosity_error()  # prompts beyond the window are meant; results say so
        choose_threads(out)  # kept in the folder: a resumed run rounds as it began
        view = TokenizerView(inner.tokenizer, settings)
    else:
        view = CharacterView(settings)
    try:
        yield Subject(model, view, getattr(inner, "window", None), settings.batch_tokens, settings.thinking_tokens)
    finally:
        close_model(model)


def resolve(spec: str) -> str:
    """The path behind a model spec; hub ids and endpoints stay as they are."""
    if is_endpoint(spec) or spec.startswith("offline"):
        return spec
    path = str(Path(model_dir(path_of(spec))).expanduser())
    return f"vllm:{path}" if is_vllm(spec) else path


def model_fingerprint(settings: EvalSettings) -> str:
    """Content of a model folder, or the spec of what cannot be looked into; with the chat template that is set."""
    path = Path(path_of(resolve(settings.model)))
    found = fingerprint_path(path) if path.is_dir() else fingerprint(settings.model)
    if is_vllm(settings.model):
        found = fingerprint("vllm", found)
    return fingerprint(found, read_chat_template(settings.chat_template)) if settings.chat_template else found
