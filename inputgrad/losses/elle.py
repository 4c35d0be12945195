"""Penalise how far the loss is from a straight line between random points of the ball, without double backward."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss, Published, Range


class ELLE(Loss):
    """mean(l_i) + strength * mean((l(x_c) - (1 - α)·l(x_a) - α·l(x_b))²), x_c = (1 - α)·x_a + α·x_b.

    x_a and x_b are uniform in the Linf ball of radius `epsilon` around x_i, inside the bounds of the data, α uniform in
    [0, 1]; three forward passes and no input gradient, so that its term depends on the gradient's change alone.

    Regression: l is the squared error, otherwise the same.
    Cost: a forward and a backward pass of three times the batch. Helps single-step adversarial training against
    catastrophic overfitting: give it the adversary with `on`, as in the paper.

    Source: Abad Rocamora, Liu, Chrysos, Olmos & Cevher, ICLR 2024. Read in their code: a mean over the
    batch, so that their λ is ours; they leave the points outside the bounds where noise carries them there.
    """

    epsilon: float = Field(default=0.1, gt=0)

    subtracts_passes: ClassVar[bool] = True
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-1, 1e4)}
    tracks_input: ClassVar[bool] = False
    published: ClassVar[dict[str, Published]] = {
        "elle": Published(
            writes="w · the mean over the batch of the squared distance from the line (Abad Rocamora et al. 2024, "
            "code; their own script has w = 5000)",
            formula="λ = w",
            checked="read in their code, not run: a mean over the batch of the squares that the term has, no other "
            "factor; they do not project the points into the bounds",
            factor=lambda s: 1.0,
        ),
        "fastat_elle": Published(
            writes="lin_reg · the mean over the batch of the squared distance from the line, at points that are not "
            "projected into the bounds (FastAT benchmark 2026, code and configuration: lin_reg 1.0, where the authors "
            "of ELLE have 5000)",
            formula="λ = lin_reg",
            checked="read in their code; the formula, written out in a test, gives the same loss in float64 where no "
            "bounds are given",
            factor=lambda s: 1.0,
        ),
    }

    def term(self, at: Forward) -> Tensor:
        x, ball = at.x.detach(), norms.named("linf")
        a, b = (
            at.moved(ball.project(x + ball.uniform(at.draws, x, self.epsilon), x, self.epsilon, at.context.bounds))
            for _ in range(2)
        )
        share = at.draws.uniform(x.new_empty(at.size))
        three = (a, b, a + at.expand(share) * (b - a))
        here, there, between = (at.losses_of(outputs) for outputs in self._outputs(at, three))
        return (between - (1 - share) * here - share * there).square()

    @staticmethod
    def _outputs(at: Forward, points: Sequence[Tensor]) -> list[Tensor]:
        """In one pass, example by example; one for each where the model drops units, the same ones in all."""
        _ = at.outputs
        if at.draws_in_model or not at.takes_any_batch:
            return [at.call(each) for each in points]
        return list(at.call(torch.stack([*points], 1).flatten(0, 1)).unflatten(0, (-1, len(points))).unbind(1))
