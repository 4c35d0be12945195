"""YAML -> typed settings. Every error is one line that names the file, the key, what is wrong and the nearest name."""

from __future__ import annotations

import json
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


LARGEST, DEEPEST, MOST = 1_000_000, 20, 100_000
"""Bytes of a file, levels of its nesting, and values in it once its references are followed."""
LONGEST = 100
"""Letters of a name: it becomes part of paths."""
SHOWN = 60
"""Letters of a wrong value that a message shows."""


def read_yaml(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST:
            raise UserError(f"{file} is larger than {LARGEST} bytes; fix: no study needs as much")
        value = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; run this command in the project's root") from error
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        key = str(error.problem).split('"')[1]
        raise UserError(f"{file}: line {line} states '{key}' a second time; fix: state it once") from error
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{file}: not valid YAML: {shortened(' '.join(str(error).split()), 200)}") from error
    except RecursionError as error:
        raise UserError(f"{file}: nested too deeply; fix: at most {DEEPEST} levels") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); fix: make it a file that you may read") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: expected 'key: value' lines")
    refuse_odd(value, file)
    return value


def refuse_odd(value: dict[Any, Any], file: Path) -> None:
    """Raise a UserError for keys that are no text, and for what is nested too deeply or, by references, too large."""
    left: list[tuple[Any, str, int]] = [(value, "", 0)]
    count = 0
    while left:
        part, where, depth = left.pop()
        count += 1
        if depth > DEEPEST:
            raise UserError(f"{file}: {shortened(where)}: nested too deeply; fix: at most {DEEPEST} levels")
        if count > MOST:
            raise UserError(f"{file} holds more than {MOST} values, by its references; fix: write them out")
        if isinstance(part, dict):
            for key, inner in part.items():
                if not isinstance(key, str):
                    here = shortened(where.removesuffix(".")) or "at the top"
                    raise UserError(f"{file}: {here}: {key!r} is no plain name; fix: letters, digits and _ only")
                left.append((inner, f"{where}{key}.", depth + 1))
        elif isinstance(part, list | set | tuple):
            left += [(inner, where, depth + 1) for inner in part]


def shortened(text: str, most: int = SHOWN) -> str:
    """The text without control characters, and not longer than that."""
    plain = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def named(where: str, name: Any) -> str:
    """`name`, once it is known to be a plain one: it becomes part of paths, of DVC's stages and of shell commands."""
    if (
        not isinstance(name, str)
        or len(name) > LONGEST
        or not re.fullmatch(NAME, name)
        or name.lower() in ("null", "true", "false")
    ):
        raise UserError(
            f"{where}: {shortened(repr(name))} is no plain name; fix: letters, digits and _ only, and no digit first"
        )
    return name


def validated(model: type[T], raw: Any, file: Path, prefix: str = "") -> T:
    """`raw` as a `model`, or the first of its errors as one line. Nothing is a number but what YAML says is one."""
    try:
        # as JSON, where a list may become a tuple; what holds typed parts already is no JSON
        return (
            model.model_validate_json(as_json(raw), strict=True)
            if is_plain(raw)
            else model.model_validate(raw, strict=True)
        )
    except ValidationError as error:
        raise UserError(one_line(error, model, file, prefix)) from None


def is_plain(raw: Any) -> bool:
    if isinstance(raw, dict):
        return all(map(is_plain, raw.values()))
    return all(map(is_plain, raw)) if isinstance(raw, list) else not isinstance(raw, BaseModel)


def as_json(raw: Any) -> str:
    return json.dumps(raw, default=str)  # a date, a set: what no setting is


def one_line(error: ValidationError, model: type[BaseModel], file: Path, prefix: str) -> str:
    """The first pydantic error in the user's words: file, key, what is wrong, what to write."""
    # a misspelt key is both unknown and missing: say the one that shows the spelling
    first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    key = ".".join(filter(None, [prefix, *path]))
    more = f" (+{len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return f"{file}: unknown key '{shortened(key)}'; {nearest(path[-1], siblings(model, path[:-1]))}{more}"
    if first["type"] == "missing":
        return f"{file}: key '{key}' is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{file}: {key}: {message[0].lower()}{message[1:]}, not {shortened(repr(first['input']))}{more}"


def siblings(model: type[BaseModel], path: Iterable[str]) -> list[str]:
    """The valid keys around an unknown one."""
    for part in path:
        if part not in model.model_fields:  # a place in a list, or a name in a mapping
            continue
        annotation = model.model_fields[part].annotation
        found = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        model = next((a for a in found if issubclass(a, BaseModel)), model)
    return [name for name in model.model_fields if name != "name"]
