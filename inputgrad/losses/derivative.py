"""Hold the derivative along a given direction to a given number: a linear first-order equation as a penalty."""

from typing import ClassVar

from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.gradients.targets import along
from inputgrad.losses import Loss, Range


class Derivative(Loss):
    """mean(l_i) + strength * mean((v_i · ∇_x f(x_i) - s_i)²), v_i and s_i known of every example.

    `Context(examples={"derivative_direction": v, "derivative": s})`, v shaped as x, s (N,): the residual of
    the equation v(x) · ∇u(x) = s(x) at every point, next to the data: transport equations, conservation along a flow,
    monotony.

    Regression with one output only: the gradient is that of the prediction itself.
    Cost: one double backward. Helps where an equation is known better than the data.

    Source: physics-informed training, Raissi, Perdikaris & Karniadakis 2019, for an equation of first order.
    """

    needs: ClassVar[tuple[str, ...]] = ("derivative_direction", "derivative")
    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    def term(self, at: Forward) -> Tensor:
        found, wanted = along(at)
        return (found - wanted).square()
