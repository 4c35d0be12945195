"""Completion of `python -m pipeline …` in bash (in zsh after bashcompinit): commands, options, studies, losses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline import layout

if TYPE_CHECKING:
    import click

VARIABLE = "_PIPELINE_COMPLETE"
"""In the environment of the call that asks for words."""
SCRIPT = """\
_pipeline_complete() {
    COMPREPLY=()
    [ "${COMP_WORDS[1]}" = -m ] && [ "${COMP_WORDS[2]}" = pipeline ] || { compopt -o default 2>/dev/null; return; }
    local line
    while IFS=, read -r _ line; do COMPREPLY+=("$line"); done < <(
        COMP_WORDS="pipeline ${COMP_WORDS[*]:3}" COMP_CWORD=$((COMP_CWORD - 2)) \\
            _PIPELINE_COMPLETE=bash_complete "$1" -m pipeline)
}
complete -F _pipeline_complete python python3
"""


def asked() -> str | None:
    """What the shell wants of this call: None of an ordinary one."""
    return os.environ.get(VARIABLE)


def answer(cli: click.Group, instruction: str) -> int:
    """Print the words that may come next; returns the exit code."""
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, "pipeline", VARIABLE, instruction)


def studies(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of studies that begin so."""
    return sorted(file.stem for file in layout.study_files() if file.stem.startswith(begun))


def losses(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Names of the losses of the study that stands before it."""
    from ruamel.yaml import YAML

    try:
        file = layout.study_file(context.params["study"])
        stated = YAML(typ="safe").load(file.read_text(encoding="utf-8"))["losses"]
        return [name for name in stated if name.startswith(begun)]
    except Exception:  # while a line is typed, a study may hold any mistake: then there is nothing to offer
        return []
