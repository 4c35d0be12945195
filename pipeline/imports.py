"""Which modules a file may import, read from its text, and where modules lie: nothing is run.

Where the text does not say which module it is, everything that it may be counts; where that is unknown too, the file is
refused in one line.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from inputgrad.errors import UserError

LAZY = "__getattr__"
"""The function by which a package loads names when they are used."""
CALLS = ("import_module", "__import__")
"""Functions that import the module whose name they are given."""
OPAQUE = ("exec", "run_module", "run_path", "spec_from_file_location", "SourceFileLoader")
"""Functions that run code of which the text does not say where it lies."""
LOOKS = ("__dict__", "attrgetter", "getmembers", "vars")
"""Ways to any attribute of a module, besides `getattr` with a name that is computed."""
DOTTED = re.compile(r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)+)(:\w+)?")
"""A text that may name a module: `a.b`, or `a.b:Name`."""


@dataclass(frozen=True, kw_only=True)
class Imports:
    """What one file may import.

    Attributes:
        modules: `a.b.c`, where `c` may be a name in the module `a.b`.
        objects: those of which the file holds the module itself, so that it can ask it for any name.
        below: packages of which it may import any module.
        words: every name and text in it: what it can ask a module for.
        texts: the texts alone.
        looks: whether it asks objects for names that are computed.
        moves: whether it uses `sys.path`, so that it may find modules that nobody else finds.
    """

    modules: tuple[str, ...]
    objects: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    looks: bool = False
    moves: bool = False


def statements(file: Path, name: str) -> list[str]:
    """What a file imports by import statements: all that there are in our own code."""
    return sorted({*by_statement(running(tree_of(file)), package_of(file, name))[0]})


def package_of(file: Path, name: str) -> str:
    return name if file.name == "__init__.py" else name.rpartition(".")[0]


@cache
def read(file: Path, name: str, mtime: int, size: int) -> Imports:
    """What the file of the module `name` may import, in all ways.

    Time and size are part of the key of the cache, as the file may be edited.
    """
    tree, package = tree_of(file), package_of(file, name)
    nodes = running(tree)
    modules, objects = by_statement(nodes, package)
    called, below = by_call(nodes, file, name, package)
    if package == name and defines(tree, LAZY):
        below.add(name)  # it gives names of which nobody knows where they come from
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words = {part for text in texts if len(text) < 200 for part in text.split(".")} | {*names_in(nodes)}
    return Imports(
        modules=tuple([*modules, *called]),
        objects=frozenset({*objects, *called}),
        below=frozenset(below),
        words=frozenset(words),
        texts=frozenset(texts),
        looks=any(asks_computed(node) for node in nodes) or not words.isdisjoint(LOOKS),
        moves=any(isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path" for node in nodes),
    )


def homes(file: Path) -> dict[str, str]:
    """Public name -> module, of a package that loads its names when they are used: its stub says them."""
    stub = file.with_suffix(".pyi")
    lines = tree_of(stub).body if stub.is_file() else []
    return {alias.name: str(line.module) for line in lines if isinstance(line, ast.ImportFrom) for alias in line.names}


def tree_of(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid Python ({' '.join(str(error).split())}); fix it and run again") from error


def running(tree: ast.AST) -> list[ast.AST]:
    """All nodes but docstrings and those below `if TYPE_CHECKING:`."""
    todo, found = [tree], []
    while todo:
        node = todo.pop()
        found.append(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            todo += node.orelse
        else:
            todo += (child for child in ast.iter_child_nodes(node) if not is_text(child))
    return found


def is_text(node: ast.AST) -> bool:
    """A docstring, or the text below an attribute that explains it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def absolute(name: str, package: str) -> str:
    """The whole name of a module that is named relatively, with leading dots; others as they are."""
    rest = name.lstrip(".")
    if not (level := len(name) - len(rest)):
        return name
    above = package.split(".")
    return ".".join([*above[: len(above) - level + 1], *([rest] if rest else [])])


def by_statement(nodes: Iterable[ast.AST], package: str) -> tuple[list[str], set[str]]:
    """Modules that a file imports, wherever the statement stands, and those that it then holds as objects."""
    modules: list[str] = []
    objects: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules += (names := [alias.name for alias in node.names])
            objects |= {*names, *(one.partition(".")[0] for one in names)}
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            names = [f"{base}.{alias.name}" for alias in node.names if alias.name != "*"]
            modules += [base, *names]
            objects |= {*names} if len(names) == len(node.names) else {base}  # `*`: any name of it
    return modules, objects


