"""Make the loss linear within the ball: its gradient then tells the whole story."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Forward, evaluating
from inputgrad.losses import Loss, Range


class LocalLinearity(Loss):
    """mean(l_i) + strength * mean(|l(x_i + δ_i) - l(x_i) - δ_i·g_i| + mu·|δ_i·g_i|).

    δ_i is a constant that maximises the first absolute value within the Linf ball of radius ε, by `steps` sign steps
    from a random start (at δ = 0 the violation has no gradient). g_i, l(x_i) and l(x_i + δ_i) all carry the graph: with
    a detached g the loss could become non-linear instead of its gradient right. The paper's λ is the strength, its μ is
    strength·mu (its 4 and 3 are `strength: 4, mu: 0.75`).

    Regression: l is the squared error, otherwise the same.
    Cost: `steps` forward and backward passes in the input, a second forward and one double backward. Helps against
    Linf attacks, at fewer inner steps than PGD needs.

    Source: Qin et al. 2019 (LLR), from the paper: no code of the authors is public.
    """

    epsilon: float = Field(default=0.1, ge=0)
    steps: int = Field(default=2, ge=1)
    mu: float = Field(default=0.75, ge=0)

    subtracts_passes: ClassVar[bool] = True
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-2, 10.0), "epsilon": Range(1e-2, 0.5)}

    def term(self, at: Forward) -> Tensor:
        moved = self._least_linear(at)
        linear = at.rows((moved - at.x.detach()) * at.gradient()).sum(1)
        violation = at.at(moved, track=False).losses - at.losses - linear
        return violation.abs() + self.mu * linear.abs()

    def _least_linear(self, at: Forward) -> Tensor:
        """The point of the ball where the loss is farthest from its tangent, a constant shaped as x."""
        x, here, g = at.x.detach(), at.losses.detach(), at.constant_gradient()
        with evaluating(at.model):
            return ascend(
                lambda z: (at.losses_of(at.call(z)) - here - at.rows((z - x) * g).sum(1)).abs(),
                x,
                norm="linf",
                epsilon=self.epsilon,
                steps=self.steps,
                step=self.epsilon if self.steps == 1 else None,
                start=norms.named("linf").uniform(at.draws, x, self.epsilon),
                bounds=at.context.bounds,
            )
