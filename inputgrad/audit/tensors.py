"""Tensors in any container, and what autograd's graph says of them: on which leaves does one depend, by which steps?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
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


def is_batched(t: Any) -> bool:
    """Whether a tensor stands for several, as those of `is_grads_batched` and `vectorize=True`."""
    return isinstance(t, Tensor) and bool(torch._C._functorch.is_legacy_batchedtensor(t))


def unwrapped(t: Tensor) -> Tensor:
    """The tensor inside the wrappers of torch.func, with the graph that leads to the weights."""
    while is_wrapped(t):
        t = torch._C._functorch.get_unwrapped(t)
    return t


def plain(t: Tensor) -> Tensor:
    """A copy of the numbers, without graph and without the wrappers of torch.func."""
    return unwrapped(unwrapped(t).detach().clone())  # inside torch.func even a copy is wrapped


ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "Clone", "ToCopy", "Alias", "Addcmul", "Addcdiv"}
"""The operations by which an optimiser's step makes new weights of old ones."""


def nodes(roots: Iterable[Tensor], through: Callable[[Any], bool] = lambda node: True) -> Iterator[Any]:
    """Every node of the graph behind these tensors; `through` says which ones are followed further."""
    left, seen = [root.grad_fn for root in roots], set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        left += [following for following, _ in node.next_functions] if through(node) else []


def leaves(roots: Iterable[Tensor], through: Callable[[Any], bool] = lambda node: True) -> Iterator[Tensor]:
    """Every leaf whose `.grad` a backward from these roots would fill."""
    for node in nodes(roots, through):
        if isinstance(variable := getattr(node, "variable", None), Tensor):
            yield variable


def reaches(t: Tensor, wanted: Iterable[Tensor]) -> bool:
    """Whether a tensor is one of `wanted`, or depends on one by its graph."""
    ids = {id(w) for w in wanted}
    return id(t) in ids or any(id(leaf) in ids for leaf in leaves([t]))


def made_of(t: Tensor, wanted: Iterable[Tensor]) -> bool:
    """Whether a tensor is one of `wanted` after steps that work element by element."""
    ids = {id(w) for w in wanted}
    return any(id(leaf) in ids for leaf in leaves([t], lambda node: node.name().split("Backward")[0] in ELEMENTWISE))
