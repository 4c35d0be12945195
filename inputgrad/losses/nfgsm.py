"""Train on one step from a noisy input, without going back into the ball: N-FGSM."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Forward, evaluating
from inputgrad.losses import Loss, Range


class NFGSM(Loss):
    """task_weight * mean(l_i) + strength * mean(l(x_i + η + ε·sign(∇l(x_i + η)))), η uniform in the ball of k·ε.

    `noise` is k. What moved is not projected back into the ball, so that it may lie (1 + k)·ε away; it stays inside the
    bounds of the data. The perturbation is a constant. By default `task_weight` is 0, as in the paper.

    Regression: l is the squared error, otherwise the same.
    Cost: a forward and a backward in the input, then a second forward and backward. Helps against Linf attacks like
    `fgsm`, and keeps doing so at radii where `fgsm` overfits to its one step.

    Source: de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez & Dokania 2022 (k = 2, step ε). Read in
    their code: noise and moved input are both cut at the bounds, as here; their first pass is in train mode.
    """

    epsilon: float = Field(default=0.1, gt=0)
    noise: float = Field(default=2.0, ge=0)
    task_weight: float = Field(default=0.0, ge=0)

    search: ClassVar[dict[str, Range]] = {"epsilon": Range(1e-2, 0.5)}
    tracks_input: ClassVar[bool] = False

    @property
    def weight_of_task(self) -> float:
        return self.task_weight

    def term(self, at: Forward) -> Tensor:
        x, ball, bounds = at.x.detach(), norms.named("linf"), at.context.bounds
        reach = self.noise * self.epsilon
        noisy = ball.project(x + ball.uniform(at.draws, x, reach), x, reach, bounds)
        with evaluating(at.model):
            moved = ascend(
                lambda z: at.losses_of(at.call(z)),
                noisy,
                norm="linf",
                epsilon=self.epsilon,
                steps=1,
                step=self.epsilon,
                bounds=bounds,
            )
        return at.at(moved, track=False).losses
