"""Parts found by name: a part is a module of a package (a loss, an attack, a data set, a model).

The name in a study is the module's name, so adding a part is one new file.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from inputgrad.errors import UserError, nearest


def names(package: str) -> list[str]:
    """The modules of a package such as `inputgrad.losses`, sorted; a leading underscore makes a module private."""
    found = (module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return sorted(name for name in found if not name.startswith("_"))


def module(package: str, name: str) -> ModuleType:
    """Import one module of a package.

    Raises:
        UserError: the package has no module of that name.
    """
    if name not in names(package):
        raise UserError(f"no {name!r} in {package.replace('.', '/')}/; {nearest(name, names(package))}")
    return importlib.import_module(f"{package}.{name}")


@cache
def settings_of(function: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only parameters of `function` as a strict, frozen model: YAML is checked against the code."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is p.empty else p.default)
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    config = ConfigDict(extra="forbid", frozen=True)
    return create_model(f"{function.__module__}.{function.__name__}", __config__=config, **fields)