def by_call(nodes: list[ast.AST], file: Path, name: str, package: str) -> tuple[list[str], set[str]]:
    """Modules that a file imports by calling a function, and packages of which such a call may import any module.

    Raises:
        UserError: the call does not say what it imports.
    """
    calls = {*CALLS, *renamed(nodes, CALLS)}
    modules: list[str] = []
    below: set[str] = set()
    decided: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.Call) and called(node.func) in calls and node.args:
            known, whole = text_of(node.args[0], name, package)
            known = absolute(known, package)
            if whole and known:
                modules.append(known)
            elif "." in known:
                below.add(known.rpartition(".")[0])
            else:
                continue
            decided.add(node.func)
    refused = {*calls, *OPAQUE, *renamed(nodes, OPAQUE)}
    for node in nodes:
        if (
            called(node) in refused
            and node not in decided
            and not (isinstance(node, ast.Attribute) and node.attr == "exec")
        ):
            raise UserError(
                f"{file}: line {getattr(node, 'lineno', 0)}: {called(node)} runs code that this line does not name, so"
                " that an edit of it would go unnoticed; fix: import the module by its name, or begin the name with its"
                ' package: import_module(f"mypackage.{name}")'
            )
    return modules, below


def called(node: ast.AST) -> str:
    """The last name of `a.b.c` and of `c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def renamed(nodes: Iterable[ast.AST], names: Iterable[str]) -> Iterator[str]:
    """What a file calls functions that it imports: `from importlib import import_module as load`."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname for alias in node.names if alias.asname and alias.name in names)


def text_of(node: ast.AST, name: str, package: str) -> tuple[str, bool]:
    """What is known of a text that an expression gives, from its beginning on, and whether that is the whole text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value, True
    if isinstance(node, ast.Name) and node.id in ("__name__", "__package__"):
        return (name if node.id == "__name__" else package), True
    if isinstance(node, ast.FormattedValue) and node.format_spec is None:
        return text_of(node.value, name, package)
    parts: list[ast.expr] = []
    if isinstance(node, ast.JoinedStr):
        parts = node.values
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [node.left, node.right]
    known, whole = "", bool(parts)
    for part in parts:
        if whole:
            more, whole = text_of(part, name, package)
            known += more
    return known, whole


def defines(tree: ast.Module, name: str) -> bool:
    """Whether a module defines that name at its top, by a function or by an assignment."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign):
            inside = (one for target in node.targets for one in ast.walk(target))
            if any(isinstance(one, ast.Name) and one.id == name for one in inside):
                return True
    return False


def names_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Name):
            yield called(node)


def asks_computed(node: ast.AST) -> bool:
    """`getattr(thing, name)` with a name that the text does not say."""
    return (
        isinstance(node, ast.Call)
        and called(node.func) == "getattr"
        and len(node.args) > 1
        and not isinstance(node.args[1], ast.Constant)
    )


@cache
def file_of(name: str, tops: frozenset[str]) -> Path | None:
    """The source of a module of ours: of a package named in `tops`, or a module of the current folder; else None.

    Compiled modules of the current folder count too.
    """
    for path in places(name, tops):
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py"), *compiled(path)):
            if file.is_file():
                return file
    return None  # a name that a module defines, or a folder without __init__.py


def compiled(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in EXTENSION_SUFFIXES]


def places(name: str, tops: frozenset[str]) -> list[Path]:
    """Where a module of ours may lie: paths without a suffix."""
    first, *rest = name.split(".")
    return [path.joinpath(*rest) for path in top(first) if first in tops or is_here(path)]


@cache
def submodules(package: str, tops: frozenset[str]) -> dict[str, str]:
    """Name -> whole name of the modules in a package."""
    folders = [folder for folder in places(package, tops) if folder.is_dir()]
    names = {file.name.partition(".")[0] for folder in folders for file in folder.iterdir() if file.name[:2] != "__"}
    found = {name: f"{package}.{name}" for name in sorted(names)}
    return {
        name: whole
        for name, whole in found.items()
        if file_of(whole, tops) or any(map(Path.is_dir, places(whole, tops)))
    }


@cache
def top(name: str) -> tuple[Path, ...]:
    """Where a top-level package or module lies, without importing it; a module without its suffix."""
    if name in sys.stdlib_module_names:
        return ()
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # `__main__` has none
        return ()
    if spec is None:
        return ()
    if spec.submodule_search_locations:
        return tuple(map(Path, spec.submodule_search_locations))  # several, of a folder without __init__.py
    return (Path(spec.origin).with_name(name),) if spec.has_location and spec.origin else ()


def is_here(folder: Path) -> bool:
    """Whether a module is part of the project in the current folder, not one of its environment."""
    return folder.is_relative_to(Path.cwd()) and not {"site-packages", "dist-packages"} & {*folder.parts}
