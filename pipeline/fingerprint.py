"""What a result is made from: settings, data, code and the versions of the libraries that compute.

The code is found by following imports, not by a list kept by hand: every module of ours that a run imports is hashed,
as a syntax tree without comments and docstrings, so that an edited comment repeats nothing. What is not of ours (torch,
NumPy, …) counts by its version.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from inputgrad.errors import UserError
from pipeline import imports

T = TypeVar("T")

OURS = ("inputgrad", "pipeline")
HARMLESS = {
    "inputgrad": "the public names of the library",
    "inputgrad.errors": "the words of errors",
    "inputgrad.files": "how files are written; what is read back is held against the hash in its manifest",
    "inputgrad.losses._published": "published strengths, for a command that converts them",
    "inputgrad.registry": "finds the modules, which are hashed themselves",
    "inputgrad.gradients.double_backward": "says which layer an error came from",
    "pipeline.layout": "where files lie; what is read back is held against the hash in its manifest",
    "pipeline": "`pipeline.load`, for people; it runs nothing here",
    "pipeline.store": "how files are written; what is read back is held against the hash in its manifest",
    "pipeline.study.schema": "the types of a study; its values are hashed",
    "pipeline.fingerprint": "makes the fingerprint itself",
    "pipeline.imports": "follows imports",
    "pipeline.study.code": "says what is hashed",
    "pipeline.study.origins": "says what is hashed",
}
"""Modules that a run imports and that cannot change a number, with the reason."""
PARTS = ("inputgrad.losses", "inputgrad.attacks", "pipeline.data", "pipeline.models")
"""Packages of ours whose modules are found by their name, as a text."""
NOT_COMPUTING = frozenset({"click", "filelock", "pydantic", "rich", "ruamel"})
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


FILES = {"data": ("file", "folder"), "model": ("weights",), "checkpoint": ("weights",)}
"""Options of a study that name a file or folder of the user, which a result is made from."""


def files_of(kind: str, settings: Mapping[str, Any]) -> list[Path]:
    """The files and folders that `data:`, `model:` or a checkpoint of a study names."""
    return [Path(settings[key]) for key in FILES[kind] if isinstance(settings.get(key), str)]


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
    for function in (code_of, imports.file_of, imports.submodules, table, statements, imports.top):
        function.cache_clear()


@dataclass(frozen=True)
class Closure:
    """Everything that some modules import, directly and indirectly: files of ours, and names of libraries."""

    ours: dict[str, Path]
    libraries: set[str]


def closure(roots: Iterable[str]) -> Closure:
    """Follow the imports of `roots`, those of harmless modules too; `a.b:Name` is a name that a module gives."""
    names = [root.replace(":", ".") for root in roots]
    follower = Follower(frozenset({*OURS, *(name.partition(".")[0] for name in names)}))
    follower.follow(names)
    follower.refuse_moved()
    return Closure(follower.ours, follower.libraries)


class Follower:
    """Follows imports from module to module.

    In our code, import statements say all: the names of a study come to it as roots. One's own code may hold a module
    as an object and ask it for any name, in another file too. So every name that stands in one's own code counts for
    each of these objects; where a name is computed, all names do.
    """

    def __init__(self, tops: frozenset[str]) -> None:
        self.tops = tops
        self.ours: dict[str, Path] = {}
        self.libraries: set[str] = set()
        self.objects: set[str] = set()
        self.words: set[str] = set()
        self.texts: set[str] = set()
        self.looks = False
        self.moves = ""

    def follow(self, names: Iterable[str]) -> None:
        todo = [*names]
        while todo:
            while todo:
                todo += self.one(todo.pop())
            todo = [name for name in self.asked() if name not in self.ours]

    def one(self, name: str) -> list[str]:
        """Take in one module; returns what it imports, or what its name stands for."""
        if name in self.ours:
            return []
        package, _, last = name.rpartition(".")
        above = [package] if package else []
        file = imports.file_of(name, self.tops)
        if file is None:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and not imports.places(top, self.tops):
                self.libraries.add(top)
            return above + ([home] if (home := table(package, self.tops).get(last)) else [])
        self.ours[name] = file
        if file.suffix != ".py":
            return above
        return [*above, *(statements(name, file) if name.partition(".")[0] in OURS else self.by_all_ways(name, file))]

    def by_all_ways(self, name: str, file: Path) -> Iterator[str]:
        """What a file of one's own may import by its own text."""
        found = imports.read(file, name, *stamp(file))
        self.objects |= found.objects
        self.words |= found.words
        self.texts |= found.texts
        self.looks |= found.looks
        self.moves = self.moves or str(file) * found.moves
        yield from found.modules
        for package in found.below:
            yield from self.below(package)

    def asked(self) -> Iterator[str]:
        """What code of one's own may ask its objects for, and modules and parts of ours that it names in a text."""
        for text in self.texts:
            if (named := imports.DOTTED.fullmatch(text)) and imports.file_of(module := named[1], self.tops):
                self.objects.add(module)
                yield module
        for package in sorted(self.objects):
            for name, module in {**table(package, self.tops), **imports.submodules(package, self.tops)}.items():
                if self.looks or name in self.words:
                    self.objects.add(module)
                    yield module
        for package in PARTS if self.texts else ():
            yield from (module for name, module in imports.submodules(package, self.tops).items() if name in self.texts)

    def refuse_moved(self) -> None:
        for name in sorted(self.libraries):
            if self.moves and not imports.top(name):
                raise UserError(
                    f"{self.moves} changes sys.path, and no module '{name}' is found without that, so that an edit"
                    " of it would go unnoticed; fix: put it into the project's folder, or into a package there"
                )

    def below(self, package: str) -> Iterator[str]:
        """Every module of a package, however deep."""
        yield package
        for module in imports.submodules(package, self.tops).values():
            yield from self.below(module)


