"""What the members of the standard ensemble share: the authors' own code (Croce & Hein 2020, `pyautoattack`).

The library knows inputs in [0, 1] and PyTorch's global random numbers only: here the data's own units are mapped to
that box and back, and the global state is put back afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inputgrad.attacks import Threat
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Draws

logger = logging.getLogger(
    __name__
)  # the library's warnings on zero gradients: the masking sheet says it with a figure
logger.addHandler(logging.NullHandler())
logger.propagate = False


@dataclass(frozen=True)
class Box:
    """The library's [0, 1] in the data's own units. Data without bounds get a box too wide to bind."""

    low: float
    width: float

    @classmethod
    def of(cls, x: Tensor, bounds: tuple[float, float] | None, epsilon: float) -> Box:
        """The bounds, or the range of x and as much again on both sides, or 2ε if that is more."""
        if bounds is not None:
            return cls(bounds[0], bounds[1] - bounds[0])
        low, high = float(x.min()), float(x.max())
        margin = max(high - low, 2 * epsilon)
        return cls(low - margin, high - low + 2 * margin)

    def inside(self, x: Tensor) -> Tensor:
        """Own units to [0, 1]."""
        return (x - self.low) / self.width

    def back(self, z: Tensor) -> Tensor:
        """[0, 1] to own units."""
        return self.low + self.width * z

    def seen(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """The model as a function of inputs in the box."""
        return lambda z: model(self.back(z))


@contextmanager
def seeded(x: Tensor, draws: Draws) -> Iterator[int]:
    """A seed for the library, which sets the global generators with it; they are put back."""
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        yield int(draws.integers(x[:1], 2**31 - 1))


Attack = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, int, float], Tensor]
"""(model on the box, x in the box, y, seed, ε in the box) -> moved x in the box."""


def boxed(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws) -> Tensor:
    """Run one of the library's attacks; returns points inside the ball and the bounds, shaped as x."""
    if not len(x):
        return x.clone()
    box = Box.of(x, threat.bounds, threat.epsilon)
    with seeded(x, draws) as seed, torch.no_grad():
        found = attack(box.seen(model), box.inside(x), y, seed, threat.epsilon / box.width)
    return threat.project(box.back(found), x)


def classes(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad():
        return int(model(x[:1]).shape[1])


def targets_of(name: str, wanted: int, found: int, least: int = 2) -> int:
    """How many target classes there are: `wanted`, or all but the true one."""
    if found < least:
        raise UserError(f"attack {name} needs {least} classes or more, the model has {found}; take it out of the study")
    return min(wanted, found - 1)
