"""Every command that README and docs name exists with these options: a page must not name one that is gone."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from inputgrad import _EXTRA as EXTRA
from inputgrad.cli import cli as library
from pipeline.cli import cli as pipeline

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
PAGES += [*ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/for/*.md")]
START = re.compile(r"(python -m (pipeline|benchmarks\.\w+|pytest)|inputgrad|make|dvc repro) [\w.@-]")


def commands():
    """What stands in backticks, and the lines of blocks that are no code of a language."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        for one in [*lines, *inline]:
            words = one.split("#")[0].replace("…", "").removeprefix("$ ").strip()
            if START.match(words):
                found.add(words)
    return sorted(found)


COMMANDS = commands()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def refused(words: str) -> str:
    """Why a command would not start, or nothing. Names in capitals stand for any."""
    first, *rest = shlex.split(re.sub(r"\[[^\]]*\]", "", words))
    if first == "make":
        unknown = [word for word in rest if "=" not in word and word not in TARGETS]
        return f"no target {unknown[0]}" if unknown else ""
    if first == "dvc":
        return (
            "" if all(word == "repro" or word == "-f" or re.match(r"\w+@", word) for word in rest) else "no such stage"
        )
    if first == "python":
        module, *rest = rest[1:]
        if module.startswith("benchmarks."):
            return "" if (ROOT / f"{module.replace('.', '/')}.py").exists() else f"no {module}"
        if module == "pytest":
            return ""
    command = library if first == "inputgrad" else pipeline
    return parsed(command, rest)


def parsed(group: click.Group, words: list[str]) -> str:
    name, *rest = words
    if not name.islower():
        return ""  # it stands for any
    command = group.commands.get(name)
    if command is None:
        return f"no command {name}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}]
    return f"{name} has no {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_on_a_page_exists(words):
    assert refused(words) == ""


def test_commands_are_found_and_a_wrong_one_is_noticed():
    assert len(COMMANDS) > 40
    assert {"make study", "python -m pipeline doctor"} <= set(COMMANDS)
    assert refused("make studdy") == "no target studdy"
    assert refused("python -m pipeline trai digits") == "no command trai"
    assert refused("python -m pipeline search digits --tries 3") == "search has no --tries"
    assert refused("python -m benchmarks.nowhere") == "no benchmarks.nowhere"


SOURCES = [file for package in ("inputgrad", "pipeline") for file in sorted((ROOT / package).rglob("*.py"))]
ADVICE = (
    r"python -m pipeline [a-z]+(?: [\w{}.]+)*|inputgrad (?:audit|evaluate|scan|strength)\b"
    r"|fix: make (?:\w+=\S+ )?(?!room|it)[\w-]+"
)
INSTALLS = r"pip install ([^\"]+)\""


def test_every_command_that_a_message_advises_exists():
    found = {words for file in SOURCES for words in re.findall(ADVICE, file.read_text(encoding="utf-8"))}
    assert len(found) > 10
    assert not {words: why for words in found if (why := refused(words.removeprefix("fix: ")))}


def test_every_package_that_a_message_advises_is_one_that_is_pinned_here():
    lines = (line for file in ROOT.glob("requirements*.txt") for line in file.read_text(encoding="utf-8").splitlines())
    pins = {line.partition("==")[0] for line in lines}
    for file in SOURCES:
        for words in re.findall(
            INSTALLS, file.read_text(encoding="utf-8").replace("{' '.join(_EXTRA)}", " ".join(EXTRA))
        ):
            *options, last = words.split()
            assert (ROOT / last).is_file() if options[:1] == ["-r"] else {*options, last} <= pins, f"{file}: {words}"
    assert {*EXTRA} == {*attacks_extra()}


def attacks_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["optional-dependencies"]["attacks"]
