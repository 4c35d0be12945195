"""Two questions about autograd's graph: does a tensor depend on some leaves, and on which leaves does it depend?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor


def leaves(roots: Iterable[Tensor]) -> Iterator[Tensor]:
    """Every leaf whose `.grad` a backward from these roots would fill."""
    nodes, seen = [root.grad_fn for root in roots], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(variable := getattr(node, "variable", None), Tensor):
            yield variable
        nodes += [following for following, _ in node.next_functions]


def reaches(t: Tensor, wanted: Iterable[Tensor]) -> bool:
    """Whether a tensor is one of `wanted`, or depends on one by its graph."""
    ids = {id(w) for w in wanted}
    return id(t) in ids or any(id(leaf) in ids for leaf in leaves([t]))
