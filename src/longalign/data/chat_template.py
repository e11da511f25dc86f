"""A chat template from a file, for tokenizers that come without one: those of base models."""

from __future__ import annotations

from pathlib import Path

from longalign.errors import ConfigError


def read_chat_template(path: str) -> str:
    """The Jinja text of a template file. Raises `ConfigError` when it cannot be read or is empty."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"chat_template: {path} cannot be read ({error}); see recipes/templates/") from None
    if not text.strip():
        raise ConfigError(f"chat_template: {path} is empty")
    return text
