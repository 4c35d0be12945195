"""The files of a scan: which are read, what a notebook's cells are as one text, which lines are meant as they are."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from inputgrad.errors import UserError

SKIPPED = {".git", ".hg", ".venv", "venv", "env", "site-packages", "node_modules", "__pycache__", ".ipynb_checkpoints"}
"""Folders below a given path that hold other people's code or none; one that is given itself is read."""
ENDINGS = (".py", ".ipynb")
TAKES = re.compile(
    rb"\bautograd[ \t]*(\.[ \t]*(grad|functional)\b|import\b)|\bimport[^\n]*\bautograd\b"
    rb"|torch\.func\b|functorch|\bgrad\("
)
"""A file in which a gradient may be taken by a function of torch."""
LEFT = re.compile(rb"\.grad\b")
LOSES = re.compile(
    rb"loss|penal|criterion|objective|regular|\b(def|class)\b[^\n]*(gp|r1|eikonal|closure|cost|prior|constraint|train|model|net|critic)",
    re.I,
)
MEANT = "inputgrad: meant"


@dataclass(frozen=True)
class Text:
    """The code of a file. `places` says for every line where it is in a notebook: (cell, line)."""

    code: str
    places: tuple[tuple[int, int], ...] = ()

    def place(self, line: int) -> str:
        return "{}:{}".format(*self.places[line - 1]) if self.places else str(line)


def found(paths: Iterable[str | Path], exclude: Iterable[str] = ()) -> Iterator[Path]:
    """The Python files and notebooks that are named, and those in the folders that are named, each once."""
    seen: set[Path] = set()
    patterns = list(exclude)
    for named in map(Path, paths):
        if not named.exists():
            raise UserError(f"{named}: no such file or folder; fix: give a path that exists")
        for path in below(named, patterns) if named.is_dir() else [named]:
            if (key := path.absolute()) not in seen and not left_out(path, patterns):
                seen.add(key)
                yield path


def below(folder: Path, patterns: list[str]) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not left_out(here / f, patterns))
        yield from (here / name for name in sorted(files) if name.endswith(ENDINGS))


def left_out(path: Path, patterns: list[str]) -> bool:
    """A pattern is matched against the name and against the whole path."""
    whole = path.as_posix()
    return any(fnmatch(path.name, p) or fnmatch(whole, p) or fnmatch(whole, f"*/{p.rstrip('/')}") for p in patterns)


def read(path: Path) -> Text | None:
    """The code of a file; None where it cannot hold what is looked for.

    Raises:
        OSError, SyntaxError, ValueError: when it cannot be read as Python.
    """
    raw = path.read_bytes()
    if b"torch" not in raw or b"grad" not in raw:
        return None
    backward = b"backward(" in raw
    if not (TAKES.search(raw) or (backward and LEFT.search(raw))) or not (backward or LOSES.search(raw)):
        return None
    return notebook(raw) if path.suffix == ".ipynb" else Text(decoded(raw))


def decoded(raw: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return raw.decode(encoding)


def notebook(raw: bytes) -> Text:
    """The code cells of a notebook one after another; lines for the notebook itself (%, !) are blank."""
    lines: list[str] = []
    places: list[tuple[int, int]] = []
    cells = json.loads(raw.decode("utf-8"))["cells"]
    for number, cell in enumerate(cells, start=1):
        source = cell.get("source", "")
        code = source if isinstance(source, str) else "".join(source)
        if cell.get("cell_type") != "code" or code.startswith("%%"):
            continue
        for n, line in enumerate(code.split("\n"), start=1):
            magic = line.lstrip().startswith(("%", "!", "?"))
            lines.append(line[: len(line) - len(line.lstrip())] + "pass" if magic else line)
            places.append((number, n))
    return Text("\n".join(lines), tuple(places))


def parsed(text: Text, path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a backslash in somebody's string is not our matter
        return ast.parse(text.code, filename=str(path))


def meant(text: Text) -> set[int]:
    """The lines with the comment `# inputgrad: meant`, and the line after each that is a comment alone."""
    if MEANT not in text.code:
        return set()
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text.code).readline):
        if token.type == tokenize.COMMENT and MEANT in token.string:
            row = token.start[0]
            lines |= {row, row + 1} if not token.line[: token.start[1]].strip() else {row}
    return lines
