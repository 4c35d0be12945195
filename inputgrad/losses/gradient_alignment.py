"""Keep the input gradient's direction the same within the ball: what FGSM training needs not to overfit."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from inputgrad.gradients import norms
from inputgrad.gradients.forward import Forward, one_minus_cosine
from inputgrad.losses import Loss, Published, Range


class GradientAlignment(Loss):
    """mean(l_i) + strength * mean(1 - cos(g(x_i), g(x_i + η_i))), η_i uniform in the Linf ball of radius ε.

    Published on top of FGSM training: `on: {epsilon: 0.1}` takes the task loss at the FGSM input, and g(x_i) is then a
    constant, as in the paper's code; on the clean task loss both gradients carry the graph.

    An example without a gradient has no direction: its term is 0 and its share is recorded as `zero_gradient_share`.

    Regression: l is the squared error, otherwise the same.
    Cost: two double backward passes (one with `on`). Helps single-step adversarial training to survive large ε.

    Source: Andriushchenko & Flammarion 2020.
    """

    strength: float = Field(default=0.2, ge=0)
    epsilon: float = Field(default=0.1, ge=0)

    subtracts_passes: ClassVar[bool] = True
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-2, 10.0), "epsilon": Range(1e-2, 0.5)}
    published: ClassVar[dict[str, Published]] = {
        "fastat_grad_align": Published(
            writes="w · (1 − the mean cosine of the examples that have both gradients), the clean one without graph "
            "(FastAT benchmark 2026, code: 0.2)",
            formula="λ = w",
            checked="read in their code; the formula, written out in a test, gives the same loss in float64 where "
            "every example has a gradient; else ours is smaller by the share of those that have none",
            factor=lambda s: 1.0,
            knobs="{on: {epsilon: ε}}",
        ),
    }

    def term(self, at: Forward) -> Tensor:
        x = at.x.detach()
        noise = self.epsilon * (2 * at.draws.uniform(x) - 1)
        there = at.at(norms.named("linf").project(x + noise, x, self.epsilon, at.context.bounds)).gradient()
        here = at.gradient() if self.on is None else at.constant_gradient()
        term, at.notes["zero_gradient_share"] = one_minus_cosine(at.rows(here), at.rows(there))
        return term
