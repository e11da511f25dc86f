"""The turns of a conversation, in any of the ways people write them, as messages that chat templates take.

| written | becomes |
|---|---|
| `role`, `content` or `from`, `value` | `role`, `content` |
| content as a list of text parts | one text |
| roles `human`, `gpt`, `model`, ... | `user`, `assistant` |
| roles `function`, `ipython`, `observation`, `tool_response` | `tool` |
| roles `function_call`, `tool_call` with a call as JSON; a field `function_call` | `tool_calls` of an assistant |
| `arguments` as JSON in a string | an object |
| `weight`, `loss`, `train`, `training`, `loss_scale` of 0 or 1 | `train`: false or true |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longalign.data.row_values import content_of, flag_of, json_of, kind_of, list_of
from longalign.errors import DataError

Messages = list[dict[str, Any]]
CALL = "call"
ROLES = {
    **dict.fromkeys(("system", "developer", "user", "assistant", "tool")),
    "human": "user",
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "claude", "model"), "assistant"),
    **dict.fromkeys(("function", "ipython", "observation", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), CALL),
}
"""Name -> what it becomes; None: it stays."""
FLAGS = ("train", "training", "loss", "weight", "loss_scale")
DETAILS = ("train_detail", "training_detail")
OTHER_FLAGS = ("mask", "masked", "loss_mask", "trainable", "train_on_turn")
"""Flags of other programs that are not read, since they do not agree on what is on."""
KEPT_OF_SHAREGPT = ("name", "tool_calls", "tool_call_id", "reasoning_content", "function_call", *FLAGS, *DETAILS)


def read_turns(value: object, where: str, field: str, *, empty: bool = False) -> Messages:
    """The messages of a list of turns. Raises `DataError` with file:line and field for what is not understood."""
    messages: Messages = []
    for position, item in enumerate(list_of(value, where, field, empty=empty)):
        message, is_call = _message(item, where, f"{field}[{position}]", sharegpt=field.startswith("conversation"))
        before = messages[-1] if messages else None
        if is_call and before and before["role"] == "assistant":  # said and called, or called twice, in one turn
            if before.get("train") != message.get("train"):
                raise DataError(f"{where}: field `{field}[{position}]`: parts of one answer are flagged differently")
            before["tool_calls"] = [*before.get("tool_calls", ()), *message["tool_calls"]]
        else:
            messages.append(message)
    return messages


def _message(item: object, where: str, place: str, *, sharegpt: bool) -> tuple[dict[str, Any], bool]:
    """One message, and whether the turn is nothing but a call."""
    if not isinstance(item, Mapping):
        form = "`from`, `value`" if sharegpt else "`role`, `content`"
        raise DataError(f"{where}: field `{place}` is {kind_of(item)}; it must be {{{form}}}")
    turn = {key: value for key, value in item.items() if value is not None}
    speaks = "role" if "role" in turn or ("from" not in turn and not sharegpt) else "from"
    says = "content" if speaks == "role" and "value" not in turn else "value"
    role = turn.pop(speaks, None)
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise DataError(f"{where}: field `{place}.{speaks}` is {role!r:.40}; it must be one of {', '.join(ROLES)}")
    role = ROLES[role.lower()] or role.lower()
    content = turn.pop(says, None)
    for name in OTHER_FLAGS:
        if turn.get(name) is not None:
            raise DataError(f"{where}: field `{place}.{name}` is not read; flag answers with `train`: true or false")
    if speaks == "from":
        turn = {key: value for key, value in turn.items() if key in KEPT_OF_SHAREGPT}
    is_call = role == CALL
    calls = _calls(turn, where, place) or (_call_list(content, where, f"{place}.{says}") if is_call else [])
    if is_call:
        role, content = "assistant", None
    if content is not None or not calls:
        content = content_of(content, where, f"{place}.{says}")
    train = _flag(turn, where, place, role)
    message = {"role": role, "content": content, **turn}
    return message | ({"tool_calls": calls} if calls else {}) | ({} if train is None else {"train": train}), is_call


def _calls(turn: dict[str, Any], where: str, place: str) -> list[dict[str, Any]]:
    """The calls of a turn, taken out of it: `tool_calls`, or `function_call` as OpenAI had it first."""
    calls = _call_list(turn.pop("tool_calls", None) or [], where, f"{place}.tool_calls")
    if (call := turn.pop("function_call", None)) and not calls:
        calls = _call_list(call, where, f"{place}.function_call")
    return calls


def _call_list(value: object, where: str, field: str) -> list[dict[str, Any]]:
    value = json_of(value, where, field)
    if isinstance(value, list):
        return [_call(call, where, f"{field}[{position}]") for position, call in enumerate(value)]
    return [_call(value, where, field)]


def _call(value: object, where: str, field: str) -> dict[str, Any]:
    """`{type, function: {name, arguments}}` of a call that may lack the outer layer; `arguments` as an object."""
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: field `{field}` is {kind_of(value)}; it must be {{`name`, `arguments`}}")
    call = {key: item for key, item in value.items() if item is not None}
    if "function" not in call and "name" in call:
        call = {"type": "function", "function": call}
    if call.get("type", "function") != "function":
        raise DataError(f"{where}: field `{field}.type` is {call['type']!r:.40}; only calls of a `function` are read")
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: field `{field}.function` is not {{`name`, `arguments`}}; a call names its function")
    written = function.get("arguments")
    arguments = {} if written in (None, "") else json_of(written, where, f"{field}.function.arguments")
    if not isinstance(arguments, Mapping):
        raise DataError(
            f"{where}: field `{field}.function.arguments` is {kind_of(arguments)}; it must be an object, name to value"
        )
    return {**call, "type": "function", "function": {**function, "arguments": dict(arguments)}}


def _flag(turn: dict[str, Any], where: str, place: str, role: str) -> bool | None:
    """Whether the turn is trained, where it says so; its flags are taken out of it."""
    for name in DETAILS:
        if turn.pop(name, None):
            raise DataError(f"{where}: field `{place}.{name}`: only whole answers can be flagged")
    found = {name: flag_of(turn.pop(name), where, f"{place}.{name}") for name in FLAGS if name in turn}
    if not found:
        return None
    if len(set(found.values())) > 1:
        names = " and ".join(f"`{name}`" for name in found)
        raise DataError(f"{where}: field `{place}`: {names} contradict each other; keep one")
    name, train = next(iter(found.items()))
    if role == "assistant":
        return train
    if train:
        raise DataError(f"{where}: field `{place}.{name}` is on for a turn of `{role}`; only answers are trained")
    return None
