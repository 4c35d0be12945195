"""The one attack loop: projected gradient ascent in the input. FGSM is one step of it; training shares it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.norms import BallNorm


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
    ball = norms.named(norm)
    moved = x if start is None else ball.project(x + start, x, epsilon, bounds)
    for _ in range(steps):
        leaf = moved.detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(values(leaf).sum(), leaf)
        moved = ball.project(leaf.detach() + step * ball.steepest(gradient), x, epsilon, bounds)
    return moved.detach()
