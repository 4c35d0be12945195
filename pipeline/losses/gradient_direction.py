"""Turn the input gradient towards a target direction: 1 - cosine."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.forward import Forward, rows
from pipeline.losses import Loss, Range


class GradientDirection(Loss):
    """mean(l_i) + strength * mean(1 - cos(g_i, t_i)), t_i a constant direction that the data set supplies.

    Regression: g_i is the gradient of the output, t the data set's direction (the second recipe in circulation is
    `strength: 0.05`). Classification: for each of `classes` classes c drawn at random per example, g_i is the gradient
    of log p_c(x_i) and t_i = (mean of class c) - x_i; the term is the average over c.

    An example without a gradient (a confident one) or without a target has no direction: its term is 0 and its share is
    recorded as `zero_gradient_share`. The mean still divides by N, so the strength keeps its meaning.

    Source: the cosine form of perceptually aligned gradients, Ganz, Kawar & Elad 2023. Their code multiplies the
    term by 10, so their 1.5 is 15 here.
    """

    classes: int = Field(default=1, ge=1)

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    def term(self, at: Forward) -> Tensor:
        """1 - cos(g_i, t_i) in [0, 2], (N,)."""
        direction = at.context.direction
        if direction is None:
            raise UserError("gradient_direction needs a direction: Context(direction=...)")
        if at.y.is_floating_point():
            return one_minus_cosine(at, at.gradient("outputs"), direction.expand_as(at.x))
        log_p = F.log_softmax(at.outputs, 1)
        terms = []
        for _ in range(self.classes):
            c = at.draws.integers(at.x, log_p.shape[1])
            g = at.gradient_of(log_p.gather(1, c[:, None])[:, 0])
            terms.append(one_minus_cosine(at, g, direction[c] - at.x.detach()))
        return torch.stack(terms).mean(0)


def one_minus_cosine(at: Forward, a: Tensor, b: Tensor) -> Tensor:
    """1 - cos per example, (N,); 0 where either vector is zero, the share of which is noted on the pass.

    Written as ½‖a/‖a‖ - b/‖b‖‖², which is 1 - cos but neither negative by rounding nor in need of a clamp in the graph.
    The zero rows are replaced *before* the division: the cosine of a zero vector has a gradient of about 1e7 in
    `F.cosine_similarity` and nan in the plain formula, and a mask after the fact would still multiply it by zero.
    """
    a, b = rows(a), rows(b)
    tiny = torch.finfo(a.dtype).tiny
    usable = (a.detach().square().sum(1) > tiny) & (b.detach().square().sum(1) > tiny)
    at.notes["zero_gradient_share"] = 1 - usable.to(a.dtype).mean()
    a, b = (torch.where(usable[:, None], t, torch.ones_like(t)) for t in (a, b))
    difference = a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)
    return torch.where(usable, difference.square().sum(1) / 2, torch.zeros_like(a[:, 0]))
