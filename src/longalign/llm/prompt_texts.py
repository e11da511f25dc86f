"""The wording of prompts: a file of sections for each language in `prompts/`, and files of one's own in a folder.

A wording is named by a built-in language, or is an `OwnPrompts`: a small value that names folder, language and content,
so that it can be kept with a candidate, compared and pickled. What a file of one's own leaves out is found in the
built-in file of its language, then in one's own English file, then in the built-in English one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from longalign.base.files import fingerprint
from longalign.config.questions import TASKS
from longalign.errors import ConfigError

PromptLanguage = Literal["en", "zh", "ja", "ko", "es", "fr", "de", "ru", "ar"]
LANGUAGES: tuple[PromptLanguage, ...] = ("en", "zh", "ja", "ko", "es", "fr", "de", "ru", "ar")
NAMES: Mapping[PromptLanguage, str] = {
    "en": "English", "zh": "Chinese", "ja": "Japanese", "ko": "Korean", "es": "Spanish", "fr": "French",
    "de": "German", "ru": "Russian", "ar": "Arabic",
}  # fmt: skip
HEADING = re.compile(r"^## ((?:task )?\w+)[ \t]*\n", re.MULTILINE)
TASK = "task "
"""Begins the heading of a kind of question of one's own: `## task legal`."""
CODE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class OwnPrompts:
    """The prompts of a folder of one's own for one language. `content`: hash of all its files, as they were read."""

    folder: str
    language: str
    content: str


Wording = PromptLanguage | OwnPrompts


def prompt_language(language: str) -> PromptLanguage:
    """The prompts for documents of a language (ISO 639-1): its own where there are some, else English ones, which ask
    for the document's language."""
    return next((known for known in LANGUAGES if known == language), "en")


def wording_for(language: str, folder: str | None) -> Wording:
    """The wording for documents of a language, from the folder of the setting `prompts` or built in."""
    if folder is None:
        return prompt_language(language)
    own, content = own_texts(folder)
    return OwnPrompts(folder, language if language in own else prompt_language(language), content)


def wordings(folder: str | None) -> tuple[Wording, ...]:
    """Every wording there is: of the built-in languages, and of others that the folder has."""
    more = () if folder is None else tuple(sorted(set(own_texts(folder)[0]) - set(LANGUAGES)))
    return tuple(wording_for(language, folder) for language in (*LANGUAGES, *more))


def language_of(wording: Wording) -> str:
    """The language that a wording is in."""
    return wording.language if isinstance(wording, OwnPrompts) else wording


@cache
def sections(wording: Wording) -> Mapping[str, str]:
    """The texts of a wording by heading. Raises `ConfigError` if a file of one's own changed since it was read."""
    if not isinstance(wording, OwnPrompts):
        return split_sections(builtin_text(wording))
    own, content = own_texts(wording.folder)
    if content != wording.content:
        raise ConfigError(f"{wording.folder}: prompts changed while they were in use; run the command again")
    builtin = [sections(known) for known in LANGUAGES if known == wording.language]
    layers = [sections("en"), own.get("en", {}), *builtin, own.get(wording.language, {})]
    return {name: text for layer in layers for name, text in layer.items()}


def builtin_text(language: PromptLanguage) -> str:
    """A built-in prompt file."""
    return files("longalign.llm").joinpath(f"prompts/{language}.md").read_text(encoding="utf-8")


def split_sections(text: str) -> dict[str, str]:
    """The sections of a prompt file by heading."""
    parts = HEADING.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


@cache
def own_texts(folder: str) -> tuple[Mapping[str, Mapping[str, str]], str]:
    """(language -> heading -> text, hash of the content) of a folder of prompt files, as they were when it was first
    asked for: files that are edited meanwhile count from the next build on (`read_again`).

    Raises `ConfigError` with file and line for what cannot be a prompt file.
    """
    from longalign.llm.prompt_check import check_file  # knows the rules; needs the built-in texts from here

    path = Path(folder)
    if not path.is_dir():
        raise ConfigError(f"{folder}: no such folder; write one with `longalign data prompts init {folder}`")
    found = {}
    for file in sorted(path.glob("*.md")):
        if file.name.lower() == "readme.md":
            continue
        if not CODE.fullmatch(file.stem):
            raise ConfigError(f"{file}: a prompt file is named by its language, such as en.md (ISO 639-1)")
        found[file.stem] = check_file(file)
    if not found:
        raise ConfigError(
            f"{folder}: no prompt file in it, such as en.md; write one with `longalign data prompts init`"
        )
    return found, fingerprint(found)[:16]


def read_again() -> None:
    """Forget what the files of folders held: at the start of a build."""
    own_texts.cache_clear()


def check_tasks(tasks: Iterable[str], folder: str | None) -> None:
    """Raise `ConfigError` for a kind of question that has no prompt."""
    for task in tasks:
        if task not in TASKS and task not in own_tasks(folder):
            raise ConfigError(f"tasks: `{task}` has no prompt; write a section `## task {task}` into {folder}/en.md")


def own_tasks(folder: str | None) -> tuple[str, ...]:
    """Kinds of questions that a folder's English file adds, by its sections `## task NAME`."""
    if folder is None:
        return ()
    return tuple(name.removeprefix(TASK) for name in own_texts(folder)[0].get("en", {}) if name.startswith(TASK))
