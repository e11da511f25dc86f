"""`longalign data prompts init`: writes the built-in prompt files to edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longalign.base.files import make_folder
from longalign.errors import ConfigError
from longalign.llm.prompt import prompt_hash, wording_for
from longalign.llm.prompt_file import LANGUAGES, builtin_text, prompt_language
from longalign.llm.prompt_texts import CODE, read_again


def write_prompts(folder: Path, languages: Sequence[str] = ()) -> dict[str, Any]:
    """Write the prompt files of `languages` (default: all built-in ones) into a folder; of a language without prompts
    the English ones, to translate.

    Returns files and hashes by language, with `text`. Raises `ConfigError` for what is no language code, and for files
    that are there: nothing is overwritten, nothing is written then.
    """
    wanted = list(dict.fromkeys(languages)) or list(LANGUAGES)
    for language in wanted:
        if not CODE.fullmatch(language):
            raise ConfigError(f"--language {language}: not a language code of ISO 639-1, such as en or de")
    paths = {language: folder / f"{language}.md" for language in wanted}
    there = [str(path) for path in paths.values() if path.exists()]
    if there:
        raise ConfigError(f"{', '.join(there)}: exists and is not overwritten; choose another folder or --language")
    make_folder(folder)
    for language, path in paths.items():
        path.write_text(builtin_text(prompt_language(language)), encoding="utf-8", newline="\n")
    read_again()
    found = {
        language: {"file": str(path), "prompt": prompt_hash(wording_for(language, str(folder)))}
        for language, path in paths.items()
    }
    english = [language for language in wanted if language not in LANGUAGES]
    lines = [f"{said['file']}  {said['prompt']}" for said in found.values()]
    if english:
        lines.append(f"{', '.join(english)}: no built-in prompts, the files hold the English ones to translate")
    lines.append(f"edit them, delete what stays as it is, and give `--prompts {folder}` to `longalign data build`")
    return {"folder": str(folder), "prompts": found, "text": "\n".join(lines)}
