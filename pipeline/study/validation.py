"""YAML -> typed settings. Every error is one line that names the file, the key, what is wrong and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from inputgrad.errors import UserError, nearest
from inputgrad.registry import NAME

T = TypeVar("T", bound=BaseModel)


def read_yaml(file: Path) -> dict[str, Any]:
    try:
        value = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; run this command in the project's root") from error
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = str(error.problem).split('"')[1]
        raise UserError(f"{file}: line {line} states '{key}' a second time; fix: state it once") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected 'key: value' lines")
    return value


def named(where: str, name: Any) -> str:
    """`name`, once it is known to be a plain one: it becomes part of paths, of DVC's stages and of shell commands."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name) or name.lower() in ("null", "true", "false"):
        raise UserError(f"{where}: {name!r} is no plain name; fix: letters, digits and _ only, and no digit first")
    return name


def validated(model: type[T], raw: Any, file: Path, prefix: str = "") -> T:
    """`raw` as a `model`, or the first of its errors as one line."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(one_line(error, model, file, prefix)) from None


def one_line(error: ValidationError, model: type[BaseModel], file: Path, prefix: str) -> str:
    """The first pydantic error in the user's words: file, key, what is wrong, what to write."""
    # a misspelt key is both unknown and missing: say the one that shows the spelling
    first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    key = ".".join(filter(None, [prefix, *path]))
    more = f" (+{len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"{file}: unknown key '{key}'; {nearest(path[-1], siblings(model, path[:-1]))}{more}"
    if first["type"] == "missing":
        return f"{file}: key '{key}' is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{file}: {key}: {message[0].lower()}{message[1:]}, not {first['input']!r}{more}"


def siblings(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """The valid keys around an unknown one."""
    for part in path:
        annotation = model.model_fields[part].annotation
        found = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        model = next((a for a in found if issubclass(a, BaseModel)), model)
    return [name for name in model.model_fields if name != "name"]