@cache
def statements(name: str, file: Path) -> tuple[str, ...]:
    """What a module of ours imports."""
    text = file.read_bytes()
    return tuple(remembered(f"{name} {file.name}", text, lambda: imports.statements(file, name)))


@cache
def table(package: str, tops: frozenset[str]) -> dict[str, str]:
    """Name -> module, of a package of ours that loads its names when they are used."""
    file = imports.file_of(package, tops) if package in OURS else None
    return {} if file is None else imports.homes(file)


known: dict[str, Any] = {}
"""What was found in a text, under the hash of that text: kept from command to command for `dvc repro` alone."""
used: set[str] = set()
"""The keys of `known` that were asked for."""


def remembered(kind: str, text: bytes, find: Callable[[], T]) -> T:
    key = hashlib.sha256(f"{kind}\n".encode() + text).hexdigest()
    used.add(key)
    if key not in known:
        known[key] = find()
    found: T = known[key]
    return found


def stamp(file: Path) -> tuple[int, int]:
    """What changes when a file is edited: the key of what is remembered of it."""
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


def hash_of_module(file: Path) -> str:
    """Of what a module does: comments, docstrings and layout do not count."""
    return _hash_of_tree(file, *stamp(file)) if file.suffix == ".py" else hash_of_file(file)[:16]


@cache
def _hash_of_tree(file: Path, mtime: int, size: int) -> str:
    return remembered("code", file.read_bytes(), lambda: _hash_of_code(file))


def _hash_of_code(file: Path) -> str:
    tree = imports.tree_of(file)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [line for line in body if not imports.is_text(line)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


@cache
def installed(name: str) -> str:
    distribution = DISTRIBUTIONS.get(name, name)
    try:
        return version(distribution)
    except PackageNotFoundError:
        from importlib.metadata import packages_distributions

        found = packages_distributions().get(name)
        return version(found[0]) if found else "unknown"
