"""What goes to a model with every request, besides the question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from longalign.config.base import Settings


class RequestSettings(Settings):
    """Extras of requests, of `DataSettings` and `EvalSettings`; unset ones are not sent, and change no ledger key."""

    system_prompt: str | None = Field(None, description="system message of every request: a text, or a FILE")
    top_p: float | None = Field(None, gt=0, le=1, description="sample from the likeliest tokens that reach this sum")
    reasoning_effort: str | None = Field(None, description="how much a model thinks: low, medium, high, ...")
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="given to the chat template: `'{\"enable_thinking\": false}'`"
    )
    extra_body: dict[str, Any] = Field({}, description="further fields of the request's body, as the server knows them")
    finish_reasons: tuple[str, ...] = Field(
        (), description="finish reasons that also mean a complete reply; `none`: for a server that gives none"
    )
    check_prompt_tokens: bool = Field(
        True, description="refuse replies to prompts of which the server counted fewer tokens than they can have"
    )

    @field_validator("system_prompt")
    @classmethod
    def _read_file(cls, value: str | None) -> str | None:
        """The text of a file, so that the text and not its place is what settings mean."""
        if value is None or "\n" in value or len(value) > 255:
            return value
        path = Path(value)
        try:
            if path.is_file():
                return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{value} cannot be read ({error})") from None
        if path.suffix in (".txt", ".md", ".jinja") and " " not in value:
            raise ValueError(f"there is no file {value}")
        return value
