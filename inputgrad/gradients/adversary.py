"""Moved inputs for training: the inner maximisation that FGSM, PGD and adversarial task losses share."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Forward, evaluating, expand
from inputgrad.gradients.norms import BallNorm

Of = Literal["loss", "outputs"]
"""What is raised."""


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

    def move(self, at: Forward, of: Of = "loss", descend: bool = False) -> Tensor:
        """The moved inputs, constants shaped as x."""
        return moved(
            at,
            epsilon=self.epsilon,
            norm=self.norm,
            steps=self.steps,
            step=self.step,
            random_start=self.random_start,
            restarts=self.restarts,
            of=of,
            descend=descend,
        )

    def losses(self, at: Forward) -> Tensor:
        """The task loss at the moved inputs, (N,); the moved inputs are constants, the model is not."""
        return at.at(self.move(at), track=False).losses


def moved(
    at: Forward,
    *,
    epsilon: float,
    norm: BallNorm = "linf",
    steps: int = 1,
    step: float | None = None,
    random_start: bool = False,
    restarts: int = 1,
    of: Of = "loss",
    descend: bool = False,
) -> Tensor:
    """The inputs of a pass moved as an `Adversary` says, constants shaped as x; `descend`: against `of`, not along it.

    The inner passes run in eval mode and leave the model untouched.
    """
    sign, x = -1.0 if descend else 1.0, at.x.detach()
    if step is None:
        step = 2.5 * epsilon / steps if steps > 1 else 1.25 * epsilon if random_start else epsilon

    def values(points: Tensor) -> Tensor:
        return sign * at.values_of(at.call(points), of)

    def ascent() -> Tensor:
        start = norms.named(norm).uniform(at.draws, x, epsilon) if random_start else None
        bounds = at.context.bounds
        return ascend(values, x, norm=norm, epsilon=epsilon, step=step, steps=steps, start=start, bounds=bounds)

    with evaluating(at.model):
        found = ascent()
        for _ in range(restarts - 1):
            again = ascent()
            with torch.no_grad():
                higher = values(again) > values(found)
            found = torch.where(expand(higher, found), again, found)
    return found
