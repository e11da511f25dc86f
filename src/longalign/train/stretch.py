"""Stretches RoPE in a model's config: which parameters change, and what is rejected (arithmetic: core/rope.py)."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from longalign.config import RopeSettings
from longalign.core import rope as rope_core
from longalign.errors import ModelError


def stretch_rope(config: Any, rope: RopeSettings, window: int) -> tuple[Any, tuple[str, ...]]:
    """A new config whose RoPE reaches `window` tokens, and the explanation: reason and coverage of the window.

    Models with one RoPE for sliding and one for full attention change the latter: a sliding window never sees further.
    """
    entries = rope_entries(config)
    where = "full_attention" if "full_attention" in entries else next(iter(entries))
    old = entries[where]
    trained_window = rope.trained_window or config.max_position_embeddings
    try:
        stretched = rope_core.stretch(
            old,
            method=rope.method,
            rotary_dim=rotary_dim(config, old),
            trained_window=trained_window,
            window=window,
            base_factor=rope.base_factor,
            factor=rope.factor,
        )
    except ValueError as error:
        raise ModelError(f"cannot stretch RoPE of this {config.model_type} model: {error}") from error
    lines = [stretched.reason]
    try:
        lines += rope_core.coverage(
            old,
            stretched.parameters,
            rotary_dim=rotary_dim(config, old),
            trained_window=trained_window,
            window=window,
        ).lines()
    except ValueError as error:
        lines.append(f"coverage unknown: {error}")
    changed = config.to_dict()
    changed["rope_parameters"] = stretched.parameters
    if where != "":
        changed["rope_parameters"] = {**config.rope_parameters, where: stretched.parameters}
    changed["max_position_embeddings"] = max(window, config.max_position_embeddings)
    try:
        new = type(config).from_dict(changed)
    except (ValueError, StrictDataclassError) as error:
        raise ModelError(
            f"{config.model_type} configs do not allow RoPE method {rope.method!r}: {last_line(error)}"
        ) from error
    taken = new.rope_parameters[where] if where else new.rope_parameters
    if any(taken.get(key) != value for key, value in stretched.parameters.items()):
        raise ModelError(f"{config.model_type} configs overrule RoPE method {rope.method!r} with values of their own")
    return new, tuple(lines)


def rotary_dim(config: Any, parameters: Mapping[str, Any]) -> int:
    """Dimensions of a head that rotate."""
    latent = getattr(config, "qk_rope_head_dim", None)
    if latent:
        return int(latent)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    share = 1.0 if parameters.get("rope_type") == "proportional" else parameters.get("partial_rotary_factor", 1.0)
    return int(head_dim * share)


def rope_entries(config: Any) -> dict[str, dict[str, Any]]:
    """RoPE parameters by layer type; the key is "" when all layers share one set."""
    parameters = getattr(config, "rope_parameters", None)
    if not parameters:
        return {}
    nested = {key: value for key, value in parameters.items() if isinstance(value, dict)}
    return nested or {"": parameters}


def check_rope(name: str, parameters: Mapping[str, Any]) -> None:
    kind = parameters.get("rope_type", "default")
    if kind == "dynamic" or (kind == "longrope" and parameters["short_factor"] != parameters["long_factor"]):
        raise ModelError(
            f"{name}: rope_type {kind!r} changes every position's encoding with the longest segment of a pack; "
            "set a fixed rope_type in config.json"
            + (" (copying `long_factor` over `short_factor` fixes the long one)" if kind == "longrope" else "")
        )


def last_line(error: Exception) -> str:
    """Where validation errors say what is wrong; of long texts without structure the first line says it."""
    lines = str(error).strip().split("\n")
    return (lines[-1] if isinstance(error, StrictDataclassError) else lines[0]).strip()
