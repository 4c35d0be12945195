"""params.yaml: by hand the active studies, below them what DVC makes its stages of, written from the studies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import data, repository
from pipeline.study.active import FILE, Entries, active, read_params
from pipeline.study.read import read_study
from pipeline.study.schema import Study
from pipeline.study.validation import read_yaml

WRITE = "python -m pipeline check --write"
MARK = f"# written by: {WRITE}"
"""The line below which everything is generated."""
GENERATED = {
    "per_loss": "one train and one attack stage each",
    "per_checkpoint": "one stage for each net trained elsewhere",
}


def check_all(write: bool = False) -> list[Study]:
    """Every active study, complete: the project is ready for `dvc repro`.

    Args:
        write: bring the generated part of params.yaml up to the studies first.
    """
    repository.refuse_without_git()
    studies = [read_study(name) for name in active()]
    if write:
        write_params(studies)
    params = read_params()
    if params.generated != expected(studies):
        raise behind()
    return studies


def add(names: Iterable[str]) -> list[str]:
    """Add studies to those that `dvc repro` runs, unless they are among them; returns what was added."""
    new = [name for name in names if name not in active()]
    for name in new:
        read_study(name)  # a mistake in it is said first
    if new:
        before = FILE.read_text(encoding="utf-8")
        after, count = re.subn(r"(?m)^(studies: *\[[^\]]*?) *\]", rf"\1, {', '.join(new)}]", before, count=1)
        if not count:
            raise UserError(
                f"{FILE}: no 'studies: [...]' on a line of its own; fix: add {', '.join(new)} there by hand"
            )
        with files.replacing(FILE) as temporary:
            temporary.write_text(after, encoding="utf-8")
    return new


def read_in_stage(name: str) -> Study:
    """The study of a DVC stage, once it is known that DVC's stages are those that it states."""
    study, params = read_study(name), read_params()
    written = ({k: v for k, v in part.items() if v.get("study") == name} for part in params.generated)
    if tuple(written) != expected([study] if name in params.studies else []):
        raise behind()
    return study


def behind() -> UserError:
    return UserError(f"{FILE}: the stages of DVC are not those that the studies state; fix: {WRITE}")


def expected(studies: Iterable[Study]) -> tuple[Entries, Entries]:
    """What the generated part must hold for these studies: `per_loss` and `per_checkpoint`.

    Raises:
        UserError: a file that the data of one are made from is missing.
    """
    studies = list(studies)
    for study in studies:
        data.sources(study.data)
    return (
        {f"{s.name}-{name}": {"study": s.name, "loss": name} for s in studies for name in s.losses},
        {f"{s.name}-{name}": {"study": s.name, "checkpoint": name} for s in studies for name in s.checkpoints},
    )


def write_params(studies: Iterable[Study]) -> None:
    """Write the generated part below the hand-written one, which keeps every byte.

    Raises:
        UserError: something that is written by hand stands below the generated part.
    """
    before = FILE.read_text(encoding="utf-8")
    lines = before.splitlines(keepends=True)
    generated = [n for n, line in enumerate(lines) if line.startswith((MARK, *(f"{key}:" for key in GENERATED)))]
    head = "".join(lines[: min(generated, default=len(lines))]).rstrip("\n")
    kept: dict[str, Any] = YAML(typ="safe").load(head) or {}
    if lost := [key for key in read_yaml(FILE) if key not in {*kept, *GENERATED}]:
        raise UserError(f"{FILE}: '{lost[0]}' stands below the generated part; fix: move it above the line '{MARK}'")
    text = [f"{head}\n{MARK}"]
    for (key, stages), entries in zip(GENERATED.items(), expected(studies), strict=True):
        text.append(f"{key}:{'' if entries else ' {}'}  # {stages}")
        text += [f"  {name}: {{{', '.join(f'{k}: {v}' for k, v in entry.items())}}}" for name, entry in entries.items()]
    if (after := "\n".join(text) + "\n") != before:
        with files.replacing(FILE) as temporary:
            temporary.write_text(after, encoding="utf-8")
