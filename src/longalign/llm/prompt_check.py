"""What a prompt file of one's own must look like, checked before any call: errors name file and line."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from longalign.errors import ConfigError
from longalign.llm.prompt_file import HEADING, TASK, builtin_sections

MARK = "----\n"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
LABEL = re.compile(r"^([a-z]+):", re.MULTILINE)
JUDGING = ("check", "check_scores", "answerable")
"""Sections whose replies are read by the labels that they show."""


def check_file(file: Path) -> dict[str, str]:
    """The sections of a prompt file. Raises `ConfigError`."""
    try:
        text = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n") + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as UTF-8 text ({error})") from None
    headings = list(HEADING.finditer(text))
    _check_between(file, text, headings)
    found: dict[str, str] = {}
    for place, heading in enumerate(headings):
        end = headings[place + 1].start() if place + 1 < len(headings) else len(text)
        line = text.count("\n", 0, heading.start()) + 1
        name, body = heading[1], text[heading.end() : end].strip()
        if fault := _fault(name, body, found):
            raise ConfigError(f"{file}:{line}: section `{name}`: {fault}")
        found[name] = body
    if not found:
        raise ConfigError(f"{file}: no section in it; a section begins with a line such as `## questions`")
    return found


def _check_between(file: Path, text: str, headings: list[re.Match[str]]) -> None:
    """Nothing stands before the first section, and no line looks like a heading and is none."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("##") and not HEADING.fullmatch(line + "\n"):
            raise ConfigError(f"{file}:{number}: `{line}` is no heading of a section; write it as `## questions`")
    before = text[: headings[0].start()] if headings else ""
    if before.strip():
        number = len(before) - len(before.lstrip())
        raise ConfigError(f"{file}:{text.count(chr(10), 0, number) + 1}: text before the first section")


def _fault(name: str, body: str, found: dict[str, str]) -> str | None:
    builtin = builtin_sections("en")
    own = name.startswith(TASK)
    if not own and name not in builtin:
        near = get_close_matches(name, builtin, 1)
        meant = f"do you mean `{near[0]}`?" if near else f"there are {', '.join(builtin)}, and `task NAME`"
        return f"no prompt has this name; {meant}"
    if own and name.removeprefix(TASK) in builtin:
        return f"a prompt is called `{name.removeprefix(TASK)}` already; take another name"
    if name in found:
        return "is there twice"
    if not body:
        return "is empty; leave it out to take the built-in text"
    model = "" if own else builtin[name]
    if model.startswith(MARK) and not body.startswith(MARK):
        return "must begin with a line `----`, which parts the document from the request"
    wanted, given = set(PLACEHOLDER.findall(model)), set(PLACEHOLDER.findall(body))
    if missing := sorted(wanted - given):
        return f"lacks {', '.join(f'{{{word}}}' for word in missing)}, which is filled in"
    if twice := next((word for word in sorted(wanted) if body.count(f"{{{word}}}") > 1), None):
        return f"holds {{{twice}}} more than once"
    if foreign := sorted((given - wanted) & _placeholders()):
        return f"holds {{{foreign[0]}}}, which is not filled in here"
    labels = set(LABEL.findall(model)) if name in JUDGING else set()
    if missing := sorted(labels - set(LABEL.findall(body))):
        return f"lacks a line that begins with `{missing[0]}:`, by which the reply is read"
    return None


@cache
def _placeholders() -> set[str]:
    return {word for text in builtin_sections("en").values() for word in PLACEHOLDER.findall(text)}
