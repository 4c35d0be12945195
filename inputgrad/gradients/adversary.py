"""Moved inputs for training: the inner maximisation that FGSM, PGD and adversarial task losses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Forward, evaluating, expand, per_example_loss, scalar
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

    @property
    def step_length(self) -> float:
        """`step`, or its default."""
        if self.step is not None:
            return self.step
        if self.steps == 1:
            return 1.25 * self.epsilon if self.random_start else self.epsilon
        return 2.5 * self.epsilon / self.steps

    def move(self, at: Forward, of: Literal["loss", "outputs"] = "loss", descend: bool = False) -> Tensor:
        """The moved inputs, constants shaped as x. The inner passes run in eval mode and leave the model untouched."""
        sign = -1.0 if descend else 1.0

        def values(moved: Tensor) -> Tensor:
            return sign * scalar(at.model(moved), at.y, of)

        with evaluating(at.model):
            found = self._ascend(values, at)
            for _ in range(self.restarts - 1):
                again = self._ascend(values, at)
                with torch.no_grad():
                    higher = values(again) > values(found)
                found = torch.where(expand(higher, found), again, found)
        return found

    def _ascend(self, values: Callable[[Tensor], Tensor], at: Forward) -> Tensor:
        x = at.x.detach()
        return ascend(
            values,
            x,
            norm=self.norm,
            epsilon=self.epsilon,
            step=self.step_length,
            steps=self.steps,
            start=norms.named(self.norm).uniform(at.draws, x, self.epsilon) if self.random_start else None,
            bounds=at.context.bounds,
        )

    def losses(self, at: Forward) -> Tensor:
        """The task loss at the moved inputs, (N,); the moved inputs are constants, the model is not."""
        return per_example_loss(at.model(self.move(at)), at.y)
