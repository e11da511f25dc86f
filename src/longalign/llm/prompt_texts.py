"""The wording of prompts: the built-in files of `prompts/`, and files of one's own in a folder.

A wording is named by a built-in language, or is an `OwnPrompts`: a small value that names folder, language and content,
so that it can be kept with a candidate, compared and pickled. What a file of one's own leaves out is found in the
built-in file of its language, then in one's own English file, then in the built-in English one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from longalign.base.files import fingerprint
from longalign.config.questions import TASKS
from longalign.errors import ConfigError
from longalign.llm.prompt_check import check_file
from longalign.llm.prompt_file import LANGUAGES, TASK, PromptLanguage, builtin_sections, prompt_language

CODE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class OwnPrompts:
    """The prompts of a folder of one's own for one language. `content`: hash of all its files, as they were read."""

    folder: str
    language: str
    content: str


Wording = PromptLanguage | OwnPrompts


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
        return builtin_sections(wording)
    own, content = own_texts(wording.folder)
    if content != wording.content:
        raise ConfigError(f"{wording.folder}: prompts changed while they were in use; run the command again")
    builtin = [builtin_sections(known) for known in LANGUAGES if known == wording.language]
    layers = [builtin_sections("en"), own.get("en", {}), *builtin, own.get(wording.language, {})]
    return {name: text for layer in layers for name, text in layer.items()}


@cache
def own_texts(folder: str) -> tuple[Mapping[str, Mapping[str, str]], str]:
    """(language -> heading -> text, hash of the content) of a folder of prompt files, as they were when it was first
    asked for: files that are edited meanwhile count from the next build on (`read_again`).

    Raises `ConfigError` with file and line for what cannot be a prompt file.
    """
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
