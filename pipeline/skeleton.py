"""`python -m pipeline new`: a study, a loss or a data set to begin with, which works and is tested as it stands."""

from __future__ import annotations

from pathlib import Path

from inputgrad import files, registry
from inputgrad.errors import UserError
from pipeline import layout

TEMPLATES = Path(__file__).parent / "skeletons"
OWN = Path("own")
KINDS = {"study": (), "loss": ("inputgrad.losses",), "data": ("pipeline.data",)}
"""What can be made, and where such a name may be taken already."""


def new(kind: str, name: str) -> str:
    """Write the files of a new part; returns what to do with them.

    Raises:
        UserError: the name is taken, or a file is there already; nothing is written then.
    """
    if any(name in registry.names(package) for package in KINDS[kind]):
        raise UserError(
            f"{name} is a {'data set' if kind == 'data' else kind} of this project already; fix: another name"
        )
    wanted = dict(targets(kind, name))
    for file in wanted.values():
        if file.exists():
            raise UserError(f"{file} is there already; fix: another name, or delete it")
    words = {"NAME": name, "CLASS": "".join(part.capitalize() for part in name.split("_")) or name}
    if kind != "study" and not (OWN / "__init__.py").exists():
        files.write_text(OWN / "__init__.py", '"""Parts of my own."""\n')
    for template, file in wanted.items():
        text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        files.write_text(file, text)
    written = "\n".join(f"wrote {file}" for file in wanted.values())
    return f"{written}\n{advice(kind, name, words['CLASS'])}"


def targets(kind: str, name: str) -> list[tuple[str, Path]]:
    """Templates, and the files they become."""
    if kind == "study":
        return [("study.yaml", layout.study_file(name))]
    return [(f"{kind}.py", OWN / f"{name}.py"), (f"test_{kind}.py", Path("tests") / f"test_{name}.py")]


def advice(kind: str, name: str, class_name: str) -> str:
    if kind == "study":
        return f"next: make study STUDY={name}"
    use = f"own.{name}:{class_name}" if kind == "loss" else f"own.{name}"
    line = f"{name}: {{use: {use}, strength: 1.0}}" if kind == "loss" else f"data: {{name: {name}, use: {use}}}"
    where = "under losses of a study" if kind == "loss" else "in a study"
    return f"next: python -m pytest tests/test_{name}.py; then write {where}: {line}"
