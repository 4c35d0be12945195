"""The one attack loop, projected gradient ascent in the input, and the moved inputs for training that it gives.

FGSM is one step of it; PGD and adversarial task losses share `Adversary`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients import norms
from inputgrad.gradients.forward import Forward, evaluating
from inputgrad.gradients.norms import BallNorm


class Adversary(BaseModel):
    """How an input is moved against the model before it is trained on.

    epsilon: radius of the ball, in the data's own units. norm: of the ball. steps: 1 is FGSM, more are PGD.
    step: length of one step; by default ε for one step (1.25·ε from a random start, Wong et al. 2020),
        else 2.5·ε/steps.
    random_start: begin at a uniform point of the ball.
    restarts: ascents from fresh random starts; the one that ends highest is kept for every example.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epsilon: float = Field(default=0.1, ge=0)
    norm: BallNorm = "linf"
    steps: int = Field(default=1, ge=1)
    step: float | None = Field(default=None, gt=0)
    random_start: bool = False
    restarts: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _restarts_differ(self) -> Self:
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts without random_start would all end at the same point; set random_start: true")
        return self

    def move(self, at: Forward) -> Tensor:
        """The moved inputs of a pass, constants shaped as x.

        The inner passes run in eval mode and leave the model untouched.
        """
        x, step, ball = at.x.detach(), self.step, norms.named(self.norm)
        if self.norm != "linf":
            if at.index is not None:
                raise UserError(f"norm {self.norm} of an example of several rows is not defined here; fix: norm: linf")
            at.rows(x)  # a row has to be an example
        if step is None and self.steps == 1:
            step = 1.25 * self.epsilon if self.random_start else self.epsilon

        def values(points: Tensor) -> Tensor:
            return at.losses_of(at.call(points))

        def ascent() -> Tensor:
            return ascend(
                values,
                x,
                norm=self.norm,
                epsilon=self.epsilon,
                steps=self.steps,
                step=step,
                start=ball.uniform(at.draws, x, self.epsilon) if self.random_start else None,
                bounds=at.context.bounds,
            )

        with evaluating(at.model):
            found = ascent()
            for _ in range(self.restarts - 1):
                again = ascent()
                with torch.no_grad():
                    higher = values(again) > values(found)
                found = torch.where(at.expand(higher), again, found)
        return found

    def losses(self, at: Forward) -> Tensor:
        """The task loss at the moved inputs, (N,); the moved inputs are constants, the model is not."""
        return at.at(self.move(at), track=False).losses


def ascend(
    values: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    norm: BallNorm,
    epsilon: float,
    steps: int,
    step: float | None = None,
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
        steps: number of steps.
        step: length of one step in that norm; None: 2.5·ε/steps.
        start: displacement to begin at, shaped as x; None: at x itself.
        bounds: lowest and highest admissible input value; None: unbounded.
    """
    ball, step = norms.named(norm), 2.5 * epsilon / steps if step is None else step
    moved = x if start is None else ball.project(x + start, x, epsilon, bounds)
    for _ in range(steps):
        leaf = moved.detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(values(leaf).sum(), leaf)
        moved = ball.project(leaf.detach() + step * ball.steepest(gradient), x, epsilon, bounds)
    return moved.detach()
