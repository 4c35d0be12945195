"""The norms of threat models, one class each: everything that differs between two balls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from inputgrad.errors import UserError, nearest
from inputgrad.gradients.forward import Draws, expand, rows

BallNorm = Literal["linf", "l2"]
"""The name of a norm in a study."""


class ThreatNorm(ABC):
    """What attacks, losses and results need of a norm.

    name: in studies and outcomes.
    each_input: it bounds every number of an input on its own, so that no ε above the width of the bounds is useful.
    """

    name: ClassVar[BallNorm]
    each_input: ClassVar[bool] = False

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """Length of every displacement, (N,)."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of length one that rises fastest; zero where the gradient is zero."""

    @abstractmethod
    def shorten(self, delta: Tensor, epsilon: float) -> Tensor:
        """The displacement inside the ε-ball next to `delta`."""

    @abstractmethod
    def uniform(self, draws: Draws, x: Tensor, epsilon: float) -> Tensor:
        """A displacement drawn uniformly from the ε-ball, shaped as x."""

    @abstractmethod
    def direction(self, draws: Draws, x: Tensor) -> Tensor:
        """A random displacement of no given length, shaped as x: the start of APGD (Croce & Hein 2020)."""

    @abstractmethod
    def propose(self, delta: Tensor, draws: Draws, epsilon: float, share: float) -> Tensor:
        """A neighbour of `delta` in the ε-ball, for a random search; `share` says how far away."""

    def project(self, moved: Tensor, x: Tensor, epsilon: float, bounds: tuple[float, float] | None) -> Tensor:
        """The admissible point next to `moved`: inside the ε-ball around x, then inside the bounds.

        A number of x that lies outside the bounds is a bound of its own: the point never leaves the ball, as it would
        by a jump to bounds that were meant for other units.
        """
        moved = x + self.shorten(moved - x, epsilon)
        return moved if bounds is None else moved.clamp(x.clamp_max(bounds[0]), x.clamp_min(bounds[1]))


class Linf(ThreatNorm):
    """The largest change of one input number."""

    name, each_input = "linf", True

    def size(self, delta: Tensor) -> Tensor:
        length: Tensor = rows(delta).norm(p=torch.inf, dim=1)
        return length

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def shorten(self, delta: Tensor, epsilon: float) -> Tensor:
        return delta.clamp(-epsilon, epsilon)

    def uniform(self, draws: Draws, x: Tensor, epsilon: float) -> Tensor:
        return self.direction(draws, x) * epsilon

    def direction(self, draws: Draws, x: Tensor) -> Tensor:
        return 2 * draws.uniform(x) - 1

    def propose(self, delta: Tensor, draws: Draws, epsilon: float, share: float) -> Tensor:
        """A share of the numbers, one at least, jumps to a corner of the ball."""
        corner = torch.where(draws.uniform(delta) < 0.5, -epsilon, epsilon).to(delta)
        chosen = draws.uniform(delta) < max(share, 1 / rows(delta).shape[1])
        return torch.where(chosen, corner, delta)


class L2(ThreatNorm):
    """Euclidean length."""

    name = "l2"

    def size(self, delta: Tensor) -> Tensor:
        length: Tensor = rows(delta).norm(p=2, dim=1)
        return length

    def steepest(self, gradient: Tensor) -> Tensor:
        return unit(gradient)

    def shorten(self, delta: Tensor, epsilon: float) -> Tensor:
        length = rows(delta).norm(dim=1)
        return delta * expand((epsilon / length.clamp_min(1e-12)).clamp_max(1.0), delta)

    def uniform(self, draws: Draws, x: Tensor, epsilon: float) -> Tensor:
        direction = self.direction(draws, x)
        d = rows(x).shape[1]
        radius = draws.uniform(x.new_empty(len(x))) ** (1 / d)  # volume grows as r^d
        return direction * expand(epsilon * radius / rows(direction).norm(dim=1), x)

    def direction(self, draws: Draws, x: Tensor) -> Tensor:
        return draws.normal(x)

    def propose(self, delta: Tensor, draws: Draws, epsilon: float, share: float) -> Tensor:
        """A Gaussian step of that share of ε, a fiftieth at least."""
        noise = draws.normal(delta)
        return delta + noise * expand(epsilon * max(share, 0.02) / rows(noise).norm(dim=1), delta)


def unit(gradient: Tensor) -> Tensor:
    """Every example's gradient at length 1; zero where it is zero.

    A very small one, as a confident example has, is made larger first: its squares would underflow to 0.
    """
    tiny, largest = torch.finfo(gradient.dtype).tiny, rows(gradient).abs().amax(1)
    gradient = gradient / expand(torch.where(largest < 1e-15, largest.clamp_min(tiny), 1.0), gradient)
    return gradient / expand(rows(gradient).norm(dim=1).clamp_min(tiny), gradient)


NORMS: dict[str, ThreatNorm] = {norm.name: norm for norm in (Linf(), L2())}
"""All of them, by name."""


def named(name: str) -> ThreatNorm:
    if name not in NORMS:
        raise UserError(f"no norm {name!r} of a ball; {nearest(name, NORMS)}")
    return NORMS[name]
