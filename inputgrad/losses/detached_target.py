"""The control of `gradient_target`: the same term with a constant in the place of the gradient."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.gradients.targets import Mean, matched, squared_distance
from inputgrad.losses import Loss, Range


class DetachedTarget(Loss):
    """task_weight * mean(l_i) + strength * mean(‖w_i · (sign · constant(∇_x f(x_i)) - t_i)‖²).

    It trains the task alone. `sign`, `mean` and `task_weight` as in `gradient_target`.

    This is what such a term does with `.detach()`, without `create_graph=True`, or with `x.grad` where the weights'
    gradients are cleared after it. The weights equal those of `standard` bit for bit. With `task_weight` 0 the loss
    has no graph at all, and PyTorch refuses its `backward()`.

    Regression only. Cost: that of `gradient_target`. Helps nothing: it is the control.

    Source: the recipe that circulates in answers to "how can a loss depend on the input gradient".
    """

    sign: Literal[1, -1] = 1
    mean: Mean = "row"
    task_weight: float = Field(default=1.0, ge=0)

    needs: ClassVar[tuple[str, ...]] = ("target_gradient",)
    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    @property
    def weight_of_task(self) -> float:
        return self.task_weight

    def term(self, at: Forward) -> Tensor:
        found, wanted = matched(at, self.sign)
        return squared_distance(at, found.detach(), wanted, self.mean)
