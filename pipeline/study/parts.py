"""What a part must offer: a loss, an attack, a data set or a model, of ours or of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from torch import nn

from inputgrad import registry
from inputgrad.attacks import Traits
from inputgrad.errors import UserError
from inputgrad.losses import Loss
from pipeline.study.validation import named

T = TypeVar("T")


def part(file: Path, key: str, name: Any, use: Any, load: Callable[[str, str | None], T]) -> T:
    """The part that `key` of a study names, from `load`; `use` is the path of one's own."""
    named(f"{file}: {key}", name)
    try:
        return load(name, use if use is None else str(use))
    except UserError as error:
        raise UserError(f"{file}: {key if use is None else f'{key}: {name}.use'}: {error}") from error


def attack(name: str, use: str | None) -> ModuleType:
    module = offering(registry.find("inputgrad.attacks", name, use), ATTACK)
    if hasattr(module, "nearest"):
        offering(module, NEAREST)
    return module


def data_set(name: str, use: str | None) -> ModuleType:
    module = registry.find("pipeline.data", name, use)
    return offering(module, DATA_SET if not hasattr(module, "facts") else {"load": DATA_SET["load"]})


def model(name: str, use: str | None) -> Callable[..., nn.Module]:
    found = registry.find("pipeline.models", name, use)
    function: Callable[..., nn.Module] = found.build if use is None else found
    if not takes(2)(function):
        raise UserError(f"{use} is no function build(shape, outputs, *, ...) that gives a net; fix: name one")
    return function


def takes(positional: int) -> Callable[[Any], bool]:
    """Whether a thing is a function of so many positional arguments."""

    def fits(thing: Any) -> bool:
        if not inspect.isfunction(thing):
            return False
        given = inspect.signature(thing).parameters.values()
        return positional == sum(p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty for p in given)

    return fits


def is_bounds(value: Any) -> bool:
    return value is None or (
        isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, float | int) for v in value)
    )


Wanted = dict[str, tuple[Callable[[Any], bool], str]]
"""Attribute of a module -> whether a value fits, and what to write."""

NEAREST: Wanted = {"nearest": (takes(5), "a function nearest(model, x, y, norm, bounds, *, ...)")}
ATTACK: Wanted = {
    "TRAITS": (lambda value: isinstance(value, Traits), "TRAITS = Traits(...)"),
    "perturb": (takes(5), "a function perturb(model, x, y, threat, draws, *, ...)"),
}
DATA_SET: Wanted = {
    "TASK": (lambda value: value in Loss.tasks, f"TASK = {' or '.join(map(repr, Loss.tasks))}"),
    "BOUNDS": (is_bounds, "BOUNDS = (low, high), or None for data without"),
    "load": (takes(0), "a function load(*, ...) that gives Arrays"),
}


def offering(module: Any, wanted: Wanted) -> ModuleType:
    if not isinstance(module, ModuleType):
        raise UserError("this names a thing in a module; fix: name the module, without ':'")
    for name, (fits, form) in wanted.items():
        if not hasattr(module, name) or not fits(getattr(module, name)):
            raise UserError(f"{module.__name__} has no such {name} as is needed; fix: write {form}")
    return module


def listed(attacks: Mapping[str, Mapping[str, Any]]) -> str:
    """Attacks and their settings, for people."""
    knobs = {name: ", ".join(f"{knob} {value}" for knob, value in given.items()) for name, given in attacks.items()}
    return " and ".join(f"{name} ({said})" if said else name for name, said in knobs.items())
