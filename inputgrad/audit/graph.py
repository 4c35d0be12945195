"""Questions about autograd's graph: on which leaves does a tensor depend, and by which steps?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

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
