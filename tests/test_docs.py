"""What the documents tell people to type is what the program takes: verbs, options, values, files, links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from longalign.cli.eval import whole_numbers
from longalign.cli.verbs import app, spread_lists
from longalign.config import (
    ChatSettings,
    DataSettings,
    EvalSettings,
    ExtendSettings,
    LeaderboardSettings,
    LongBenchV1Settings,
    LongBenchV2Settings,
    NeedleSettings,
    PlanSettings,
    PositionSettings,
    PreferenceSettings,
    RunSettings,
    Settings,
    ShortSettings,
    SyntheticSettings,
    TrainSettings,
)
from longalign.config.load import build, load_run, nest, parse_overrides

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS: dict[str, type[Settings]] = {
    "extend": ExtendSettings,
    "data build": DataSettings,
    "data preferences": PreferenceSettings,
    "plan": PlanSettings,
    "train": TrainSettings,
    "eval needle": NeedleSettings,
    "eval chat": ChatSettings,
    "eval longbench-chat": ChatSettings,
    "eval longbench": ChatSettings,
    "eval mt-bench": ChatSettings,
    "eval synthetic": SyntheticSettings,
    "eval longbench-v1": LongBenchV1Settings,
    "eval longbench-v2": LongBenchV2Settings,
    "eval short": ShortSettings,
    "eval position": PositionSettings,
    "eval leaderboard": LeaderboardSettings,
    "eval judge": ChatSettings,
    "run": RunSettings,
    "config show": RunSettings,
}
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|(?<!from)\s)longalign\s+(?=[a-z-])")
OPTION = re.compile(r"--[a-zA-Z][\w.-]*")
OTHER_TOOLS = ("--nproc-per-node", "--nnodes", "--editable", "--extra-index-url", "--index-url")


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `longalign ...` line of a script, as a shell would pass them."""
    for line in text.replace("\\\n", " ").splitlines():
        found = COMMAND.search(line)
        if found and not line.lstrip().startswith("#"):
            words = shlex.split(line[found.end() :], comments=True)
            end = next((n for n, word in enumerate(words) if word in ("|", "&&", ">", "2>", ";", "&")), len(words))
            yield words[:end]


def scripts(page: Path) -> list[list[str]]:
    """The commands in code blocks."""
    return [words for block in FENCE.findall(page.read_text(encoding="utf-8")) for words in commands(block)]


