"""The one attack loop: projected gradient ascent in the input. FGSM is one step of it; training shares it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from inputgrad.gradients.forward import Draws, expand, rows

BallNorm = Literal["linf", "l2"]
"""The norm of a threat model."""


def ascend(
    values: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    norm: BallNorm,
    epsilon: float,
    step: float,
    steps: int,
    start: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    """Move x uphill on `values` inside the ε-ball and the bounds; returns a constant shaped as x.

    The gradient is taken at the moved input as a free leaf and the projection happens outside the graph. No parameter's
    `.grad` is touched: only the gradient with respect to the input is asked for.

    Args:
        values: the objective per example, (N, *input) -> (N,); example i must depend on input i alone.
        x: the clean inputs, (N, *input).
        norm: of the ball and of the steepest step.
        epsilon: radius of the ball, in the units of x.
        step: length of one step in that norm.
        steps: number of steps.
        start: displacement to begin at, shaped as x; None: at x itself.
        bounds: lowest and highest admissible input value; None: unbounded.
    """
    moved = x if start is None else project(x + start, x, norm, epsilon, bounds)
    for _ in range(steps):
        leaf = moved.detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(values(leaf).sum(), leaf)
        moved = project(leaf.detach() + step * steepest(gradient, norm), x, norm, epsilon, bounds)
    return moved.detach()


def steepest(gradient: Tensor, norm: BallNorm) -> Tensor:
    """The direction of unit length in `norm` that rises fastest; zero where the gradient is zero."""
    if norm == "linf":
        return gradient.sign()
    length = rows(gradient).norm(dim=1)
    return gradient / expand(length.clamp_min(torch.finfo(length.dtype).tiny), gradient)


def project(moved: Tensor, x: Tensor, norm: BallNorm, epsilon: float, bounds: tuple[float, float] | None) -> Tensor:
    """The admissible point next to `moved`: inside the ε-ball around x, then inside the bounds."""
    delta = moved - x
    if norm == "linf":
        delta = delta.clamp(-epsilon, epsilon)
    else:
        length = rows(delta).norm(dim=1)
        delta = delta * expand((epsilon / length.clamp_min(1e-12)).clamp_max(1.0), delta)
    moved = x + delta
    return moved if bounds is None else moved.clamp(*bounds)


def uniform_start(draws: Draws, x: Tensor, norm: BallNorm, epsilon: float) -> Tensor:
    """A displacement drawn uniformly from the ε-ball, shaped as x."""
    if norm == "linf":
        return (2 * draws.uniform(x) - 1) * epsilon
    direction = draws.normal(x)
    d = rows(x).shape[1]
    radius = draws.uniform(x.new_empty(len(x))) ** (1 / d)  # volume grows as r^d
    return direction * expand(epsilon * radius / rows(direction).norm(dim=1), x)
