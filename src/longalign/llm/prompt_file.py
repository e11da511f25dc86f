"""The built-in prompt files, `prompts/LANGUAGE.md`: sections under headings such as `## questions`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

PromptLanguage = Literal["en", "zh", "ja", "ko", "es", "fr", "de", "ru", "ar"]
LANGUAGES: tuple[PromptLanguage, ...] = ("en", "zh", "ja", "ko", "es", "fr", "de", "ru", "ar")
NAMES: Mapping[PromptLanguage, str] = {
    "en": "English", "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "es": "Spanish", "fr": "French",
    "de": "German", "ru": "Russian", "ar": "Arabic",
}  # fmt: skip
HEADING = re.compile(r"^## ((?:task )?\w+)[ \t]*\n", re.MULTILINE)
TASK = "task "
"""Begins the heading of a kind of question of one's own: `## task legal`."""


def prompt_language(language: str) -> PromptLanguage:
    """The prompts for documents of a language (ISO 639-1): its own where there are some, else English ones, which ask
    for the document's language."""
    return next((known for known in LANGUAGES if known == language), "en")


def builtin_text(language: PromptLanguage) -> str:
    """A built-in prompt file."""
    return files("longalign.llm").joinpath(f"prompts/{language}.md").read_text(encoding="utf-8")


def split_sections(text: str) -> dict[str, str]:
    """The sections of a prompt file by heading."""
    parts = HEADING.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


@cache
def builtin_sections(language: PromptLanguage) -> Mapping[str, str]:
    """The texts of a built-in prompt file by heading."""
    return split_sections(builtin_text(language))
