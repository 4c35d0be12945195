"""Models: one file each; `build` gives a net that takes inputs in the data's own units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from inputgrad import registry

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # smooth ones first: a ReLU's second derivative is zero almost everywhere, which starves a gradient penalty
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def activation(name: str) -> nn.Module:
    return ACTIVATIONS[name]()


def function_of(settings: Mapping[str, Any]) -> Callable[..., nn.Module]:
    """The function that builds the net of a `model:`: `build` of a file here, or the one that `use` names."""
    found = registry.find("pipeline.models", settings["name"], settings.get("use"))
    build: Callable[..., nn.Module] = found.build if settings.get("use") is None else found
    return build


def build(settings: Mapping[str, Any], shape: tuple[int, ...], outputs: int) -> nn.Module:
    return function_of(settings)(shape, outputs, **registry.options(settings))
