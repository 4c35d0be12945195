"""What there is: studies, parts by the first line of their files, and where reports are. Little is imported for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from inputgrad.errors import UserError
from pipeline import layout

if TYPE_CHECKING:
    from pipeline.results.opened import OpenStudy

PARTS = {
    "losses": "inputgrad/losses",
    "data sets": "pipeline/data",
    "nets": "pipeline/models",
    "attacks": "inputgrad/attacks",
}
ROOT = Path(__file__).parents[1]
WIDTH = 110


def lines() -> Iterator[str]:
    """A heading for each kind, then a line for each study or part."""
    yield "studies (experiments/NAME.yaml; * run by dvc repro)"
    yield from map(row, *zip(*studies(), strict=True))
    for kind, folder in PARTS.items():
        yield f"\n{kind} ({folder}/NAME.py)"
        files = sorted(file for file in (ROOT / folder).glob("*.py") if not file.stem.startswith("_"))
        yield from (row(file.stem, first_line(file)) for file in files)


def studies() -> list[tuple[str, str]]:
    from pipeline.study.active import active

    running = active()
    files = layout.study_files()
    found = [(f"{file.stem}{'*' if file.stem in running else ''}", comment(file)) for file in files]
    return found or [("none", "write experiments/NAME.yaml")]


def comment(file: Path) -> str:
    """What the first line of a study says of it."""
    first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def row(name: str, text: str) -> str:
    line = f"  {name:22} {text}"
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def where(opened: OpenStudy) -> str:
    """Where the page of a study is; one that is older than the study or its results is not shown as theirs."""
    page = layout.report(opened.study.name) / layout.PAGE
    if not page.exists():
        return f"{page} is not written yet; run: dvc repro"
    try:
        opened.report()
    except UserError as error:
        return f"{page} is not that of the study as it stands: {error}"
    return page.resolve().as_uri()
