"""What there is: studies, and parts by the first line of their files. Nothing is imported to say it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

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
    files = sorted(Path("experiments").glob("*.yaml"))
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
