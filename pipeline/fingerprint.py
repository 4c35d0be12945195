"""What a result is made from: settings, data, code and the versions of the libraries that compute.

The code is found by following imports, not by a list kept by hand: every module of ours that a run imports is hashed,
as a syntax tree without comments and docstrings, so that an edited comment repeats nothing. What is not of ours (torch,
NumPy, …) counts by its version.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from inputgrad.errors import UserError

OURS = ("inputgrad", "pipeline")
HARMLESS = {
    "inputgrad": "the public names of the library",
    "inputgrad.errors": "the words of errors",
    "inputgrad.files": "how files are written; what is read back is held against the hash in its manifest",
    "inputgrad.losses._published": "published strengths, for a command that converts them",
    "inputgrad.registry": "finds the modules, which are hashed themselves",
    "inputgrad.gradients.layers": "says which layer an error came from",
    "pipeline": "`pipeline.load`, for people; it runs nothing here",
    "pipeline.store": "how files are written; what is read back is held against the hash in its manifest",
    "pipeline.study.schema": "the types of a study; its values are hashed",
    "pipeline.fingerprint": "makes the fingerprint itself",
    "pipeline.study.origins": "says what is hashed",
}
"""Modules that a run imports and that cannot change a number, with the reason."""
NOT_COMPUTING = frozenset({"click", "filelock", "pydantic", "rich", "ruamel", "psutil"})
"""Libraries whose version changes no number."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}
"""Where a library's name for pip is not its name for Python."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What one result is made from.

    Attributes:
        settings: the part of the study that it depends on, as plain values.
        data: file -> hash of its bytes.
        code: module -> hash of its syntax tree.
        versions: library -> version; `device` is the kind of device.
    """

    settings: dict[str, Any]
    data: dict[str, str]
    code: dict[str, str]
    versions: dict[str, str]

    @property
    def fingerprint(self) -> str:
        return hash_of(asdict(self))

    def difference(self, other: dict[str, Any]) -> str:
        """The first thing in which a result that says `other` of its origin differs from this one, in words."""
        words = {"settings": "made with {0} {1}, not {2}", "data": "made from another {0}"}
        words |= {"code": "made by another {0}", "versions": "made with {0} {1}, not {2}"}
        for part, mine in asdict(self).items():
            here, there = (dict(flattened(value)) for value in (mine, other.get(part)))
            for key in {**here, **there}:
                if here.get(key) != there.get(key):
                    return words[part].format(key, there.get(key), here.get(key))
        return "of another origin"


def flattened(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """`a.b` keys of nested settings."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from flattened(inner, f"{key}.{name}" if key else str(name))


def hash_of(value: Any, files: Iterable[Path] = ()) -> str:
    """Sixteen hex digits that change when the JSON of `value` or the bytes of any file change."""
    if files := sorted(files):
        value = [value, [(file.name, hash_of_file(file)) for file in files]]
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


def hash_of_file(file: Path) -> str:
    try:
        stat = file.stat()
        return _hash_of_bytes(file, stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; fix: dvc repro runs the stage that writes it first") from error


def hash_of_path(path: Path) -> str:
    """Of a file, or of the names and contents of all files below a folder."""
    if not path.is_dir():
        return hash_of_file(path)
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    return hash_of([[file.relative_to(path).as_posix(), hash_of_file(file)] for file in inside])


@cache
def _hash_of_bytes(file: Path, mtime: int, size: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def code_of(*roots: str) -> tuple[dict[str, str], dict[str, str]]:
    """The code that the modules `roots` run: module -> hash of ours, and library -> version of what is not of ours.

    Read once in a process, until `read_again`.
    """
    found = closure(roots)
    ours = {name: hash_of_module(file) for name, file in found.ours.items() if name not in HARMLESS}
    return dict(sorted(ours.items())), {name: installed(name) for name in sorted(found.libraries - NOT_COMPUTING)}


def read_again() -> None:
    """Forget what was read: the code may have been edited or moved since."""
    code_of.cache_clear()
    _top.cache_clear()


@dataclass(frozen=True)
class Closure:
    """Everything that some modules import, directly and indirectly: files of ours, and names of libraries."""

    ours: dict[str, Path]
    libraries: set[str]


def closure(roots: Iterable[str]) -> Closure:
    """Follow the imports of `roots`, those of harmless modules too."""
    roots = list(roots)
    tops = {*OURS, *(name.partition(".")[0] for name in roots)}
    ours: dict[str, Path] = {}
    libraries: set[str] = set()
    todo = [parent for root in roots for parent in parents(root)]
    while todo:
        name = todo.pop()
        if name in ours:
            continue
        file = file_of(name, tops)
        if file is None:
            top = name.partition(".")[0]
            if top not in tops and top not in sys.stdlib_module_names:
                libraries.add(top)
            continue
        ours[name] = file
        imported = imports(file, name, file.name == "__init__.py", file.stat().st_mtime_ns)
        todo += [parent for one in imported for parent in parents(one)]
    return Closure(ours, libraries)


def parents(name: str) -> list[str]:
    """`a.b.c` runs the packages `a` and `a.b` first."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def file_of(name: str, tops: Iterable[str]) -> Path | None:
    """The source of a module of ours: of a package named in `tops`, or a module of the current folder; else None."""
    top, *rest = name.split(".")
    folder = _top(top)
    if folder is None or (top not in tops and not is_here(folder)):
        return None
    path = folder.joinpath(*rest)
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None  # a name that a module defines, not a module


@cache
def _top(name: str) -> Path | None:
    """Where a top-level package or module lies, without importing it; a module without its suffix."""
    if name in sys.stdlib_module_names:
        return None
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))  # a folder without __init__.py
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    file = Path(spec.origin)
    return file.parent if file.name == "__init__.py" else file.with_suffix("")


def is_here(folder: Path) -> bool:
    """Whether a module is part of the project in the current folder, not one of its environment."""
    return folder.is_relative_to(Path.cwd()) and not {"site-packages", "dist-packages"} & {*folder.parts}


@cache
def imports(file: Path, name: str, is_package: bool, mtime: int) -> tuple[str, ...]:
    """Every module that a file may import, wherever the statement stands; not those for type checkers alone."""
    package = name if is_package else name.rpartition(".")[0]
    found: list[str] = []
    for node in running(tree_of(file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield other
                yield from running(other)
            continue
        yield child
        yield from running(child)


def tree_of(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid Python ({' '.join(str(error).split())}); fix it and run again") from error


def hash_of_module(file: Path) -> str:
    """Of what a module does: comments, docstrings and layout do not count."""
    stat = file.stat()
    return _hash_of_tree(file, stat.st_mtime_ns, stat.st_size)


@cache
def _hash_of_tree(file: Path, mtime: int, size: int) -> str:
    tree = tree_of(file)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [line for line in body if not is_text(line)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def is_text(node: ast.AST) -> bool:
    """A docstring, or the text below an attribute that explains it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def installed(name: str) -> str:
    distribution = DISTRIBUTIONS.get(name, name)
    try:
        return version(distribution)
    except PackageNotFoundError:
        from importlib.metadata import packages_distributions

        found = packages_distributions().get(name)
        return version(found[0]) if found else "unknown"
