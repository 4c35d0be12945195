"""Parts found by name: a part is a module of a package (a loss, an attack, a data set, a model).

The name in a study is the module's name, so adding a part is one new file. A part of one's own lives in one's own
package: `use: mypackage.module`, or `use: mypackage.module:Name`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model

from inputgrad.errors import UserError, nearest

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
"""What may be the name of a study or of a part: it becomes part of paths, of DVC's stages and of commands."""


def names(package: str) -> list[str]:
    """The modules of a package such as `inputgrad.losses`, sorted; a leading underscore makes a module private."""
    found = (module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return sorted(name for name in found if not name.startswith("_"))


def module(package: str, name: str) -> ModuleType:
    if name not in names(package):
        raise UserError(f"no {name!r} in {package.replace('.', '/')}/; {nearest(name, names(package))}")
    return importlib.import_module(f"{package}.{name}")


def find(package: str, name: str, use: str | None = None) -> Any:
    """The module `name` of a package or, with `use`, the module or object of one's own that goes by that name."""
    if use is None:
        return module(package, name)
    if name in names(package):
        where = package.replace(".", "/")
        raise UserError(f"{where}/{name}.py and {use} have one name; fix: give yours another, or leave 'use' out")
    return imported(use)


def imported(path: str) -> Any:
    """What `package.module` or `package.module:Name` names; packages of the current folder are found too."""
    if not re.fullmatch(rf"{NAME}(\.{NAME})*(:{NAME})?", path):
        raise UserError(f"{path!r} is no path to a module; fix: write mypackage.module or mypackage.module:Name")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # for good: the processes that are started for the runs take the path over
    where, _, name = path.partition(":")
    try:
        found = importlib.import_module(where)
        if not name or hasattr(found, name):  # a package may load its names only now
            return getattr(found, name) if name else found
    except (Exception, SystemExit) as error:  # whatever one's own file raises
        if isinstance(error, ModuleNotFoundError) and error.name and f"{where}.".startswith(f"{error.name}."):
            fix = "fix: correct the name, go to the folder of that file, or install it"
            raise UserError(f"no module '{error.name}' in this folder, and none installed; {fix}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"importing {where} fails ({reason}); fix: correct that file") from error
    file = getattr(found, "__file__", None) or where
    raise UserError(f"{file} has no '{name}'; {nearest(name, [n for n in vars(found) if n[0] != '_'])}")


def from_file(path: str) -> Any:
    """What `folder/file.py:Name` names: a file of any name. It finds what is in its folder, then in the current one.

    Raises:
        UserError: there is no such file, it cannot be imported, or it has no such name.
    """
    where, _, name = path.rpartition(":")
    file = Path(where).resolve()
    if not file.is_file():
        raise UserError(f"{where}: no such file; fix: correct the path, or go to the folder that it starts from")
    for folder in (str(Path.cwd()), str(file.parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)  # for good, as in `imported`
    found = loaded(file, where)
    if hasattr(found, name):
        return getattr(found, name)
    raise UserError(f"{where} has no '{name}'; {nearest(name, [n for n in vars(found) if n[0] != '_'])}")


def loaded(file: Path, where: str) -> ModuleType:
    """The module of a file, imported once; by its own name where that is free: what it defines can be pickled then."""
    taken = sys.stdlib_module_names | sys.modules.keys()
    title = file.stem if re.fullmatch(NAME, file.stem) and file.stem not in taken else f"_file_{file.as_posix()}"
    for module in [*sys.modules.values()]:
        if isinstance(module, ModuleType) and vars(module).get("__file__") == str(file):
            return module
    spec = importlib.util.spec_from_file_location(title, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{where} is no Python file; fix: give a file that ends with .py")
    sys.modules[title] = found = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
    except (Exception, SystemExit) as error:  # whatever one's own file raises
        del sys.modules[title]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"importing {where} fails ({reason}); fix: correct that file") from error
    return found


def options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a part, without what says which part it is."""
    return {key: value for key, value in settings.items() if key not in ("name", "use")}


@cache
def settings_of(function: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only parameters of `function` as a strict, frozen model: YAML is checked against the code."""
    given = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    config = ConfigDict(extra="forbid", frozen=True)
    name = f"{function.__module__}.{function.__name__}"
    try:
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in given}
        return create_model(name, __config__=config, **fields)
    except (KeyError, NameError, TypeError, PydanticUserError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: its parameters have no types that YAML can be held against ({reason})") from error
