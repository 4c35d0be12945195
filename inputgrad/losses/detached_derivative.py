"""The control of `derivative`: the same residual with a constant in the place of the gradient."""

from typing import ClassVar

from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.gradients.targets import along
from inputgrad.losses import Loss, Range


class DetachedDerivative(Loss):
    """mean(l_i) + strength * mean((v_i · constant(∇_x f(x_i)) - s_i)²): prints a residual, trains the task alone.

    This is what such a residual does without `create_graph=True`. The weights equal those of `standard` bit for bit.

    Regression only. Cost: that of `derivative`. Helps nothing: it is the control.

    Source: the recipe that circulates in answers to "how can a loss depend on the input gradient".
    """

    needs: ClassVar[tuple[str, ...]] = ("derivative_direction", "derivative")
    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    def term(self, at: Forward) -> Tensor:
        found, wanted = along(at)
        return (found.detach() - wanted).square()
