"""The widely copied recipe, kept as the negative control: a penalty on a constant."""

from typing import ClassVar

from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.losses import Loss, Range


class DetachedNorm(Loss):
    """mean(l_i) + strength * mean(‖g_i‖²) with g_i *detached*: it has no effect, on purpose.

    `output.backward(retain_graph=True); g = x.grad.clone()` gives a constant. The printed loss contains the penalty,
    but no gradient of the penalty reaches a parameter: that needs `create_graph=True` (see `gradient_norm`) or
    `torch.func`. What the copied `backward` leaves in the weights' `.grad` is trained too, unless it is cleared; here
    it leaves nothing. Every audit and every report must find this loss to be the same as `standard`; one that does not
    is broken itself.
    """

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    def term(self, at: Forward) -> Tensor:
        return at.rows(at.constant_gradient()).square().sum(1)
