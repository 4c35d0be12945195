"""Tensors in any container: a batch or an output may be a tensor, a tuple, a dict, or an object of some library."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn


def mapped(change: Callable[[Tensor], Any], value: Any) -> Any:
    """The same container with every tensor changed; what is no container is given back as it is."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        parts = [mapped(change, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, MutableMapping):  # such as the outputs of transformers, which keep their attributes in step
        new = copy.copy(value)
        for key in list(value):
            new[key] = mapped(change, value[key])
        return new
    if isinstance(value, Mapping):
        return {key: mapped(change, part) for key, part in value.items()}
    if holds_tensors(value):
        new = copy.copy(value)
        for key, part in vars(value).items():
            object.__setattr__(new, key, mapped(change, part))  # a frozen dataclass too
        return new
    return value


def holds_tensors(value: Any) -> bool:
    """Whether a value is an object, such as a dataclass or a distribution, with tensors among its attributes."""
    if isinstance(value, nn.Module | type) or callable(value) or not hasattr(value, "__dict__"):
        return False
    return any(isinstance(part, Tensor | list | tuple | Mapping) and tensors(part) for part in vars(value).values())


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a container, in the order in which `mapped` meets them."""
    found: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        found.append(t)
        return t

    mapped(keep, value)
    return found


def is_wrapped(t: Tensor) -> bool:
    """Whether a tensor lives inside torch.func.grad, vmap and the like."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(t))


def unwrapped(t: Tensor) -> Tensor:
    """The tensor inside the wrappers of torch.func, with the graph that leads to the weights."""
    while is_wrapped(t):
        t = torch._C._functorch.get_unwrapped(t)
    return t


def plain(t: Tensor) -> Tensor:
    """A copy of the numbers, without graph and without the wrappers of torch.func."""
    return unwrapped(t).detach().clone()