def mentions(page: Path) -> list[list[str]]:
    """The commands in running text; they may be cut short."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [words for span in INLINE.findall(prose) for words in commands(span)]


def verb_of(words: list[str]) -> tuple[str, Any, list[str]]:
    """The verb a person typed, its command, and the arguments after it."""
    command: Any = typer.main.get_command(app)
    names: list[str] = []
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        names.append(rest.pop(0))
        assert names[-1] in command.commands, f"longalign has no verb `{' '.join(names)}`"
        command = command.commands[names[-1]]
    return " ".join(names), command, rest


def options_of(verb: str, command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


def is_setting(verb: str, option: str) -> bool:
    """Whether `--a.b` names a setting of the verb."""
    key = option.removeprefix("--").replace("-", "_")
    if verb.startswith("eval ") and key in EvalSettings.model_fields:
        return True
    if verb == "eval run":
        return True  # settings of the task, which tests/eval/test_extend.py runs
    return verb in SETTINGS and leads_somewhere(SETTINGS[verb], key.split("."))


def leads_somewhere(cls: Any, path: list[str]) -> bool:
    """Whether a dotted path ends at a field; names of sets and arms are free."""
    if not path:
        return True
    if hasattr(cls, "model_fields"):
        field = cls.model_fields.get(path[0])
        return field is not None and leads_somewhere(field.annotation, path[1:])
    inside = [part for part in getattr(cls, "__args__", ()) if part is not type(None)]
    if getattr(cls, "__origin__", None) is dict:
        free = path[1:]  # a set's or arm's name
        return leads_somewhere(TrainSettings if inside[1] != DataSettings else DataSettings, free)
    return any(leads_somewhere(part, path) for part in inside)


def settings_of(verb: str, context: Any) -> None:
    """Build the verb's settings from what was typed, as the command line does, without running the stage."""
    overrides = parse_overrides(context.args)
    if verb in ("run", "config show"):
        recipe = ROOT / context.params["recipe"]
        if recipe.exists():
            load_run(recipe, overrides, full=context.params["full"])
        return
    if verb == "eval run":
        return
    if verb not in SETTINGS:
        assert not overrides, f"`{verb}` takes no settings"
        return
    cls = SETTINGS[verb]
    values = {key: value for key, value in context.params.items() if key in cls.model_fields and value is not None}
    if verb == "train":
        values["data"] = dict.fromkeys(values.get("data") or ())
    if verb.startswith("eval ") and isinstance(values.get("lengths"), str):
        values["lengths"] = whole_numbers(values["lengths"])
    if "tasks" in values:
        values["tasks"] = values["tasks"].split(",")
    outer = {key for key in overrides if verb.startswith("eval ") and key in EvalSettings.model_fields}
    build(cls, values | nest({key: value for key, value in overrides.items() if key not in outer}), verb)
    build(EvalSettings, {key: overrides[key] for key in outer}, verb)


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_in_a_code_block_is_taken_as_it_stands(page: Path) -> None:
    for words in scripts(page):
        verb, command, rest = verb_of(spread_lists(words))
        if "--help" not in rest and not any("..." in word for word in rest):
            with command.make_context(verb, rest) as context:
                settings_of(verb, context)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_option_of_a_command_is_one_of_its_verb(page: Path) -> None:
    for words in [*scripts(page), *mentions(page)]:
        verb, command, rest = verb_of(words)
        for option in {word.split("=")[0] for word in rest if OPTION.fullmatch(word.split("=")[0])}:
            known = option in options_of(verb, command) or is_setting(verb, option)
            assert known, f"`longalign {verb}` has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_option_named_in_the_text_is_one_of_some_verb(page: Path) -> None:
    root: Any = typer.main.get_command(app)
    leaves = [
        (f"{name} {inner}".strip(), leaf)
        for name, command in root.commands.items()
        for inner, leaf in (getattr(command, "commands", None) or {"": command}).items()
    ]
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = [span for span in INLINE.findall(prose) if span.startswith("--")]
    for option in {found for span in spans for found in OPTION.findall(span)} - set(OTHER_TOOLS):
        assert any(option in options_of(verb, leaf) or is_setting(verb, option) for verb, leaf in leaves), option


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_leads_to_a_file(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    inside = [target.partition("#")[0] for target in LINK.findall(prose) if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in inside if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_recipe_benchmark_and_make_target_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file in re.findall(r"\b(?:recipes|benchmarks)/[\w/.-]+\.(?:yaml|py|json)\b", text):
        assert (ROOT / file).exists(), file
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    code = [*INLINE.findall(text), *(line for block in FENCE.findall(text) for line in block.splitlines())]
    for target in {found[1] for span in code if (found := re.match(r"\s*make ([a-z][\w-]*)", span))}:
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"


def test_the_guides_hold_commands_to_check() -> None:
    assert sum(len(scripts(page)) for page in PAGES) > 10
    assert sum(len(mentions(page)) for page in PAGES) > 3


@pytest.mark.parametrize(
    "wrong",
    [
        "longalign trian --out x",
        "longalign train --windw 3 --out x",
        "longalign train --strategy fast --out x",
        "longalign eval needle --lengths many --out x",
        "longalign train --window 512",
    ],
)
def test_the_check_itself_sees_mistakes(wrong: str) -> None:
    (words,) = commands(wrong)

    def check() -> None:
        verb, command, rest = verb_of(words)
        with command.make_context(verb, rest) as context:
            settings_of(verb, context)

    with pytest.raises(Exception, match=r"trian|windw|strategy|whole numbers|out"):
        check()


def test_the_plan_that_the_guide_shows_is_what_the_command_prints(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(8000, 64000, 1000)
    chats = np.clip(rng.lognormal(np.log(900), 1, 7000).astype(int), 32, 8000)
    np.save(tmp_path / "lengths.npy", np.concatenate([rows, chats]))
    command = [sys.executable, "-m", "longalign", "plan", "--lengths", str(tmp_path / "lengths.npy"), "--ranks", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    [shown] = re.findall(r"^```\n(strategy .*?)^```", (ROOT / "docs/guide/plan.md").read_text("utf-8"), re.M | re.S)
    assert done.stdout.startswith(shown)
