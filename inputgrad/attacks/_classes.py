"""What attacks across a decision boundary share: the wrong classes they head for, and a box for data of any units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from inputgrad.attacks import Count, Traits


def _fewer_and_fewer(prune: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    steps, kept = [step for step, _ in prune], [few for _, few in prune]
    if steps != sorted(set(steps)) or kept != sorted(set(kept), reverse=True):
        raise ValueError(f"{[list(pair) for pair in prune]} must go on with fewer targets from step to step")
    return prune


Prune = Annotated[tuple[tuple[Count, Count], ...], AfterValidator(_fewer_and_fewer)]
"""((step, targets), ...): after that many steps, so many targets of every example go on; (): all of them do."""


@dataclass(frozen=True)
class Box:
    """[0, 1] in the data's own units, for formulas that are written for it. Without bounds it is too wide to bind."""

    low: float
    width: float

    @classmethod
    def of(cls, x: Tensor, bounds: tuple[float, float] | None, epsilon: float) -> Box:
        """The bounds, or the range of x and as much again on both sides, or 2ε if that is more.

        Where all numbers of x are the same, their size or 1 takes the place of the range.
        """
        if bounds is not None:
            return cls(bounds[0], bounds[1] - bounds[0])
        low, high = float(x.min()), float(x.max())
        margin = max(high - low or max(abs(high), 1.0), 2 * epsilon)
        return cls(low - margin, high - low + 2 * margin)

    def inside(self, x: Tensor) -> Tensor:
        """Own units to [0, 1]."""
        return (x - self.low) / self.width

    def back(self, z: Tensor) -> Tensor:
        """[0, 1] to own units."""
        return self.low + self.width * z


@torch.no_grad()
def targets_of(name: str, traits: Traits, model: nn.Module, x: Tensor, wanted: int) -> Tensor:
    """The `wanted` likeliest classes of every example after the first, or all of them, (N, T)."""
    outputs = model(x)
    traits.refuse(name, x.shape[1:], outputs.shape[1])
    ranked: Tensor = outputs.argsort(dim=1, descending=True)
    return ranked[:, 1 : wanted + 1]


def most_of_each(example: Tensor, value: Tensor, kept: int) -> Tensor:
    """Which rows have one of the `kept` largest values of their example, (R,); of equal ones, the first."""
    order = value.argsort(descending=True, stable=True)
    order = order[example[order].argsort(stable=True)]
    sorted_example = example[order]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(sorted_example, sorted_example)
    among = torch.zeros_like(example, dtype=torch.bool)
    among[order[rank < kept]] = True
    return among


def first_of_each(example: Tensor) -> Tensor:
    """Which rows are the first of their example; the rows of an example lie together."""
    first = torch.ones_like(example, dtype=torch.bool)
    first[1:] = example[1:] != example[:-1]
    return first
