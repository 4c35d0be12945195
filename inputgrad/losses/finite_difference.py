"""Penalise the input gradient's norm by a finite difference: no double backward."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.gradients.forward import Forward
from inputgrad.gradients.norms import unit
from inputgrad.losses import Loss, Norm, Range


class FiniteDifference(Loss):
    """mean(l_i) + strength * mean(½((l(x_i + h·v_i) - l(x_i))/h)²), v_i a constant unit vector along g_i.

    To first order the quotient is v_i·g_i. `p` = 2: v = g/‖g‖, the term tends to ½‖g‖². `p` = 1: v = sign(g)/√d, the
    term tends to ½‖g‖₁²/d. `p` = inf: v is ± the coordinate of the largest |g|, the term tends to ½‖g‖_inf².
    Both forward passes carry the graph, l(x_i) too: with it detached the term would raise l(x_i).

    In float32 `h` near 0.01 is best; below 0.001 rounding wins. An example with g = 0 has the term 0.

    Regression: l is the squared error, otherwise the same.
    Cost: one backward in the input and a second forward and backward, about 2.5 times a plain step, where the exact
    norm costs more and needs second derivatives. Helps where `gradient_norm` does; use it for ReLU nets and large ones.

    Source: Finlay & Oberman 2019. They weigh the mean of squared differences by λ/2: our strength is λ.
    """

    p: Norm = 2
    h: float = Field(default=0.01, gt=0)

    subtracts_passes: ClassVar[bool] = True
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    def term(self, at: Forward) -> Tensor:
        moved = at.at(at.x.detach() + self.h * self._direction(at, at.constant_gradient()), track=False)
        return ((moved.losses - at.losses) / self.h).square() / 2

    def _direction(self, at: Forward, g: Tensor) -> Tensor:
        """The constant direction v_i of length 1, or 0 where g_i is 0, shaped as g."""
        flat = at.rows(g)
        if self.p == 2:
            return at.shaped(unit(flat))
        if self.p == 1:
            flat = flat.sign()
        else:
            largest = flat.abs().argmax(1, keepdim=True)
            flat = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
        length = flat.norm(dim=1) if self.p != 1 else at.numbers.to(flat) ** 0.5
        return at.shaped(flat) / at.expand(length.clamp_min(torch.finfo(g.dtype).tiny))
