"""Train on the input moved along the sign of its gradient."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Forward, evaluating
from inputgrad.losses import Loss, Range


class FGSM(Loss):
    """task_weight * mean(l_i) + strength * mean(l(x_i + ε·sign(g_i))).

    The perturbation is a constant; only the second forward pass carries the graph. That is why this recipe works where
    the copied penalty on `x.grad` does not. The moved input is projected onto the ε-ball and the data's bounds
    *outside* the graph: a clamp inside it has a gradient that differs between versions of PyTorch.

    `random_start` begins at a uniform point of the ball; `step` is then 1.25·ε unless given. `of: outputs` moves along
    the output's gradient, `descend` against it: the third recipe in circulation is
    `of: outputs, descend: true, epsilon: 0.1, strength: 0.1`.

    Regression: l is the squared error, otherwise the same.
    Cost: a forward and a backward in the input, then a second forward and backward. Helps against Linf attacks of the
    ε it is trained with; beyond it (and without a random start) it may overfit to the one step: attack it with PGD.

    Source: Goodfellow, Shlens & Szegedy 2015 (task_weight α, strength 1 - α); Wong, Rice & Kolter 2020 (random start,
    task_weight 0, strength 1).
    """

    epsilon: float = Field(default=0.1, ge=0)
    step: float | None = Field(default=None, gt=0)
    random_start: bool = False
    of: Literal["loss", "outputs"] = "loss"
    descend: bool = False
    task_weight: float = Field(default=1.0, ge=0)

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-2, 10.0), "epsilon": Range(1e-2, 0.5)}
    tracks_input: ClassVar[bool] = False

    @property
    def weight_of_task(self) -> float:
        return self.task_weight

    def term(self, at: Forward) -> Tensor:
        x, ball, sign = at.x.detach(), norms.named("linf"), -1.0 if self.descend else 1.0
        with evaluating(at.model):
            moved = ascend(
                lambda z: sign * at.values_of(at.call(z), self.of),
                x,
                norm="linf",
                epsilon=self.epsilon,
                steps=1,
                step=self.step or (1.25 * self.epsilon if self.random_start else self.epsilon),
                start=ball.uniform(at.draws, x, self.epsilon) if self.random_start else None,
                bounds=at.context.bounds,
            )
        return at.at(moved, track=False).losses
