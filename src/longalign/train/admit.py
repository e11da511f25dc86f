"""Which layout a model trains in, decided by running it on this device: packed, or one sequence a row.

Layers that carry a state from token to token (linear attention, state spaces, convolutions) keep packed segments apart
only where their kernels take the boundaries; with others a segment reads the one before. A causal model of any kind can
still train on rows of one sequence each, padded on the right: what comes later reaches no real token. So:

1. the isolation check runs on a pack (`check_isolation.py`); what it proves trains packed;
2. otherwise the same questions are asked of a right-padded batch, with this project's attention and then with
   transformers' own; what is proven trains with the strategies `padded` and `sorted`, and other strategies are refused.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from longalign.core.strategies import strategy_of
from longalign.errors import ModelError
from longalign.train.check_isolation import IsolationReport, attempt, check_isolation, check_rows, logits_of, segments
from longalign.train.model import own_attention
from longalign.train.wrapper import without_peft

PLACED_BY_PACK = {
    "attn_temperature_tuning": "scales attention by the place in the row, so that a segment would depend on its pack",
    "index_topk": "chooses keys out of the whole row, so that a segment would depend on its pack",
}
"""Config fields whose effect begins beyond the length of the check."""


def admit(model: nn.Module, strategy: str, *, shared: bool = False, seed: int = 0) -> IsolationReport:
    """Decide how `model` trains with `strategy`, prepare it for that, and report what was measured.

    `shared`: several ranks share each pack. Call it as `check_isolation` is called. Raises `ModelError` with the reason
    and, where there is one, the way out.
    """
    plain = cast(Any, model)
    try:
        report = _packed(model, seed=seed)
    except ModelError as refused:
        try:
            report = _rows(model, seed=seed)
        except ModelError as error:
            raise ModelError(f"{refused}; nor can it train on rows of one sequence each: {error}") from None
        if strategy_of(strategy).microbatches != "padded":
            raise ModelError(f"{refused}; strategy sorted or padded trains it, one sequence a row") from None
        if shared:
            raise ModelError(f"{refused}; it trains on rows of one sequence each, with sequence_parallel 1") from None
        plain.one_sequence_a_row = True
    if shared and (moved := _moved_outside_attention(model)) > report.tolerance.isolated:
        raise ModelError(
            f"{type(model).__name__}: layers other than attention pass something from token to token (logits move by "
            f"{moved:.2g} of their spread), so ranks cannot share a sequence: set sequence_parallel to 1"
        )
    return report


def why_not_packed(model: nn.Module) -> str:
    """The reason for which segments of `model` cannot share a row; empty where they can."""
    try:
        _packed(model, seed=0)
    except ModelError as refused:
        return str(refused)
    return ""


def admit_any(model: nn.Module) -> IsolationReport:
    """As `admit`, whatever the strategy will be: a pack given to a model of rows is refused when it arrives."""
    return admit(model, "padded")


def only_a_run_can_tell(plain: Any) -> bool:
    """Whether the config names layers beyond attention in segments, so that `admit` must decide."""
    text = plain.config.get_text_config()
    foreign = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    placed = any(getattr(text, field, None) for field in PLACED_BY_PACK)
    return bool(foreign or placed or plain._is_stateful or not plain._supports_attention_backend)


def measure_in_rows(model: nn.Module) -> None:
    """Prepare a model that is only measured, one sequence at a time, without asking it anything: where a run would have
    to tell whether it can train packed, a row of one sequence and transformers' own attention are right."""
    plain = cast(Any, model)
    if only_a_run_can_tell(plain):
        plain.one_sequence_a_row = True
        plain.set_attn_implementation(own_attention(type(plain)))


def takes_rows(model: nn.Module) -> bool:
    """Whether `admit` found that this model, wrapped by PEFT or not, trains on rows of one sequence only."""
    return bool(getattr(without_peft(model), "one_sequence_a_row", False))


def _packed(model: nn.Module, *, seed: int) -> IsolationReport:
    config = cast(Any, model).config
    for field, reason in PLACED_BY_PACK.items():
        if value := getattr(config.get_text_config(), field, None):
            raise ModelError(f"{config.model_type} models: {field}={value} {reason}")
    plain = cast(Any, model)
    through_interface = plain._supports_attention_backend
    foreign = "carry a state" if plain._is_stateful else "do not use the attention interface of transformers"
    unsure = f"{config.model_type} models {foreign}, so packed segments cannot be kept apart"
    if not through_interface and config._attn_implementation in ("sdpa", "eager"):
        raise ModelError(unsure)
    try:
        return attempt(model, "a pack", lambda: check_isolation(model, seed=seed))
    except ModelError as error:
        if through_interface or plain._is_stateful:
            raise
        raise ModelError(unsure) from error


def _rows(model: nn.Module, *, seed: int) -> IsolationReport:
    """With the model's present attention, or else with transformers' own, which it then keeps."""
    plain = cast(Any, model)
    present, own = plain.config._attn_implementation, own_attention(type(plain))
    try:
        return attempt(model, "rows", lambda: check_rows(model, seed=seed))
    except ModelError:
        if present == own:
            raise
    plain.set_attn_implementation(own)
    try:
        return attempt(model, "rows", lambda: check_rows(model, seed=seed))
    except ModelError:
        plain.set_attn_implementation(present)
        raise


class _NoExchange:
    """Attention in which every token sees only itself: T rows of one token."""

    def to_heads(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = (x.transpose(0, 2) for x in (query, key, value))  # [1, H, T, D] to [T, H, 1, D]
        return query, key, value

    def to_sequence(self, output_BTHD: Tensor) -> Tensor:
        return output_BTHD.transpose(0, 1)

    def own_heads(self, per_head_H: Tensor) -> Tensor:
        return per_head_H


def _moved_outside_attention(model: nn.Module) -> float:
    """By how much of their spread other tokens' logits move with one token, when attention mixes none."""
    plain = cast(Any, model)
    vocabulary = plain.config.get_text_config().vocab_size
    count = sum(segments(plain.config)[:1])
    ids_T = torch.arange(count, device=next(model.parameters()).device) % vocabulary
    changed_T = ids_T.clone()
    changed_T[3] = (changed_T[3] + 1) % vocabulary
    alone = {"sequence_parallel": _NoExchange()}
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            before_TV, after_TV = (logits_of(model, ids[None], **alone)[0] for ids in (ids_T, changed_T))
    finally:
        model.train(training)
    others = torch.arange(count, device=ids_T.device) != 3
    return float((after_TV - before_TV)[others].abs().max() / before_TV.std())
