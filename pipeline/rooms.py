"""A room is a folder of modules found by name: data/, models/, losses/, attacks/.

The name in a study is the module's name, so adding a loss, a data set, a model or an attack is one new file.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from pipeline.errors import UserError, nearest

HERE = Path(__file__).parent


def names(room: str) -> list[str]:
    """The modules of a room, sorted; names with a leading underscore are private."""
    found = (module.name for module in pkgutil.iter_modules([str(HERE / room)]))
    return sorted(name for name in found if not name.startswith("_"))


def module(room: str, name: str) -> ModuleType:
    """Import one module of a room.

    Raises:
        UserError: the room has no module of that name.
    """
    if name not in names(room):
        raise UserError(f"no {name!r} in pipeline/{room}/; {nearest(name, names(room))}")
    return importlib.import_module(f"pipeline.{room}.{name}")


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
